"""A scan in memory and how it is loaded: patterns, positions, probe, neighbours, groups."""
