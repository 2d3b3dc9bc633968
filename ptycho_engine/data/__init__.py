"""Scan data: validated records, file readers and grouping."""
