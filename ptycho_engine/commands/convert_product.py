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
import logging
from pathlib import Path

from ..io.preflight import require_file_writable
from ..scan.product_exchange import (
    OBJECT_PIXEL_SIZE_M,
    PROBE_PIXEL_SIZE_M,
    ExportMeta,
    export_product_from_rawdata,
)
from ..scan.raw_data import RawData
from .paragraph import say

logger = logging.getLogger('ptychopinn.commands')

NUMBERS = {
    'detector_distance_m': ('M', 'metres from object to detector (default: 0, unknown)'),
    'probe_energy_eV': ('EV', 'photon energy in eV (default: 0, unknown)'),
    'exposure_time_s': ('S', 'exposure time in seconds (default: 0, unknown)'),
    'probe_photon_count': ('N', 'photons in the probe per exposure (default: 0, unknown)'),
    'mass_attenuation_m2_kg': ('M2_PER_KG', 'mass attenuation in m²/kg (default: 0, unknown)'),
    'tomography_angle_deg': ('DEG', 'rotation of the sample in degrees (default: 0)'),
    'object_pixel_size_m': ('M', f'side of an object pixel in metres (default: {OBJECT_PIXEL_SIZE_M:g})'),
    'probe_pixel_size_m': ('M', f'side of a probe pixel in metres (default: {PROBE_PIXEL_SIZE_M:g})'),
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


def run(options: argparse.Namespace) -> None:
    """Convert and say what was written."""
    require_file_writable(options.output_product, inputs=[options.input_npz])
    stated = {name: value for name in NUMBERS if (value := getattr(options, name)) is not None}
    meta = ExportMeta(
        name=options.input_npz.stem if options.name is None else options.name,
        comments=options.comments,
        **stated,
    )
    raw = RawData.from_file(options.input_npz)
    unknown = [name for name in ('detector_distance_m', 'probe_energy_eV') if not getattr(meta, name) > 0]
    if unknown:
        logger.warning(
            'Ptychodus cannot reconstruct from this product before it is told %s; pass %s.',
            ' and '.join(unknown),
            ' and '.join(f'--{name.replace("_", "-")}' for name in unknown),
        )
    export_product_from_rawdata(
        raw, options.output_product, meta, include_diffraction=options.include_diffraction
    )
    patterns = f' with {len(raw)} patterns' if options.include_diffraction else ''
    say(f'Wrote {len(raw)} positions, probe and object{patterns} to {options.output_product}.')
