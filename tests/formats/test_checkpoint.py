"""Checkpoints as files (specs/archive.md, CHK); runs that use them are in tests/training/test_resume.py."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.errors import ArchiveError
from ptycho_engine.formats.archive import ModelArchive, load_archive, read_manifest, save_archive
from ptycho_engine.formats.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from ptycho_engine.network.plan import build_plan, initial_weights
from tests.formats.test_archive import flip, rehash, rewrite, small_model, tiny_model


def tiny_checkpoint(model: ModelArchive | None = None) -> Checkpoint:
    model = model or tiny_model()
    current = initial_weights(build_plan(model.config.model), 2)
    state = {f'{name}/speed': value[..., :1] for name, value in current.items()}
    return Checkpoint(
        model=model,
        progress=Progress(3, 0.1 + 1e-17, 2, {'rate': 1 / 3}, 'abc'),
        weights=current,
        optimiser={**state, 'steps': np.array([7], np.float32), 'count': np.float32(3)},
    )


@pytest.fixture(scope='module')
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(small_model())


@pytest.fixture
def path(tmp_path, checkpoint):
    save_checkpoint(tmp_path / 'checkpoint.zip', checkpoint)
    return tmp_path / 'checkpoint.zip'


def test_chk_01_to_03_what_is_written_is_read_to_the_bit(path, checkpoint):
    read = load_checkpoint(path)
    assert read.progress == checkpoint.progress
    assert read.model.config == checkpoint.model.config
    assert read.model.history == checkpoint.model.history
    for found, expected in (
        (read.weights, checkpoint.weights),
        (read.model.weights, checkpoint.model.weights),
        (read.optimiser, checkpoint.optimiser),
    ):
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].shape == np.shape(value)


def test_chk_04_it_is_the_best_model(path, checkpoint):
    model = load_archive(path)
    assert model.config == checkpoint.model.config
    for name, value in checkpoint.model.weights.items():
        np.testing.assert_array_equal(model.weights[name], value)
    assert read_manifest(path).n == 64


def test_opt_08_double_precision_is_kept_in_the_checkpoint_and_not_in_the_model(tmp_path, checkpoint):
    double = {name: value.astype(np.float64) + 1e-12 for name, value in checkpoint.weights.items()}
    model = replace(checkpoint.model, weights=double)
    path = tmp_path / 'checkpoint.zip'
    state = {f'{name}/mean': value for name, value in double.items()}
    save_checkpoint(path, replace(checkpoint, model=model, weights=double, optimiser=state))
    read = load_checkpoint(path)
    for name, value in double.items():
        for kept in (read.weights[name], read.optimiser[f'{name}/mean']):
            assert kept.dtype == np.float64
            np.testing.assert_array_equal(kept, value)
        assert read.model.weights[name].dtype == np.float32
        np.testing.assert_array_equal(read.model.weights[name], value.astype(np.float32))


def test_arc_07_equal_contents_give_equal_bytes(path, tmp_path, checkpoint):
    save_checkpoint(tmp_path / 'again.zip', checkpoint)
    assert (tmp_path / 'again.zip').read_bytes() == path.read_bytes()


def test_a_model_is_not_a_checkpoint(tmp_path, checkpoint):
    save_archive(tmp_path / 'wts.h5.zip', checkpoint.model)
    with pytest.raises(ArchiveError, match=r'not a PtychoPINN checkpoint: .*current\.safetensors'):
        load_checkpoint(tmp_path / 'wts.h5.zip')


def progress(**values):
    def change(members):
        members['progress.json'] = json.dumps({**json.loads(members['progress.json']), **values}).encode()
        rehash(members)

    return change


def huge_state(members):
    """A few bytes that declare an array of 4 TB."""
    entry = {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 4 << 40]}
    header = json.dumps({'autoencoder/encoder1a/bias/speed': entry}).encode()
    members['optimiser.safetensors'] = len(header).to_bytes(8, 'little') + header
    rehash(members)


def other_weights(members):
    members['current.safetensors'] = members['optimiser.safetensors']
    rehash(members)


def cut_off(members):
    members['optimiser.safetensors'] = members['optimiser.safetensors'][:-2000]
    rehash(members)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (flip, 'does not match its checksum'),
        (lambda m: m.update({'evil.pkl': b'x'}), r'evil\.pkl'),
        (lambda m: m.update({'../up': b'x'}), 'named by a path to another place'),
        (lambda m: m.pop('progress.json'), r'progress\.json'),
        (lambda m: m.update({'manifest.json': b'{"format": "x"}'}), "has format 'x'"),
        (progress(epoch='many'), "epoch is 'many'; expected a whole number"),
        (progress(epoch=0), 'epoch is 0; expected a whole number from 1'),
        (progress(best_loss=float('nan')), 'NaN is no number'),
        (progress(schedule=[1]), 'no schedule of the learning rate'),
        (huge_state, r'damaged checkpoint \(the optimiser.*shape \(1099511627776,\)'),
        (other_weights, 'do not fit the network'),
        (cut_off, 'are damaged'),
    ],
)
def test_damaged_checkpoints_are_refused_with_a_sentence(path, change, message):
    rewrite(path, change)
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_checkpoint(path, checkpoint):
    before = path.read_bytes()
    with pytest.raises(ValueError, match='could not convert'):
        save_checkpoint(path, replace(checkpoint, optimiser={'a/b': 'not an array'}))
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ['checkpoint.zip']
