"""Models of other programs, told by first bytes and names of members; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from ..errors import EngineError
from ..io.damage import DAMAGE
from ..io.hdf5 import open_hdf5

__all__ = ['MODEL_SUFFIXES', 'foreign_model']

MODEL_SUFFIXES = ('.zip', '.ckpt', '.pt', '.pth', '.keras', '.dill', '.pkl', '.pickle')
"""Endings of files that hold models, or what is pickled beside them."""

ZIP, HDF5, PICKLE = b'PK\x03\x04', b'\x89HDF\r\n\x1a\n', b'\x80'
KERAS_HDF5 = ('model_weights', 'layers', '_layer_checkpoint_dependencies')


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
    try:
        with open_hdf5(path) as file:
            known = any(name in file for name in KERAS_HDF5) or 'keras_version' in file.attrs
            return 'a file of weights of Keras' if known else None
    except EngineError:
        return None
