import io
import json
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.errors import ArchiveError, ArchiveNotFoundError
from ptycho_engine.formats.archive import (
    ModelArchive,
    find_archive,
    load_archive,
    read_manifest,
    save_archive,
)
from ptycho_engine.formats.origin import ScanOrigin
from ptycho_engine.io.members import array_bytes
from ptycho_engine.io.sealed_zip import SealedZip
from ptycho_engine.network.plan import build_plan, initial_weights
from ptycho_engine.physics.scaling import ScaleRecord
from tests.formats.hostile_archives import pack, seal, unzip

FORMAT_1 = Path(__file__).parents[1] / 'fixtures' / 'format_1'


def small_model() -> ModelArchive:
    config = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1, architecture='cnn'))
    return ModelArchive(
        config=config,
        scale=ScaleRecord(1.5, 1e5, 0.1),
        probe=np.ones((2, 64, 64), np.complex64),
        weights=initial_weights(build_plan(config.model), 1),
        backend='pytorch',
        history=[{'epoch': 1, 'training_deviance': 2.5}],
        origins=(ScanOrigin('a.npz', 9, 1e5, 5.25, 'abc'), ScanOrigin('b.npz', 1, 1e4, None, 'def')),
    )


def tiny_model() -> ModelArchive:
    config = TrainingConfig(model=ModelConfig(N=32, n_filters_scale=1, architecture='cnn'))
    return replace(
        small_model(),
        config=config,
        probe=np.ones((1, 32, 32), np.complex64),
        weights=initial_weights(build_plan(config.model), 1),
    )


def in_format_1(folder: Path, model: ModelArchive) -> bytes:
    """Return a model as version 0.1 wrote it: its weights as HDF5, each a dataset of its name."""
    path, weights = folder / 'format 2.zip', BytesIO()
    save_archive(path, model)
    members = unzip(path.read_bytes())
    del members['wts.safetensors']
    with h5py.File(weights, 'w') as file:
        for name, value in model.weights.items():
            file[name] = value
    members['manifest.json'] = json.dumps({**json.loads(members['manifest.json']), 'version': 1}).encode()
    return pack(seal({**members, 'wts.h5': weights.getvalue()}))


@pytest.fixture(scope='module')
def model() -> ModelArchive:
    return small_model()


@pytest.fixture
def path(tmp_path, model):
    save_archive(tmp_path / 'wts.h5.zip', model)
    return tmp_path / 'wts.h5.zip'


def test_arc_02_to_04_what_is_written_is_read(path, model):
    """The scale of the training scan too (GAU-04)."""
    read = load_archive(path)
    assert read.config == model.config
    assert read.scale == model.scale
    assert read.history == model.history
    assert read.origins == model.origins
    np.testing.assert_array_equal(read.probe, model.probe)
    assert list(read.weights) == list(model.weights)
    for name in model.weights:
        np.testing.assert_array_equal(read.weights[name], model.weights[name])
    head = read_manifest(path)
    assert (head.n, head.gridsize, head.model_type, head.backend) == (64, 1, 'pinn', 'pytorch')


def test_arc_06_directory_and_outer_zip_are_accepted(path, tmp_path, model):
    assert load_archive(tmp_path).config == model.config
    outer = tmp_path / 'model.zip'
    with zipfile.ZipFile(outer, 'w') as file:
        file.write(path, 'wts.h5.zip')
    assert load_archive(outer).config == model.config


def test_arc_07_equal_contents_give_equal_bytes(path, tmp_path, model):
    save_archive(tmp_path / 'again.zip', model)
    assert (tmp_path / 'again.zip').read_bytes() == path.read_bytes()


def test_arc_07_members_are_stored(path):
    with zipfile.ZipFile(path) as file:
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


