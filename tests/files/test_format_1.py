"""Models and checkpoints of format 1, kept as they were written, are read (specs/archive.md, ARC-10)."""

import hashlib
import json
import lzma
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ptycho_engine.errors import ArchiveError
from ptycho_engine.files.archive import load_archive, save_archive
from ptycho_engine.files.checkpoint import load_checkpoint, save_checkpoint
from tests.files.hostile_archives import pack, seal, unzip
from tests.files.test_archive import FORMAT_1

EXPECTED = json.loads((FORMAT_1 / 'expected.json').read_text())


def digest(arrays):
    """Return a checksum of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.update(f'{name} {array.dtype.str} {array.shape}'.encode())
        found.update(array.tobytes())
    return found.hexdigest()


@pytest.fixture
def checkpoint_path(tmp_path):
    path = tmp_path / 'checkpoint.zip'
    path.write_bytes(lzma.decompress((FORMAT_1 / 'checkpoint.zip.xz').read_bytes()))
    return path


def test_arc_10_a_model_of_format_1_is_read_to_the_bit(tmp_path):
    model = load_archive(FORMAT_1 / 'wts.h5.zip')
    assert digest(model.weights) == EXPECTED['model']
    assert digest({'probe': model.probe}) == EXPECTED['probe']
    assert (model.config.model.N, model.scale.probe_scale, model.backend) == (32, 1.5, 'pytorch')
    assert [record['epoch'] for record in model.history] == [1, 2]
    assert [origin.name for origin in model.origins] == ['a scan.npz', 'b.npz']
    save_archive(tmp_path / 'wts.h5.zip', model)
    again = load_archive(tmp_path / 'wts.h5.zip')
    assert digest(again.weights) == EXPECTED['model']
    assert again.history == model.history


def test_arc_10_it_is_read_without_the_hdf5_library():
    code = (
        'import sys; from ptycho_engine.files.archive import load_archive; '
        "load_archive(sys.argv[1]); print('h5py' in sys.modules)"
    )
    path = FORMAT_1 / 'wts.h5.zip'
    run = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'False'


def test_arc_10_a_checkpoint_of_format_1_is_read_to_the_bit_with_its_double_precision(
    checkpoint_path, tmp_path
):
    checkpoint = load_checkpoint(checkpoint_path)
    again = tmp_path / 'again.zip'
    save_checkpoint(again, checkpoint)
    for read in (checkpoint, load_checkpoint(again)):
        assert digest(read.model.weights) == EXPECTED['checkpoint model']
        assert digest(read.weights) == EXPECTED['checkpoint weights']
        assert digest(read.optimiser) == EXPECTED['checkpoint optimiser']
        assert read.optimiser['steps'].shape == ()
    assert {array.dtype for array in checkpoint.weights.values()} == {np.dtype(np.float64)}
    with zipfile.ZipFile(again) as file:
        assert not [name for name in file.namelist() if name.endswith('.h5')]


def test_arc_10_damaged_hdf5_with_the_right_checksum_is_read_or_refused_with_a_sentence(tmp_path):
    members = unzip((FORMAT_1 / 'wts.h5.zip').read_bytes())
    whole = members['wts.h5']
    # Most of the file is numbers; what says where they are lies in its first part and between them.
    structure = [at for at in range(len(whole)) if whole[at] and whole[at - 4 : at + 8].count(0) > 4]
    draw = np.random.default_rng(4)
    path, refused = tmp_path / 'wts.h5.zip', []
    for _ in range(300):
        damaged = bytearray(whole)
        for at in draw.choice(structure, draw.integers(1, 4)):
            damaged[at] = draw.integers(256)
        path.write_bytes(pack(seal({**members, 'wts.h5': bytes(damaged)}), zipfile.ZIP_STORED))
        try:
            model = load_archive(path)
        except ArchiveError as error:
            refused.append(str(error))
        else:
            assert all(np.isfinite(value).all() for value in model.weights.values())
    assert len(refused) > 100
    assert all(sentence.isprintable() for sentence in refused)


def test_arc_08_damaged_headers_of_safetensors_are_read_or_refused_with_a_sentence(tmp_path):
    model = load_archive(FORMAT_1 / 'wts.h5.zip')
    path, refused = tmp_path / 'wts.h5.zip', []
    save_archive(path, model)
    members = unzip(path.read_bytes())
    whole = members['wts.safetensors']
    end = 8 + int.from_bytes(whole[:8], 'little')
    draw = np.random.default_rng(5)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in draw.integers(0, end, draw.integers(1, 4)):
            damaged[at] = draw.integers(256)
        path.write_bytes(pack(seal({**members, 'wts.safetensors': bytes(damaged)}), zipfile.ZIP_STORED))
        try:
            load_archive(path)
        except ArchiveError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(sentence.isprintable() for sentence in refused)
