"""How a framework's model of a given form is built, where that is more than a few lines."""
