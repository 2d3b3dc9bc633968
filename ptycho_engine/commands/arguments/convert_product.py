"""Convert an NPZ scan to a Ptychodus product file.

The product holds object, probe and positions in metres, relative to the object's centre; it opens in every
Ptychodus from 1.2 on. Pixel sizes that are not given are estimated, and the comments say so. With
--include-diffraction the patterns travel along in the group /raw_data.

example:
  ptychopinn convert-product --input-npz scan.npz --output-product product.h5 \\
    --object-pixel-size-m 5e-8
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ['NUMBERS', 'add_arguments']

NUMBERS = {
    'detector_distance_m': ('M', 'metres from object to detector (default: 0, unknown)'),
    'probe_energy_eV': ('EV', 'photon energy in eV (default: 0, unknown)'),
    'exposure_time_s': ('S', 'exposure time in seconds (default: 0, unknown)'),
    'probe_photon_count': ('N', 'photons in the probe per exposure (default: 0, unknown)'),
    'mass_attenuation_m2_kg': ('M2_PER_KG', 'mass attenuation in m²/kg (default: 0, unknown)'),
    'tomography_angle_deg': ('DEG', 'rotation of the sample in degrees (default: 0)'),
    'object_pixel_size_m': ('M', 'side of an object pixel in metres (default: 5e-08)'),
    'probe_pixel_size_m': ('M', 'side of a probe pixel in metres (default: 1.25e-07)'),
    'object_center_x_m': ('M', 'world x of the middle of the object in metres (default: 0)'),
    'object_center_y_m': ('M', 'world y of the middle of the object in metres (default: 0)'),
}
"""Fields of ExportMeta that are numbers: name in messages, and help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn convert-product``."""
    parser.add_argument('--input-npz', type=Path, required=True, metavar='NPZ', help='the scan')
    parser.add_argument('--output-product', type=Path, required=True, metavar='H5', help='the product file')
    parser.add_argument('--name', help='name of the product (default: that of the NPZ file)')
    parser.add_argument('--comments', default='', help='comments of the product')
    for field, (unit, text) in NUMBERS.items():
        option = field.replace('_', '-')
        names = [f'--{option}'] if option == option.lower() else [f'--{option}', f'--{option.lower()}']
        parser.add_argument(*names, dest=field, type=float, metavar=unit, help=text)
    parser.add_argument(
        '--include-diffraction', action='store_true', help='add the patterns, in the group /raw_data'
    )
