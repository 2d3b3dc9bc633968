"""Diffraction patterns as they were measured: stacks in files or in memory, units, marks and numbers."""
