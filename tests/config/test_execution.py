"""Every field of the execution has an effect or is refused, and so has every field of the inference."""

import sys
import threading
from dataclasses import fields, replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.config.execution import OVERRIDING
from ptycho_engine.errors import BackendUnavailableError, ConfigError
from ptycho_engine.events import PatchesDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.training.train import train
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

CPU = PyTorchExecutionConfig(accelerator='cpu')
PLAIN = InferenceConfig(refine_iterations=0)
QUICK = TrainingConfig(
    model=ModelConfig(gridsize=2, n_filters_scale=1, architecture='cnn'),
    nepochs=1,
    n_groups=8,
    batch_size=4,
)


@pytest.fixture(scope='module')
def little() -> Scan:
    return Scan.from_raw(small_scan(points=5, size=32))


@pytest.fixture(scope='module')
def model(little, tmp_path_factory):
    out = tmp_path_factory.mktemp('model')
    list(train([little], QUICK, out, execution=CPU))
    return load_archive(out)


def events_of(scan, model, config=None, execution=CPU):
    return list(reconstruct(scan, model, config or PLAIN, execution=execution))


def object_of(scan, model, **changes):
    return events_of(scan, model, replace(PLAIN, **changes))[-1].reconstruction


def predicted(execution: PyTorchExecutionConfig, scan: Scan) -> np.ndarray:
    backend = create_backend('pytorch', execution)
    plan = build_plan(ModelConfig(N=32, n_filters_scale=1, architecture='cnn'))
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.1, value.shape).astype(np.float32)
        for name, value in initial_weights(plan, 0).items()
    }
    backend.build(plan, weights)
    return backend.predict(ScanModel(scan).batch(np.array([[12]], np.int32)))


def test_accelerator_and_precision(little):
    plain = predicted(CPU, little)
    mixed = predicted(replace(CPU, precision='bf16-mixed'), little)
    assert 0 < np.abs(mixed - plain).max() < 0.1 * np.abs(plain).max()
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailableError, match="accelerator 'cuda'"):
            predicted(replace(CPU, accelerator='cuda'), little)


def test_deterministic(little):
    import torch

    for value in (False, True):
        predicted(replace(CPU, deterministic=value), little)
        assert torch.are_deterministic_algorithms_enabled() is value


def test_a_run_without_devices_is_refused():
    with pytest.raises(ConfigError, match=r'^PyTorchExecutionConfig\.devices is 0'):
        PyTorchExecutionConfig(devices=0)


def test_workers_prepare_batches_and_change_nothing(little, tmp_path, monkeypatch):
    threads = set()
    original = ScanModel.batch

    def batch(self, groups, extent):
        threads.add(threading.current_thread() is threading.main_thread())
        return original(self, groups, extent)

    monkeypatch.setattr(ScanModel, 'batch', batch)
    found = []
    for workers in (0, 2):
        threads.clear()
        execution = replace(CPU, num_workers=workers)
        config = replace(QUICK, validation_fraction=0.0)
        list(train([little], config, tmp_path / str(workers), execution=execution))
        assert threads == {workers == 0}
        found.append(load_archive(tmp_path / str(workers)).weights)
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


def test_cfg_03_the_fields_that_training_has_too(little, tmp_path):
    values = {
        'learning_rate': 1e-4,
        'scheduler': 'Default',
        'accum_steps': 2,
        'gradient_clip_val': 0.5,
        'gradient_clip_algorithm': 'value',
        'early_stop_patience': 3,
    }
    assert set(values) == set(OVERRIDING)
    list(train([little], QUICK, tmp_path, execution=replace(CPU, **values)))
    config = load_archive(tmp_path).config
    assert {name: getattr(config, name) for name in values} == values


def test_what_is_left_behind(little, tmp_path):
    expected = {
        (1, 'csv'): {'checkpoint.zip', 'history.csv', 'wts.h5.zip'},
        (0, 'csv'): {'history.csv', 'wts.h5.zip'},
        (0, 'none'): {'wts.h5.zip'},
    }
    for number, ((keep, logger), names) in enumerate(expected.items()):
        execution = replace(CPU, checkpoint_save_top_k=keep, logger_backend=logger)
        out = tmp_path / str(number)
        list(train([little], QUICK, out, execution=execution))
        assert {path.name for path in out.iterdir()} == names


@pytest.mark.parametrize('enabled', [True, False])
def test_the_progress_bar(little, model, enabled, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    events_of(little, model, execution=replace(CPU, enable_progress_bar=enabled))
    assert (' left' in capsys.readouterr().err) is enabled


def test_batch_sizes_of_the_inference(little, model):
    def batches(config, execution):
        events = events_of(little, model, config, execution)
        return sum(isinstance(event, PatchesDone) for event in events)

    one = batches(replace(PLAIN, batch_size=1), CPU)
    assert one > 2
    assert batches(PLAIN, CPU) == 1
    assert batches(replace(PLAIN, batch_size=1), replace(CPU, inference_batch_size=one)) == 1
    # Groups of another width in the same batch show at the rim of a patch, where there is hardly any light.
    small = object_of(little, model, batch_size=1).object_array
    np.testing.assert_allclose(small, object_of(little, model).object_array, atol=5e-3)


def test_groups_and_subsample_of_the_inference(little, model):
    plain = object_of(little, model)
    assert plain.n_patterns == 25
    for changes in ({'neighbor_count': 24}, {'seed': 3}, {'n_subsample': 20}):
        assert not np.array_equal(object_of(little, model, **changes).object_array, plain.object_array)
    few = object_of(little, model, n_subsample=12)
    other = object_of(little, model, n_subsample=12, subsample_seed=9)
    assert few.n_patterns == other.n_patterns == 12
    assert not np.array_equal(few.object_array, other.object_array)
    assert object_of(little, model, n_subsample=99).n_patterns == 25
    with pytest.raises(ConfigError, match='without n_subsample'):
        InferenceConfig(subsample_seed=3)
    assert isinstance(events_of(little, model)[-1], Reconstructed)


def test_no_field_of_the_execution_is_forgotten():
    tested = {
        *('accelerator', 'precision', 'deterministic', 'devices', 'num_workers', *OVERRIDING),
        *('checkpoint_save_top_k', 'logger_backend', 'enable_progress_bar'),
        'inference_batch_size',
    }
    assert tested == {field.name for field in fields(PyTorchExecutionConfig)}
