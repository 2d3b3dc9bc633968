"""The learned prior as an ONNX file, run by onnxruntime (clauses ONNX-01 to ONNX-04 of specs/archive.md)."""

import hashlib
import sys

import numpy as np
import pytest
import torch

from ptycho_engine.backends.base import FRAMEWORKS, create_backend
from ptycho_engine.commands import main
from ptycho_engine.config import ModelConfig, PyTorchExecutionConfig
from ptycho_engine.formats.archive import save_archive
from ptycho_engine.formats.packaged import PACKAGED_PRIOR, load_model, of_objects
from ptycho_engine.network.plan import build_plan, initial_weights

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')


def run(path, obj, deviation):
    """Return the noise (H, W) that an ONNX file sees in an object (H, W)."""
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    images = np.stack([obj.real, obj.imag])[None].astype(np.float32)
    (noise,) = session.run(['noise'], {'object': images, 'deviation': deviation[None, None]})
    assert noise.dtype == np.float32
    return noise[0, 0] + 1j * noise[0, 1]


@pytest.fixture(scope='module')
def trained():
    """A prior all of whose layers change something, the last one too."""
    plan, rng = build_plan(ModelConfig(architecture='prior')), np.random.default_rng(3)
    weights = {
        name: values + 0.05 * rng.standard_normal(values.shape).astype(np.float32)
        for name, values in initial_weights(plan, 1).items()
    }
    return of_objects('prior', weights=weights)


@pytest.mark.parametrize('backend', FRAMEWORKS)
@pytest.mark.parametrize('shape', [(64, 64), (8, 72), (136, 24)])
def test_onnx_01_and_02_it_says_what_the_backends_say(backend, shape, trained, tmp_path):
    """Another implementation reads the file; sides may differ, in multiples of 8."""
    save_archive(tmp_path / 'wts.h5.zip', trained)
    assert main(['export-onnx', str(tmp_path), '--output', str(tmp_path / 'p.onnx'), '--quiet']) == 0
    rng = np.random.default_rng(5)
    obj = (1 + 0.3 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(np.complex64)
    deviation = rng.uniform(0.01, 0.8, shape).astype(np.float32)
    runner = create_backend(backend, PyTorchExecutionConfig(accelerator='cpu'))
    runner.build(build_plan(trained.config.model), trained.weights)
    sent = (obj, deviation) if backend == 'tensorflow' else map(torch.from_numpy, (obj, deviation))
    expected = np.asarray(runner.denoise(*sent))
    found = run(tmp_path / 'p.onnx', obj, deviation)
    assert abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())
    runner.close()


def test_onnx_01_the_packaged_prior_finds_noise(tmp_path):
    """What it takes away is nearer to the noise than nothing is."""
    path = tmp_path / 'p.onnx'
    assert main(['export-onnx', '--output', str(path), '--quiet']) == 0
    y, x = np.mgrid[:64, :64]
    truth = np.where((x // 16 + y // 16) % 2, 0.8, np.exp(0.5j))
    noise = 0.1 * (np.random.default_rng(1).standard_normal((2, 64, 64)) / np.sqrt(2))
    noise = noise[0] + 1j * noise[1]
    found = run(path, truth + noise, np.full((64, 64), 0.1, np.float32))
    assert np.linalg.norm(found - noise) < 0.55 * np.linalg.norm(noise)


def test_onnx_02_and_03_shapes_opset_and_origin_are_in_the_file(tmp_path):
    paths = [tmp_path / name for name in ('one.onnx', 'two.onnx')]
    for path in paths:
        assert main(['export-onnx', '--output', str(path), '--quiet']) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    model = onnx.load(paths[0])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 17)]
    assert model.ir_version == 8
    session = onnxruntime.InferenceSession(paths[0], providers=['CPUExecutionProvider'])
    told = {put.name: (put.shape, put.type) for put in (*session.get_inputs(), *session.get_outputs())}
    assert told == {
        'object': (['B', 2, 'H', 'W'], 'tensor(float)'),
        'deviation': (['B', 1, 'H', 'W'], 'tensor(float)'),
        'noise': (['B', 2, 'H', 'W'], 'tensor(float)'),
    }
    said = session.get_modelmeta().custom_metadata_map
    assert said['model_sha256'] == hashlib.sha256(PACKAGED_PRIOR.read_bytes()).hexdigest()
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_onnx_04_what_is_no_prior_is_refused(tmp_path, capsys):
    model = tmp_path / 'wts.h5.zip'
    save_archive(model, of_objects('physics'))
    assert main(['export-onnx', str(model), '--output', str(tmp_path / 'p.onnx')]) == 2
    assert "the architecture 'physics'; only a learned prior" in capsys.readouterr().err.replace('\n', ' ')
    assert main(['export-onnx', str(tmp_path / 'none'), '--output', str(tmp_path / 'p.onnx')]) == 2
    assert 'There is no model' in capsys.readouterr().err.replace('\n', ' ')
    assert main(['export-onnx', str(model), '--output', str(model)]) == 2
    assert not (tmp_path / 'p.onnx').exists()


def test_onnx_04_a_missing_package_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert main(['export-onnx', '--output', str(tmp_path / 'p.onnx')]) == 2
    assert 'pip install onnx' in capsys.readouterr().err.replace('\n', ' ')
    assert not (tmp_path / 'p.onnx').exists()


def test_onnx_01_the_packaged_prior_is_meant(tmp_path):
    """Its file holds the weights of the package, not initial ones."""
    path = tmp_path / 'p.onnx'
    assert main(['export-onnx', '--output', str(path), '--quiet']) == 0
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    for name, values in load_model().weights.items():
        layout = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values
        np.testing.assert_array_equal(held[name], layout)
