"""Scans of other programs, told by first bytes and root groups, and how they are opened."""

from __future__ import annotations

from pathlib import Path

from ..errors import EngineError
from ..io.hdf5 import open_hdf5
from ..io.regular import open_regular
from .diffraction_file import DIFFRACTION_KEYS

__all__ = ['foreign_scan']

HDF5 = b'\x89HDF\r\n\x1a\n'
KINDS = {
    b'\x93NUMPY': 'an array of NumPy',
    b'MATLAB': 'a file of MATLAB',
    b'II*\x00': 'a TIFF image',
    b'MM\x00*': 'a TIFF image',
    b'II+\x00': 'a TIFF image',
    b'MM\x00+': 'a TIFF image',
    b'###CBF': 'a CBF image',
}
"""First bytes of what is no scan of ours."""
PRODUCT = 'object', 'probe', 'probe_position_x_m'
"""Any of these is in a product, be it damaged."""
CXI = 'a CXI file'
MOST_NAMES = 5
"""Of an HDF5 file that are told."""


def foreign_scan(path: Path) -> str | None:
    """Return a sentence on a file of patterns of another program: what it is, and how it is opened.

    None for a scan of ours, and for what is not known.
    """
    try:
        with open_regular(path) as stream:
            begin = stream.read(8)
        what = _hdf5(path) if begin == HDF5 else None
    except (OSError, EngineError):
        # What is wrong with it is said where it is read.
        return None
    what = what or next((kind for first, kind in KINDS.items() if begin.startswith(first)), None)
    if what is None:
        return None
    if what == CXI:
        return f'{path} is {what}; `ptychopinn convert {path} --output SCAN.npz` makes a scan of it.'
    return (
        f'{path} is {what}, no scan with positions and a probe; give the positions too, as in `ptychopinn '
        f'reconstruct {path} --positions FILE --output DIR`, and name single arrays as FILE::KEY.'
    )


def _hdf5(path: Path) -> str | None:
    with open_hdf5(path) as file:
        names = list(file)
    if any(name in names for name in PRODUCT):
        return None
    if 'cxi_version' in names:
        return CXI
    if all(key in names for key in DIFFRACTION_KEYS):
        return 'patterns as Ptychodus exports them'
    if 'entry' in names:
        return 'a NeXus file, as detectors write it'
    shown = ', '.join(names[:MOST_NAMES]) + (', ...' if len(names) > MOST_NAMES else '')
    return f'an HDF5 file of another program (with {shown or "nothing in it"})'
