"""What the book says about a framework, and how it is looked up; one module per framework."""