def rewrite(path, change):
    """Write the archive again with changed members; the manifest's checksums are left as they are."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def flip(members):
    data = bytearray(members['wts.safetensors'])
    data[-5] ^= 1
    members['wts.safetensors'] = bytes(data)


def pickled_probe(members):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    members['probe.npy'] = buffer.getvalue()
    rehash(members)


def rehash(members):
    import hashlib

    manifest = json.loads(members['manifest.json'])
    manifest['sha256'] = {
        name: hashlib.sha256(data).hexdigest() for name, data in members.items() if name != 'manifest.json'
    }
    members['manifest.json'] = json.dumps(manifest).encode()


def unknown_field(members):
    config = json.loads(members['config.json'])
    config['wings'] = 2
    members['config.json'] = json.dumps(config).encode()
    rehash(members)


def strange_origin(members):
    manifest = json.loads(members['manifest.json'])
    manifest['trained_on'] = [{'name': 'a', 'patterns': 'many'}]
    members['manifest.json'] = json.dumps(manifest).encode()


def of_version_0_1(architecture):
    def change(members):
        config = json.loads(members['config.json'])
        config['model'] |= {'architecture': architecture, 'physics_steps': 64, 'unrolled_steps': 4}
        config['simulated_epochs'] = 20
        members['config.json'] = json.dumps(config).encode()
        rehash(members)

    return change


def test_arc_03_a_cnn_of_version_0_1_is_read(path, model):
    rewrite(path, of_version_0_1('cnn'))
    assert load_archive(path).config == model.config


def test_arc_03_a_network_that_is_no_more_is_refused_with_what_to_do(path):
    rewrite(path, of_version_0_1('unrolled'))
    with pytest.raises(ArchiveError, match=r"version 0\.1 \('unrolled'\).*reconstruct without a model"):
        load_archive(path)


def other_network(members):
    config = json.loads(members['config.json'])
    config['model']['n_filters_scale'] = 2
    members['config.json'] = json.dumps(config).encode()
    rehash(members)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (flip, 'does not match its checksum'),
        (lambda m: m.update({'evil.py': b'x'}), 'evil.py'),
        (lambda m: m.update({'../up': b'x'}), 'named by a path to another place'),
        (lambda m: m.pop('scale.json'), 'scale.json'),
        (lambda m: m.update({'manifest.json': b'[]'}), 'wrong kind'),
        (lambda m: m.update({'manifest.json': b'{'}), 'broken JSON'),
        (lambda m: m.update({'manifest.json': b'{"format": "x"}'}), 'has format'),
        (pickled_probe, 'damaged'),
        (strange_origin, 'trained_on of the manifest, patterns'),
        (unknown_field, "no field 'wings'"),
        (other_network, 'do not fit the network'),
    ],
)
def test_arc_01_and_05_damaged_archives_are_refused_with_a_sentence(path, change, message):
    rewrite(path, change)
    with pytest.raises(ArchiveError, match=message):
        load_archive(path)


def test_arc_05_a_bomb_is_refused_before_it_is_read(path, tmp_path):
    def grow(members):
        members['history.json'] = bytes(1 << 20)

    rewrite(path, grow)
    data = path.read_bytes()
    # State a size of 3 GiB in the central directory, as a bomb would have.
    at = data.rindex(b'history.json') - 46
    size = (3 << 30).to_bytes(4, 'little')
    path.write_bytes(data[: at + 24] + size + data[at + 28 :])
    with pytest.raises(ArchiveError, match='cannot have the size that is stated'):
        load_archive(path)


@pytest.mark.parametrize('content', [b'', b'not a zip', b'PK\x03\x04' + bytes(100)])
def test_files_that_are_no_archive_are_refused(tmp_path, content):
    file = tmp_path / 'wts.h5.zip'
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match='not a readable model archive'):
        read_manifest(file)


def test_truncated_archives_are_refused(path):
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArchiveError):
        load_archive(path)


def test_a_missing_archive_is_both_kinds_of_error(tmp_path):
    with pytest.raises(ArchiveNotFoundError, match=r'wts\.h5\.zip') as caught:
        load_archive(tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


def test_arc_07_a_failed_write_leaves_the_old_file(path, model):
    before = path.read_bytes()
    broken = replace(model, weights={'step1/x/kernel': 'not an array'})
    with pytest.raises(ValueError, match='could not convert'):
        save_archive(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['wts.h5.zip']


def test_arc_05_what_would_not_be_read_is_not_written(tmp_path, monkeypatch, model):
    from ptycho_engine.formats import archive

    monkeypatch.setattr(archive, 'MODEL_FORMAT', replace(archive.MODEL_FORMAT, size_limit=1 << 16))
    with pytest.raises(ArchiveError, match=r'would hold \d+ MiB, but a model may have 0 MiB'):
        save_archive(tmp_path / 'wts.h5.zip', model)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_anywhere_is_refused_with_a_sentence_or_means_nothing(path, model):
    """Whatever a bit hits: the zip's own tables, a compressed stream, or a field nobody reads."""
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), len(whole) // 300):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        try:
            read = load_archive(path)
        except ArchiveError:
            refused += 1
        else:
            assert all((read.weights[name] == value).all() for name, value in model.weights.items())
    assert refused > 290


