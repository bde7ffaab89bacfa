"""What is particular about a framework's optimizers; one module per framework."""
