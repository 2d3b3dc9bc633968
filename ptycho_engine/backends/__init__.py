"""One package per framework; nothing here imports a framework."""
