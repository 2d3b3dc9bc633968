"""Arrays in the ``.npy`` format."""

import io

import numpy as np
import pytest

from ptycho_engine.io.npy import read_body, read_header


@pytest.mark.parametrize(
    'array',
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3, '>i2'),
        np.zeros((0, 4)),
        np.array(['a', 'bc']),
        np.array([(1, 2.0)], [('a', 'i4'), ('b', 'f8')]),
    ],
    ids=str,
)
def test_mem_06_arrays_are_read_as_numpy_reads_them(array):
    stream = io.BytesIO()
    np.save(stream, array)
    stream.seek(0)
    header = read_header(stream)
    assert (header.shape, header.dtype) == (array.shape, array.dtype)
    assert header.nbytes == array.nbytes
    found = read_body(stream, header)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert stream.read() == b''


def test_mem_10_what_is_cut_short_or_pickled_is_told():
    stream = io.BytesIO()
    np.save(stream, np.arange(100.0))
    short = io.BytesIO(stream.getvalue()[:-10])
    with pytest.raises(ValueError, match='ends after 790 of the 800 bytes'):
        read_body(short, read_header(short))
    with pytest.raises(ValueError, match='header of its array is damaged'):
        read_header(io.BytesIO(stream.getvalue()[:40]))
    pickled = io.BytesIO()
    np.save(pickled, np.array([print], object))
    pickled.seek(0)
    with pytest.raises(ValueError, match='pickled, which is never loaded'):
        read_body(pickled, read_header(pickled))
