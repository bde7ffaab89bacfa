"""What a search finds in a framework and is known already; one module per framework.

The parent reads these, so they import nothing of a framework.
"""
