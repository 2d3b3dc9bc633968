"""Convert an NPZ scan to a product file."""

from __future__ import annotations

import argparse
import logging

from ..io.preflight import require_file_writable
from ..scan.product_exchange import (
    ExportMeta,
    export_product_from_rawdata,
)
from ..scan.raw_data import RawData
from .arguments.convert_product import NUMBERS
from .paragraph import say

logger = logging.getLogger('ptychopinn.commands')


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