def test_a_folder_without_access_is_an_archive_error(tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'is_dir', refused)
    with pytest.raises(ArchiveError, match='cannot be looked at: Permission denied'):
        find_archive(tmp_path / 'model')


FORGED = 'a\x1b]0;title\x07\nptychopinn: a forged line\u202e\udcff'


def forged_names(members):
    manifest = json.loads(members['manifest.json'])
    manifest |= {'backend': FORGED, 'engine_version': FORGED}
    manifest['trained_on'][0] |= {'name': FORGED, 'identity': FORGED}
    members['manifest.json'] = json.dumps(manifest).encode()


def test_arc_11_names_of_a_file_are_shown_without_control_characters(path, capsys):
    from ptycho_engine.commands import main

    rewrite(path, forged_names)
    model, head = load_archive(path), read_manifest(path)
    for text in (model.backend, model.origins[0].name, model.origins[0].identity, head.engine_version):
        assert text.isprintable()
        assert 'a forged line' in text
    assert main(['inspect', str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.split('\n'))
    assert not [line for line in shown.split('\n') if line.startswith('ptychopinn:')]
    assert main(['inspect', '--json', str(path)]) == 0
    assert capsys.readouterr().out.replace('\n', '').isprintable()


def test_arc_11_so_are_the_names_of_members_and_of_the_file(path, tmp_path, capsys):
    from ptycho_engine.commands import main

    strange = tmp_path / 'm\x1b[31m.zip'
    path.rename(strange)
    assert main(['inspect', str(strange)]) == 0
    assert capsys.readouterr().out.replace('\n', '').isprintable()
    rewrite(strange, lambda members: members.update({'evil\x07.py': b'x'}))
    with pytest.raises(ArchiveError, match='a member has a strange name'):
        load_archive(strange)


def test_arc_09_what_is_not_finite_is_not_written(path, model):
    before = path.read_bytes()
    weights = {**model.weights, 'autoencoder/encoder1a/bias': np.full(64, np.nan, np.float32)}
    with pytest.raises(ArchiveError, match='autoencoder/encoder1a/bias holds NaN or infinite numbers'):
        save_archive(path, replace(model, weights=weights))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['wts.h5.zip']


def test_arc_05_a_probe_that_does_not_fit_is_refused_before_it_is_unpacked(path, monkeypatch):
    def grow(members):
        members['probe.npy'] = array_bytes(np.ones((3, 32, 32), np.complex64))
        rehash(members)

    rewrite(path, grow)
    read, whole = [], SealedZip.read
    monkeypatch.setattr(
        SealedZip, 'read', lambda self, name, most: read.append(name) or whole(self, name, most)
    )
    with pytest.raises(ArchiveError, match=r'the probe has shape \(3, 32, 32\)'):
        load_archive(path)
    assert read == ['config.json']


def test_a_file_that_may_not_be_read_is_said_to_be_just_that(path, monkeypatch):
    def refused(self, *_):
        raise PermissionError(13, 'Permission denied', str(self))

    monkeypatch.setattr(Path, 'open', refused)
    with pytest.raises(ArchiveError, match='may not be read: permission denied'):
        load_archive(path)
