"""Files that the engine writes: model archives and product files."""
