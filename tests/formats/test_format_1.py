"""Models and checkpoints of format 1, kept as they were written, are read (specs/archive.md, ARC-10)."""

import hashlib
import json
import lzma
import subprocess
import sys
import zipfile

import numpy as np

from ptycho_engine.errors import ArchiveError
from ptycho_engine.formats.archive import (
    MODEL_FORMATS,
    load_archive,
    read_arrays,
    save_archive,
)
from ptycho_engine.io.sealed_zip import open_sealed
from tests.formats.hostile_archives import pack, seal, unzip
from tests.formats.test_archive import FORMAT_1, in_format_1, tiny_model

EXPECTED = json.loads((FORMAT_1 / 'expected.json').read_text())


def digest(arrays):
    """Return a checksum of names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.update(f'{name} {array.dtype.str} {array.shape}'.encode())
        found.update(array.tobytes())
    return found.hexdigest()


def arrays_of(path, stem, checked):
    """Read a member of a kept file; the network that it is of is no more."""
    with open_sealed(path, MODEL_FORMATS) as file:
        return read_arrays(file, stem, 1 << 20, checked)


def test_arc_10_a_cnn_of_format_1_is_read(tmp_path):
    model = tiny_model()
    path = tmp_path / 'wts.h5.zip'
    path.write_bytes(in_format_1(tmp_path, model))
    read = load_archive(path)
    assert (read.config, read.scale, read.history, read.origins) == (
        model.config,
        model.scale,
        model.history,
        model.origins,
    )
    assert digest(read.weights) == digest(model.weights)


def test_arc_10_weights_of_format_1_are_read_to_the_bit():
    shapes = {}
    arrays = arrays_of(FORMAT_1 / 'wts.h5.zip', 'wts', shapes.update)
    assert digest(arrays) == EXPECTED['model']
    assert shapes == {name: array.shape for name, array in arrays.items()}


def test_arc_10_they_are_read_without_the_hdf5_library(tmp_path):
    code = (
        'import sys; from ptycho_engine.formats.archive import load_archive; '
        "load_archive(sys.argv[1]); print('h5py' in sys.modules)"
    )
    path = tmp_path / 'wts.h5.zip'
    path.write_bytes(in_format_1(tmp_path, tiny_model()))
    run = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'False'


def test_arc_10_a_checkpoint_of_format_1_is_read_to_the_bit_with_its_double_precision(tmp_path):
    path = tmp_path / 'checkpoint.zip'
    path.write_bytes(lzma.decompress((FORMAT_1 / 'checkpoint.zip.xz').read_bytes()))
    for stem, name in (('wts', 'model'), ('current', 'weights'), ('optimiser', 'optimiser')):
        arrays = arrays_of(path, stem, lambda shapes: None)
        assert digest(arrays) == EXPECTED[f'checkpoint {name}']
    assert arrays['steps'].shape == ()
    assert {array.dtype for array in arrays.values()} >= {np.dtype(np.float64)}


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
            arrays = arrays_of(path, 'wts', lambda shapes: None)
        except ArchiveError as error:
            refused.append(str(error))
        else:
            assert all(np.isfinite(value).all() for value in arrays.values())
    assert len(refused) > 50
    assert all(sentence.isprintable() for sentence in refused)


def test_arc_08_damaged_headers_of_safetensors_are_read_or_refused_with_a_sentence(tmp_path):
    path, refused = tmp_path / 'wts.h5.zip', []
    save_archive(path, tiny_model())
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
