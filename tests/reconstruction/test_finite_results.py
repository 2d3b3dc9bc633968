"""An object that is not finite is never a result, whatever made it so (specs/training.md, RESULT)."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.backends.base import create_backend
from ptycho_engine.commands import main
from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.errors import DivergedError
from ptycho_engine.formats.archive import ModelArchive, save_archive
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics.scaling import ScaleRecord
from ptycho_engine.reconstruction import reconstruct as module
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.product_exchange import ExportMeta, product_of_rawdata
from ptycho_engine.scan.scan import Scan
from tests.conftest import small_scan


def model(gridsize=1, factor=1.0):
    config = TrainingConfig(model=ModelConfig(N=64, gridsize=gridsize, n_filters_scale=1, architecture='cnn'))
    weights = initial_weights(build_plan(config.model), 1)
    weights = {name: (value * np.float32(factor)).astype(np.float32) for name, value in weights.items()}
    weights['autoencoder/phase_outer_conv/bias'] = np.full(1, 0.1 * factor, np.float32)
    return ModelArchive(
        config, ScaleRecord(1, 1e5, 0.1), np.ones((1, 64, 64), np.complex64), weights, 'pytorch'
    )


@pytest.fixture(scope='module')
def scan():
    return Scan.from_raw(replace(small_scan(4), objectGuess=None))


def spoil(monkeypatch, name):
    """Let the backend return NaN in place of a number here and there."""

    def spoilt(backend_name, execution=None):
        backend = create_backend(backend_name, execution)
        method = getattr(backend, name)

        def answer(*arguments, **options):
            found = method(*arguments, **options)
            array = np.array(found)
            array.flat[0] = np.nan
            return array

        setattr(backend, name, answer)
        return backend

    monkeypatch.setattr(module, 'create_backend', spoilt)


def finished(events):
    (*_, last) = events
    assert isinstance(last, Reconstructed)
    return last.reconstruction


CASES = {
    'the network on groups': ('predict', InferenceConfig(refine_iterations=0)),
    'groups before a refinement': ('predict', InferenceConfig(refine_iterations=2)),
}


@pytest.mark.parametrize('case', CASES)
def test_result_05_a_backend_that_returns_nan_gives_no_result_and_one_sentence(scan, monkeypatch, case):
    method, config = CASES[case]
    spoil(monkeypatch, method)
    with pytest.raises(DivergedError, match=r'NaN or infinite numbers in the object') as caught:
        list(module.reconstruct(scan, model(), config))
    assert str(caught.value).isprintable()


def test_result_05_weights_that_overflow_give_no_result(scan):
    with pytest.raises(DivergedError, match='NaN or infinite numbers in the object'):
        list(module.reconstruct(scan, model(factor=1e30), InferenceConfig(refine_iterations=0)))


def test_result_05_the_command_writes_nothing_and_keeps_what_was_there(scan, tmp_path, capsys):
    save_archive(tmp_path / 'wts.h5.zip', model(factor=1e30))
    scan.raw.to_file(tmp_path / 'scan.npz')
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'product.h5').write_bytes(b'earlier')
    words = ['reconstruct', tmp_path / 'scan.npz', '--model', tmp_path, '--output', out, '--quiet']
    assert main([*map(str, words), '--refine-iterations', '0']) == 2
    assert 'NaN or infinite numbers in the object' in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ['product.h5']
    assert (out / 'product.h5').read_bytes() == b'earlier'


@pytest.mark.parametrize('name', ['object_array', 'probe', 'position_shift'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_result_05_no_product_is_made_of_what_is_not_finite(scan, name, value):
    result = finished(module.reconstruct(scan, model(), InferenceConfig(refine_iterations=0)))
    product = product_of_rawdata(scan.raw, ExportMeta(name='scan'))
    assert np.isfinite(result.to_product(product).object_array).all()
    whole = {
        'object_array': result.object_array,
        'probe': scan.raw.probeGuess,
        'position_shift': np.zeros((len(scan.raw), 2)),
    }[name].copy()
    whole.flat[3] = value
    with pytest.raises(DivergedError, match='NaN or infinite numbers'):
        replace(result, **{name: whole}).to_product(product)
