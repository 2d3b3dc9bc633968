"""A checkpoint whose parts do not belong together is refused when a run is resumed (CHK-05)."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import ArchiveError
from ptycho_engine.events import EpochDone
from ptycho_engine.formats.checkpoint import load_checkpoint, save_checkpoint
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.train import train
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

CPU = PyTorchExecutionConfig(accelerator='cpu')
CONFIG = TrainingConfig(
    model=ModelConfig(n_filters_scale=1, architecture='cnn'),
    nepochs=2,
    batch_size=8,
    n_groups=16,
)


@pytest.fixture(scope='module')
def scan():
    return Scan.from_raw(small_scan(points=4, size=32))


@pytest.fixture(scope='module', params=BACKENDS)
def cut(request, scan, tmp_path_factory):
    """The configuration of a run and the folder in which it was cut after its first epoch."""
    folder, config = tmp_path_factory.mktemp(request.param), replace(CONFIG, backend=request.param)
    events = train([scan], config, folder, execution=CPU)
    for event in events:
        if isinstance(event, EpochDone):
            events.close()
            break
    return config, folder


def without_a_part(state):
    return {
        name: value for name, value in state.items() if name != max(name for name in state if '/' in name)
    }


def of_another_shape(state):
    return {name: value[..., :1] if value.ndim > 1 else value for name, value in state.items()}


def with_short_counts(state):
    return {name: np.zeros(3, np.float32) if value.size <= 2 else value for name, value in state.items()}


@pytest.mark.parametrize('spoil', [without_a_part, of_another_shape, with_short_counts])
def test_chk_05_a_memory_that_does_not_fit_is_refused(cut, scan, tmp_path, spoil):
    config, folder = cut
    shutil.copytree(folder, tmp_path / 'run')
    path = tmp_path / 'run' / 'checkpoint.zip'
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, replace(checkpoint, optimiser=spoil(checkpoint.optimiser)))
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=r'What the optimiser remembers .* does not fit') as caught:
        list(train([scan], config, tmp_path / 'run', execution=CPU, resume=True))
    assert str(caught.value).isprintable()
    assert path.read_bytes() == before


def test_chk_05_a_schedule_that_says_nothing_begins_anew(cut, scan, tmp_path):
    config, folder = cut
    shutil.copytree(folder, tmp_path / 'run')
    path = tmp_path / 'run' / 'checkpoint.zip'
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, replace(checkpoint, progress=replace(checkpoint.progress, schedule={})))
    events = train([scan], config, tmp_path / 'run', execution=CPU, resume=True)
    assert [event.epoch for event in events if isinstance(event, EpochDone)] == [2]
