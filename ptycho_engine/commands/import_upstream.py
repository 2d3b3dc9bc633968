"""Write files of the original PtychoPINN as ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EngineError
from ..upstream.imports import Imported, NotBroughtError, files_below, import_file
from .options import in_flags
from .paragraph import beside, complain, say

EXIT_MISTAKE = 2
VERDICT_WIDTH = 9
NAME_WIDTH = 24


def run(options: argparse.Namespace) -> int:
    """Bring over what can be; one file that cannot does not end the list."""
    mistakes, written = 0, 0
    for path in options.paths:
        try:
            found = files_below(path) if path.is_dir() else [path]
        except EngineError as error:
            mistakes += _complained(error)
            continue
        for source in found:
            folder: Path = options.output
            if path.is_dir():
                folder = folder / source.relative_to(path).parent
            try:
                _tell(import_file(source, folder, overwrite=options.overwrite))
                written += 1
            except NotBroughtError as error:
                if path.is_dir():
                    say(f'left: {error}')
                else:
                    mistakes += _complained(error)
            except EngineError as error:
                mistakes += _complained(error)
    say(f'Wrote {written} {"file" if written == 1 else "files"} to {options.output}.')
    return EXIT_MISTAKE if mistakes else 0


def _complained(error: EngineError) -> int:
    complain(f'ptychopinn import-upstream: {in_flags(str(error))}')
    return 1


def _tell(imported: Imported) -> None:
    say(f'{imported.source} -> {imported.target}')
    for row in imported.rows:
        head = f'  {row.verdict:<{VERDICT_WIDTH}}{row.name:<{NAME_WIDTH}} '
        say(*beside(head, row.text))
