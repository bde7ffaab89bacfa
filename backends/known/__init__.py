"""Which layers of a framework are known and why another is not, and what is told of one use of a known one."""
