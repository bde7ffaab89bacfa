"""Programs in a framework alone that show what a life cycle does; one module per framework."""
