"""How each framework's files name the arrays of layers, and what names and shapes tell; none is imported."""
