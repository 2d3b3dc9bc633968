"""Geometry, probe, scale and forward model in NumPy: the reference that every backend must match."""
