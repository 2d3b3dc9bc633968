"""Crop, bin and centre the patterns of a scan, with all that belongs to them."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..errors import DataValueError
from ..io.preflight import require_file_writable, require_writable
from ..scan.centring import centre_of_mass, mean_counts
from ..scan.pretreatment import pretreat
from ..scan.product_exchange import with_lengths
from ..scan.raw_data import RawData
from ..scan.scan import DIFFRACTION_FILE, PRODUCT_FILE, Scan
from ..scan.scan_directory import write_scan_directory
from .inputs import opening
from .paragraph import say

SCAN_FILES = (DIFFRACTION_FILE, PRODUCT_FILE)


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
