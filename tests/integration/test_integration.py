"""The whole way on a CPU with each backend: fixture, two epochs, archive, reconstruction, product."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine import (
    ExportMeta,
    InferenceConfig,
    ModelConfig,
    ModelSaved,
    RawData,
    Reconstructed,
    Scan,
    TrainingConfig,
    export_product_from_rawdata,
    find_violations,
    import_product_to_rawdata,
    load_archive,
    load_scan,
    reconstruct,
    train,
)
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import BackendUnavailableError
from ptycho_engine.scan import groups_cache

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'pytorch_integration' / 'minimal_dataset_v1.npz'


@pytest.mark.parametrize('backend', BACKENDS)
def test_from_fixture_to_product(backend, tmp_path):
    # Processor time, so that other work on the machine does not matter; on an idle one it takes no longer.
    tic = time.process_time()
    scan = load_scan(FIXTURE)
    config = TrainingConfig(
        model=ModelConfig(gridsize=2, n_filters_scale=1, architecture='cnn'),
        backend=backend,
        nepochs=2,
        n_groups=None,
        use_groups_cache=False,
    )
    try:
        events = list(train([scan], config, tmp_path))
    except BackendUnavailableError:
        pytest.skip(f'{backend} is not installed')
    trained = time.process_time() - tic
    assert isinstance(events[-1], ModelSaved)
    archive = load_archive(tmp_path)
    assert archive.backend == backend
    assert [record['epoch'] for record in archive.history] == [1, 2]

    inference = InferenceConfig(backend=backend, use_groups_cache=False)
    *_, last = reconstruct(scan, archive, inference)
    assert isinstance(last, Reconstructed)
    result = last.reconstruction
    assert result.n_patterns == 64
    assert result.object_array.shape == scan.raw.objectGuess.shape
    flat = deviance_of_flat_object(scan)
    assert result.deviance < 0.5 * flat

    raw = replace(scan.raw, objectGuess=result.object_array)
    export_product_from_rawdata(raw, tmp_path / 'product.h5', ExportMeta(name='integration'))
    assert find_violations(tmp_path / 'product.h5').violations == ()
    back = import_product_to_rawdata(tmp_path / 'product.h5')
    np.testing.assert_array_equal(back.objectGuess, result.object_array)
    np.testing.assert_allclose(back.xcoords, raw.xcoords, atol=1e-6)
    assert trained < 25
    assert time.process_time() - tic < 90


def deviance_of_flat_object(scan: Scan) -> float:
    """Return the deviance of patterns that an empty sample would give."""
    from ptycho_engine.physics.forward import deviance, predict_intensity

    raw: RawData = scan.raw
    ones = np.ones((1, raw.N, raw.N), complex)
    rate = predict_intensity(ones, raw.probeGuess.astype(complex), np.zeros((1, 2)))
    counts = raw.diffraction[:] ** 2
    rate = rate * counts.sum() / (len(counts) * rate.sum())
    return float(deviance(counts, rate, np.ones((raw.N, raw.N), bool)).mean())


def test_cache_02_the_other_backend_reuses_the_groups(tmp_path, monkeypatch):
    """The first backend writes the groups; the second searches for none and leaves the file as it is."""
    data = tmp_path / 'fly001.npz'
    data.write_bytes(FIXTURE.read_bytes())
    cache = tmp_path / 'fly001.g2k7.groups_cache.npz'
    built: list[str] = []
    find = groups_cache.find_neighbours
    running = ''
    monkeypatch.setattr(
        groups_cache, 'find_neighbours', lambda *a, **k: built.append(running) or find(*a, **k)
    )
    states = []
    for running in BACKENDS:
        config = TrainingConfig(
            model=ModelConfig(gridsize=2, n_filters_scale=1, architecture='cnn'),
            backend=running,
            nepochs=1,
            n_groups=4,
            batch_size=4,
        )
        try:
            list(train([load_scan(data)], config, tmp_path / running))
            list(
                reconstruct(
                    load_scan(data), load_archive(tmp_path / running), InferenceConfig(backend=running)
                )
            )
        except BackendUnavailableError:
            pytest.skip(f'{running} is not installed')
        states.append((hashlib.sha256(cache.read_bytes()).hexdigest(), cache.stat().st_mtime_ns))
    assert built == [BACKENDS[0]]
    assert len(set(states)) == 1
