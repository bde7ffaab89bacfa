"""What carries parameters out of native models and into them, a module per framework."""
