"""What trains a framework's model, by its own fast path; one module per framework."""
