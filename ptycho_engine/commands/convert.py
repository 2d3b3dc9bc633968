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
Of several INPUTs, OUTPUT is a folder, in which each has a file or a folder of its own name, in the format
that --format says. One that cannot be converted does not end the list.

examples:
  ptychopinn convert scan --output scan.cxi
  ptychopinn convert scan1 scan2 image --output out --format cxi
  ptychopinn convert master.h5 --positions stage.csv --probe estimate \\
    --energy-eV 8800 --distance-m 2 --pixel-size-m 75e-6 --output scan
  ptychopinn convert result --output image.tif
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EngineError
from ..io.folder_lock import tidy
from ..io.preflight import require_writable
from ..scan.results import account_of_result, is_result, read_result, result_file
from ..scan.written import files_of_scan, require_scan_format, write_result_as, write_scan_as
from .evaluate import unique
from .inputs import Opening, add_inputs, opening
from .options import in_flags
from .paragraph import complain, say
from .result_files import with_product
from .scan_parts import scan_name

FOLDER = 'folder'
FORMATS = ('npz', 'cxi', 'h5', 'tif', FOLDER)
EXIT_MISTAKE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn convert``."""
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='scans and results')
    parser.add_argument('--output', type=Path, required=True, metavar='OUTPUT')
    parser.add_argument(
        '--format',
        choices=FORMATS,
        metavar='FORMAT',
        help=f'OUTPUT is a folder, and each INPUT becomes NAME.FORMAT there: {", ".join(FORMATS)} (default '
        f'for several: {FOLDER}, a Ptychodus directory, for scans, and h5 for results)',
    )
    add_inputs(parser)


def run(options: argparse.Namespace) -> int:
    """Read and write."""
    opened = opening(options)
    inputs: list[Path] = options.inputs
    opened.require_one(inputs)
    if len(inputs) == 1 and options.format is None:
        _convert(inputs[0], options.output, opened)
        return 0
    mistakes = 0
    for path, name in zip(inputs, unique([scan_name(path) for path in inputs]), strict=True):
        try:
            of_result = not opened.of_parts and is_result(path)
            ending = options.format or ('h5' if of_result else FOLDER)
            output = options.output / (name if ending == FOLDER else f'{name}.{ending}')
            _convert(path, output, opened)
        except EngineError as error:
            complain(f'ptychopinn convert: {in_flags(str(error))}')
            mistakes += 1
    if mistakes:
        say(f'{len(inputs) - mistakes} of {len(inputs)} were converted.')
    return EXIT_MISTAKE if mistakes else 0


def _convert(path: Path, output: Path, opened: Opening) -> None:
    if not opened.of_parts and is_result(path):
        _convert_result(path, output)
    else:
        _convert_scan(path, output, opened)


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
