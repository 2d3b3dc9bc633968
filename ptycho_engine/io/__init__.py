"""Bytes on disk: whole files or none, memory maps, sealed zips; knows nothing of ptychography."""
