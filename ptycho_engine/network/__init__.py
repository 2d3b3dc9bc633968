"""The networks as data, from which each backend builds its layers."""
