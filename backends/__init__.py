"""One module per framework: all that a framework needs stands in its file, its environment at the top."""
