"""Training, reconstruction, stitching and quality."""
