"""Write scans and results in another format."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EngineError
from ..io.folder_lock import tidy
from ..io.preflight import require_writable
from ..scan.results import account_of_result, is_result, read_result, result_file
from ..scan.written import files_of_scan, require_scan_format, write_result_as, write_scan_as
from .arguments.convert import FOLDER
from .evaluate import unique
from .inputs import Opening, opening
from .options import in_flags
from .paragraph import complain, say
from .result_files import with_product
from .scan_parts import scan_name

EXIT_MISTAKE = 2


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
