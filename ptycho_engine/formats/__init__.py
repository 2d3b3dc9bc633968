"""Files: bytes to and from arrays, products, models and checkpoints."""
