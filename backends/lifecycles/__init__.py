"""A framework's own ways to copy, save, rebuild, cast, move and transform a model; one module per framework."""
