"""Several devices in PyTorch: processes that share each batch and end with the caller."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.backends.pytorch import device_group as group
from ptycho_engine.backends.pytorch.device_group import DeviceGroupBackend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import BackendUnavailableError
from ptycho_engine.events import EpochDone, ModelSaved
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.checkpoint import load_checkpoint
from ptycho_engine.network.plan import initial_weights, training_plan
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

ONE = PyTorchExecutionConfig(accelerator='cpu')
TWO = replace(ONE, devices=2)
CONFIG = TrainingConfig(
    model=ModelConfig(N=32, n_filters_scale=1, architecture='cnn'),
    batch_size=8,
    n_groups=20,
    nepochs=2,
    learning_rate=1e-3,
    validation_fraction=0.2,
)

pytestmark = [
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason='one core'),
    pytest.mark.usefixtures('slim_cnn'),
]


@pytest.fixture(scope='module')
def scan() -> Scan:
    return Scan.from_raw(small_scan(points=5, size=32))


@pytest.fixture(scope='module')
def pair():
    """The same network on one device and on two."""
    plan = training_plan(CONFIG, 1)
    backends = [create_backend('pytorch', execution) for execution in (ONE, TWO)]
    for backend in backends:
        backend.build(plan, initial_weights(plan, 0))
        backend.prepare_training(CONFIG)
    yield backends
    backends[1].close()


def alive(pids):
    return [pid for pid in pids if os.path.exists(f'/proc/{pid}')]


def pids_of(backend: DeviceGroupBackend) -> list[int]:
    return [member.process.pid for member in backend._members]


def test_back_04_two_devices_take_the_step_of_one(pair, scan):
    """Five groups as 2 and 3; a single one as 0 and 1; accumulated batches."""
    one, two = pair
    prepared = ScanModel(scan, CONFIG.model)
    for sizes in ((5,), (1,), (3, 2)):
        batches = [prepared.batch(np.arange(n, dtype=np.int32)[:, None]) for n in sizes]
        np.testing.assert_allclose(two.predict(batches[0]), one.predict(batches[0]), atol=1e-5)
        assert two.evaluate(batches[0]).loss == pytest.approx(one.evaluate(batches[0]).loss, rel=1e-4)
        first, second = one.train_step(batches, 1e-3), two.train_step(batches, 1e-3)
        assert second.loss == pytest.approx(first.loss, rel=1e-4)
        assert second.deviance == pytest.approx(first.deviance, rel=1e-4)
    for name, value in one.weights().items():
        np.testing.assert_allclose(two.weights()[name], value, atol=1e-4, err_msg=name)
    state = two.optimiser_state()
    assert set(state) == set(one.optimiser_state())
    two.set_optimiser_state(state)
    for name, value in two.optimiser_state().items():
        np.testing.assert_array_equal(value, state[name])


def test_back_04_a_run_on_two_devices_is_the_run_on_one(scan, tmp_path, monkeypatch):
    """Losses, model, checkpoint and image; no process is left of either."""
    started = []
    start_member = group._start_member

    def start(*arguments):
        started.append(start_member(*arguments))
        return started[-1]

    monkeypatch.setattr(group, '_start_member', start)
    curves = {}
    for name, execution in (('one', ONE), ('two', TWO)):
        events = list(train([scan], CONFIG, tmp_path / name, execution=execution))
        assert isinstance(events[-1], ModelSaved)
        epochs = [event for event in events if isinstance(event, EpochDone)]
        curves[name] = [(epoch.training_loss, epoch.validation_loss) for epoch in epochs]
    np.testing.assert_allclose(curves['two'], curves['one'], rtol=1e-3)
    assert sorted(p.name for p in (tmp_path / 'two').iterdir()) == sorted(
        p.name for p in (tmp_path / 'one').iterdir()
    )
    assert load_checkpoint(tmp_path / 'two' / 'checkpoint.zip').progress.epoch == 2
    objects = []
    for execution in (ONE, TWO):
        archive, config = load_archive(tmp_path / 'two'), InferenceConfig(refine_iterations=2)
        *_, last = reconstruct(scan, archive, config, execution=execution)
        assert isinstance(last, Reconstructed)
        objects.append(last.reconstruction.object_array)
    np.testing.assert_allclose(objects[1], objects[0], atol=1e-4 * np.abs(objects[0]).max())
    assert len(started) == 4
    assert all(member.process.poll() is not None for member in started)


def test_processes_end_with_the_backend_and_a_lost_one_is_a_sentence(pair, scan):
    pids = pids_of(pair[1])
    assert alive(pids) == pids
    batch = ScanModel(scan, CONFIG.model).batch(np.arange(4, dtype=np.int32)[:, None])
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(BackendUnavailableError, match=r'lost the process of device \d of 2 .*memory'):
        pair[1].train_step([batch], 1e-3)
    deadline = time.monotonic() + 10
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pids)
    pair[1].close()


def test_more_devices_than_there_are_is_a_sentence():
    with pytest.raises(BackendUnavailableError, match='selected with 999 devices, but this machine has'):
        create_backend('pytorch', replace(ONE, devices=999))
