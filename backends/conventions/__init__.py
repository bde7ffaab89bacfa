"""How each framework keeps the arrays of each kind of layer, as tables; they import no framework."""
