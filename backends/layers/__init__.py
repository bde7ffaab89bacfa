"""Layers whose parameters frameworks keep differently: conventions and values; one module per framework."""
