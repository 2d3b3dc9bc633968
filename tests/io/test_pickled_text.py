"""A pickled text is read, and no pickle is run (NPZ-06)."""

import io
import os
import pickle

import numpy as np
import pytest

from ptycho_engine.io.pickled_text import pickled_text


@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize('text', ['', '{"a": 1}', 'µ' * 300, 'x' * 70_000])
def test_npz_06_a_text_as_numpy_pickles_it(text, protocol):
    data = pickle.dumps(np.array(text, dtype=object), protocol)
    assert pickled_text(data) == text
    # As NumPy 1 names its module; the length before the name and that of the frame change with it.
    frameless = data if protocol == 3 else data[:2] + data[11:]
    for new, old in ((b'\x16numpy._core', b'\x15numpy.core'), (b'cnumpy._core', b'cnumpy.core')):
        frameless = frameless.replace(new, old)
    assert b'_core' not in frameless
    if len(text) < 70_000:
        assert pickled_text(frameless) == text


class Hostile:
    def __reduce__(self):
        return os.mkdir, ('ran',)


@pytest.mark.parametrize(
    'value',
    [
        Hostile(),
        'text',
        {'a': 1},
        np.array({'a': 1}, dtype=object),
        np.array(['text'], dtype=object),
        np.array(['one', 'two'], dtype=object),
        np.array(Hostile(), dtype=object),
        np.array(3, dtype=object),
    ],
)
def test_npz_06_anything_else_is_no_text_and_is_not_run(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        assert pickled_text(pickle.dumps(value, protocol)) is None
    assert not list(tmp_path.iterdir())


def test_npz_06_damage_and_hostile_endings_are_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = pickle.dumps(np.array('some text', dtype=object), 4)
    call = pickle.dumps(Hostile(), 0)
    for data in (
        b'',
        good[:-1],
        good[:-1] + call,
        call + good,
        b'\x00' * 100,
        good.replace(b'ndarray', b'mkdirxx'),
    ):
        assert pickled_text(data) is None
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] = rng.integers(256)
        assert isinstance(pickled_text(bytes(damaged)), str | None)
    assert not list(tmp_path.iterdir())


def test_npz_06_the_metadata_of_the_original_are_read(tmp_path):
    from ptycho_engine.formats.npz import read_arrays

    stream = io.BytesIO()
    np.savez(
        stream, x=np.arange(3), _metadata=np.array('{"physics_parameters": {"nphotons": 5}}', dtype=object)
    )
    (tmp_path / 'x.npz').write_bytes(stream.getvalue())
    found = read_arrays(tmp_path / 'x.npz', ['x'], ['_metadata'])
    assert found['_metadata'].item() == '{"physics_parameters": {"nphotons": 5}}'
