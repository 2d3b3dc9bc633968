"""Simulated scans: objects, probes, positions and counts, each from an explicit generator."""

from ..config.choices import OBJECT_FAMILIES, SCAN_PATTERNS
from .detector import random_bad_pixels, simulate_scan, without_truth
from .objects import make_object
from .probes import (
    defocused_probe,
    illuminated_width,
    vary_probe,
    with_incoherent_modes,
    zone_plate_probe,
)
from .scans import make_positions, random_positions, raster_positions, spiral_positions

__all__ = [
    'OBJECT_FAMILIES',
    'SCAN_PATTERNS',
    'defocused_probe',
    'illuminated_width',
    'make_object',
    'make_positions',
    'random_bad_pixels',
    'random_positions',
    'raster_positions',
    'simulate_scan',
    'spiral_positions',
    'vary_probe',
    'with_incoherent_modes',
    'without_truth',
    'zone_plate_probe',
]
