"""A small scan, a model and a reconstruction, made by the commands themselves."""

from pathlib import Path

import numpy as np
import pytest

from ptycho_engine.commands import main
from tests.conftest import small_scan


@pytest.fixture(scope='package')
def source(tmp_path_factory) -> Path:
    """An NPZ with probe, object and positions, as `simulate --from` wants it."""
    raw = small_scan(points=7)
    path = tmp_path_factory.mktemp('source') / 'run.npz'
    np.savez(
        path,
        probeGuess=raw.probeGuess[0].astype(np.complex128),
        objectGuess=raw.objectGuess,
        xcoords=raw.xcoords,
        ycoords=raw.ycoords,
    )
    return path


@pytest.fixture(scope='package')
def directory(source, tmp_path_factory) -> Path:
    """A simulated Ptychodus directory, with the truth beside it."""
    out = tmp_path_factory.mktemp('scan')
    assert main(['simulate', '--from', str(source), '--photons', '1e5', '--output', str(out)]) == 0
    return out


@pytest.fixture(scope='package')
def model(directory, tmp_path_factory) -> Path:
    """A directory with a model of two epochs."""
    out = tmp_path_factory.mktemp('model')
    options = ['--epochs', '2', '--filters-scale', '1', '--architecture', 'cnn']
    options += ['--groups', '48', '--quiet']
    assert main(['train', str(directory), '--output', str(out), *options]) == 0
    return out


@pytest.fixture(scope='package')
def result(directory, model, tmp_path_factory) -> Path:
    """A directory with a reconstruction: product, NPZ and picture."""
    out = tmp_path_factory.mktemp('result')
    arguments = ['reconstruct', str(directory), '--model', str(model), '--output', str(out)]
    assert main([*arguments, '--quiet']) == 0
    return out
