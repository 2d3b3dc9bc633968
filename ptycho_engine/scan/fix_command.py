"""The command that corrects a scan, as it can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from .raw_data import RawData

__all__ = ['fix_command']


def fix_command(raw: RawData) -> str:
    """Return the command line by which `doctor` writes a corrected scan beside the file of a scan.

    In words where the scan is in no file.
    """
    words = raw.words or ('' if raw.path is None else shlex.quote(str(raw.path)))
    if not words:
        return 'ptychopinn doctor with --fix, once the scan is in a file,'
    file = raw.path or Path(raw.source)
    if file.name in ('', '..'):
        # The folder in which the user is.
        file = file.resolve()
    fixed = shlex.quote(str(file.with_name(f'{file.stem}-fixed.npz')))
    return f'ptychopinn doctor {words} --fix {fixed}'
