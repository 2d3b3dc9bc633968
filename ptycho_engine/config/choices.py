"""Words among which a user chooses, beside the settings; what they stand for is where it is done.

Imports nothing, for the command line names them in its help.
"""

from typing import Literal

__all__ = [
    'DOMAINS',
    'OBJECT_FAMILIES',
    'PROBE_KINDS',
    'SCAN_PATTERNS',
    'AxisOrder',
    'MeasurementDomain',
    'PositionOrder',
    'Squaring',
]

MeasurementDomain = Literal['amplitude', 'counts', 'normalised']
"""The square root of counts; counts; or amplitude times an unknown factor."""

DOMAINS: dict[str, MeasurementDomain] = {
    'amplitude': 'amplitude',
    'counts': 'counts',
    'normalised': 'normalised',
    'normalized': 'normalised',
    'normalized_amplitude': 'normalised',
    'normalised_amplitude': 'normalised',
    'count_intensity': 'counts',
    'intensity': 'counts',
}
"""Words for them; the original PtychoPINN's are ``normalized_amplitude`` and ``count_intensity``."""

AxisOrder = Literal['n,H,W', 'H,W,n']
"""Order of the axes of a stack of patterns."""

PositionOrder = Literal['yx', 'xy']
"""Which column of an array of positions is which."""

Squaring = Literal['crop', 'pad']
"""Of patterns that are not square, keep the largest square around the middle, or fill the shorter side up
with pixels marked as bad."""

OBJECT_FAMILIES = ('dead-leaves', 'lines', 'siemens', 'smooth', 'composite')
"""Kinds of simulated objects."""

PROBE_KINDS = ('defocused', 'zone-plate')
"""Kinds of simulated probes."""

SCAN_PATTERNS = ('raster', 'spiral', 'random')
"""Kinds of simulated scans."""
