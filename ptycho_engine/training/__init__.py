"""Training: one driver for both backends."""
