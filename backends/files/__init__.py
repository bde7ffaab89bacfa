"""Files that only a framework can read and write, one module per framework.

A module here runs in the framework's own environment, and imports the framework, `d2lparams.interface` and
`d2lparams.tensor_file`. What goes in and comes out is JSON and files of arrays, so that who asks needs no
framework.
"""
