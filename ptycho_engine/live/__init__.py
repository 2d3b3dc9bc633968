"""An image while a scan runs: frames and positions in, the object and its quality out."""
