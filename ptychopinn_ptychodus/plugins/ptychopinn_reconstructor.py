"""Installed as ``ptychodus/plugins/ptychopinn_reconstructor.py``, which Ptychodus imports at start-up."""
