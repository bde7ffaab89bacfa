"""Where a framework's model uses dense layers, where finding that is more than a few lines."""
