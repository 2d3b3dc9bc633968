"""Bring a scan into the shape that it needs: crop, bin and centre its patterns.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5), a Ptychodus HDF5 file or a CXI
file; with --positions the patterns alone. The probe, the pixel sizes, the positions, the object and the bad
pixels follow the patterns.
  --square HOW makes patterns square: crop or pad
  --crop N     keeps the middle N×N pixels: same field of view, larger pixels
  --bin B      sums B×B pixels: same object pixels, smaller field of view, into
               which the probe must fit
Binning comes first. OUTPUT ending in .npz is an NPZ file; otherwise it is a Ptychodus directory.

example:
  ptychopinn prepare scan --crop 128 --output scan128
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

from ..errors import DataValueError
from ..formats.npz import AxisOrder
from ..io.preflight import require_file_writable, require_writable
from ..patterns.units import DOMAINS, MeasurementDomain
from ..scan.centring import centre_of_mass, mean_counts
from ..scan.pretreatment import pretreat
from ..scan.product_exchange import with_lengths
from ..scan.raw_data import RawData
from ..scan.scan import DIFFRACTION_FILE, PRODUCT_FILE, Scan
from ..scan.scan_directory import write_scan_directory
from .inputs import add_inputs, opening
from .paragraph import say

SCAN_FILES = (DIFFRACTION_FILE, PRODUCT_FILE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn prepare``."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='the scan')
    parser.add_argument('--output', type=Path, required=True, metavar='OUTPUT')
    parser.add_argument('--crop', type=int, metavar='N', help='side of the patterns to keep, after binning')
    parser.add_argument('--bin', type=int, default=1, metavar='B', help='sum B×B pixels (default: 1)')
    parser.add_argument(
        '--centre',
        default='',
        metavar='auto|ROW,COLUMN',
        help='pixel to crop around, after binning; auto: the centre of mass (default: N//2)',
    )
    parser.add_argument(
        '--axis-order',
        choices=get_args(AxisOrder),
        metavar='ORDER',
        help=f'of NPZ patterns, if not by the rule: {" or ".join(get_args(AxisOrder))}',
    )
    parser.add_argument(
        '--domain',
        choices=DOMAINS,
        metavar='DOMAIN',
        help=f'of NPZ patterns, likewise: {" or ".join(get_args(MeasurementDomain))}',
    )
    parser.add_argument(
        '--nphotons', type=float, metavar='COUNTS', help='mean counts per pattern of normalised amplitudes'
    )
    add_inputs(parser, units=False)


def run(options: argparse.Namespace) -> None:
    """Load, treat and write."""
    read = [*opening(options).files(options.input), *(options.input / name for name in SCAN_FILES)]
    if options.output.suffix == '.npz':
        require_file_writable(options.output, inputs=read)
    else:
        require_writable(options.output, SCAN_FILES, inputs=read)
    scan = _load(options)
    before = scan.raw.N
    scan = pretreat(scan, binning=options.bin)
    centre = _centre(options.centre, scan)
    scan = pretreat(scan, crop=options.crop, centre=centre)
    if options.output.suffix == '.npz':
        raw = scan.raw if scan.product is None else with_lengths(scan.raw, scan.product)
        raw.to_file(options.output)
    else:
        write_scan_directory(options.output, scan)
    around = '' if centre is None else f' around row {centre[0]}, column {centre[1]}'
    say(
        f'Wrote {len(scan.raw)} patterns of {scan.raw.N}×{scan.raw.N} pixels (before: {before}×{before})'
        f'{around} to {options.output}.'
    )


def _load(options: argparse.Namespace) -> Scan:
    """Load the scan; what is said about the patterns of an NPZ file has no meaning elsewhere."""
    said = {name: getattr(options, name) for name in ('axis_order', 'domain', 'nphotons')}
    opened = opening(options)
    if said['axis_order'] is None and (opened.is_foreign(options.input) or opened.square is not None):
        return opened.load(options.input)
    if all(value is None for value in said.values()):
        return replace(opened, domain=None, nphotons=None).load(options.input)
    if options.input.suffix != '.npz':
        raise DataValueError(
            f'{options.input} is not an NPZ file, and says itself what its patterns are; leave out '
            '--axis-order, --domain and --nphotons.'
        )
    return Scan.from_raw(RawData.from_file(options.input, **said, verify=options.verify))


def _centre(text: str, scan: Scan) -> tuple[int, int] | None:
    if not text:
        return None
    if text == 'auto':
        row, column = centre_of_mass(mean_counts(scan.raw))
        return round(row), round(column)
    try:
        row, column = (int(word) for word in text.split(','))
    except ValueError:
        raise DataValueError(f"--centre is {text!r}; expected 'auto' or ROW,COLUMN, as 256,260.") from None
    return row, column
