"""Write a scan, or the result of a reconstruction, in another format.

A scan is an NPZ file, a Ptychodus directory, a CXI file, or with --positions patterns in any file that
Ptychodus reads. The ending of OUTPUT says what it becomes
  scan.npz     for every command of ours and for the original PtychoPINN
  scan.cxi     for programs that read CXI, Ptychodus among them
  scan.h5      a Ptychodus product that holds its patterns
  scan         a Ptychodus directory: diffraction.h5 and product.h5
A result is a product, a CXI file, an NPZ file with objectGuess, or the output directory of `ptychopinn
reconstruct`; it becomes
  image.tif    image_amplitude.tif and image_phase.tif, single precision, with
               the pixel size in their tags
  image.cxi, image.h5, image.npz

examples:
  ptychopinn convert scan --output scan.cxi
  ptychopinn convert master.h5 --positions stage.csv --probe estimate \\
    --energy-eV 8800 --distance-m 2 --pixel-size-m 75e-6 --output scan
  ptychopinn convert result --output image.tif
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.folder_lock import tidy
from ..io.preflight import require_writable
from ..scan.results import account_of_result, is_result, read_result, result_file
from ..scan.written import files_of_scan, require_scan_format, write_result_as, write_scan_as
from .inputs import Opening, add_inputs, opening
from .paragraph import say
from .reconstruct import with_product


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn convert``."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='the scan, or the result')
    parser.add_argument('--output', type=Path, required=True, metavar='OUTPUT')
    add_inputs(parser)


def run(options: argparse.Namespace) -> None:
    """Read and write."""
    opened = opening(options)
    path: Path = options.input
    if not opened.of_parts and is_result(path):
        _convert_result(path, options.output)
    else:
        _convert_scan(path, options.output, opened)


def _convert_result(path: Path, output: Path) -> None:
    tidy(path if path.is_dir() else path.parent)
    product = read_result(path)
    written = write_result_as(output, product, account_of_result(path), inputs=[result_file(path)])
    height, width = product.object_array.shape[-2:]
    say(f'Wrote the object of {height}×{width} pixels to {" and ".join(map(str, written))}.')


def _convert_scan(path: Path, output: Path, opened: Opening) -> None:
    require_scan_format(output)
    folder, names = files_of_scan(output)
    read = opened.files(path)
    require_writable(folder, names, inputs=[*read, *(path / name for name in names)])
    scan = with_product(opened.load(path))
    write_scan_as(output, scan)
    size = scan.raw.N
    say(f'Wrote {len(scan.raw)} patterns of {size}×{size} pixels to {output}.')
