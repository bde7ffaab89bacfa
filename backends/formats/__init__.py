"""A framework's own files of values, and how they are loaded into a model; one module per framework."""
