"""Models of other programs, told by first bytes and names of members; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from ..io.damage import DAMAGE

__all__ = ['MODEL_SUFFIXES', 'foreign_model']

MODEL_SUFFIXES = ('.zip', '.ckpt', '.pt', '.pth', '.keras', '.dill', '.pkl', '.pickle')
"""Endings of files that hold models, or what is pickled beside them."""

ZIP, HDF5, PICKLE = b'PK\x03\x04', b'\x89HDF\r\n\x1a\n', b'\x80'

ROOT_BYTES = 4096
"""At the beginning of an HDF5 file, where the names of its first groups are."""
KERAS_NAMES = (b'model_weights\0',), (b'layers\0', b'vars\0')
"""Groups of a model, and of weights alone, of Keras."""


def foreign_model(path: Path) -> str | None:
    """Return a sentence on a model of another program: what it is, and what to do; None for anything else."""
    if not path.is_file():
        return None
    try:
        with path.open('rb') as stream:
            begin = stream.read(8)
    except OSError:
        return None
    what = None
    if begin.startswith(ZIP):
        what = _zipped(path)
    elif begin.startswith(HDF5):
        what = _hdf5(path)
    elif begin.startswith(PICKLE):
        return f'{path} is a pickle of Python objects, which are never executed here.'
    if what is None:
        return None
    return (
        f'{path} is {what}, which cannot be brought over: its weights are of another network, and what is '
        'pickled is never executed here; `ptychopinn reconstruct SCAN` needs no model, and `ptychopinn train '
        'SCAN --output DIR` makes one.'
    )


def _zipped(path: Path) -> str | None:
    try:
        # Its table of members alone, which models of the original have in folders.
        with zipfile.ZipFile(path) as file:
            members = [PurePosixPath(name) for name in file.namelist()]
    except DAMAGE:
        return None
    names = {member.name for member in members}
    if any(member.suffix in ('.dill', '.keras') for member in members):
        framework = 'PyTorch' if {'model.pth', 'torch_scaling_metadata.pt'} & names else 'TensorFlow'
        return f'a model of the original PtychoPINN ({framework})'
    if any(member.suffix in ('.ckpt', '.pth', '.pt') for member in members):
        return 'a model of the original PtychoPINN (PyTorch)'
    if 'data.pkl' in names:
        return 'a checkpoint of PyTorch or Lightning'
    if {'model.weights.h5', 'metadata.json'} <= names:
        return 'a model of Keras'
    return None


def _hdf5(path: Path) -> str | None:
    """Look at the bytes: a damaged file may take the HDF5 library, and this process, down."""
    with path.open('rb') as file:
        root = file.read(ROOT_BYTES)
    known = any(all(name in root for name in names) for names in KERAS_NAMES)
    return 'a file of weights of Keras' if known else None
