"""Looking at an installation and at data, to say in plain words what would go wrong."""
