"""Items of HDF5 files copied as they are (clause PRODUCT-07), without HDF5's own copying."""

import h5py
import numpy as np
import pytest

from ptycho_engine.formats.item_copy import copy_item


@pytest.fixture
def files(tmp_path):
    with h5py.File(tmp_path / 'a.h5', 'w') as source, h5py.File(tmp_path / 'b.h5', 'w') as target:
        yield source, target


def same_kind(a: h5py.Dataset, b: h5py.Dataset) -> bool:
    return a.id.get_type().equal(b.id.get_type())


@pytest.mark.parametrize(
    'values',
    [
        np.float64(3.5),
        np.arange(7, dtype='>i2'),
        np.zeros((0, 3)),
        np.random.default_rng(0).random((300, 40)).astype(np.complex64),
        np.array([b'a', b'bc\0d', b'5 \xb5m'], 'S8'),
        np.array([(1, 2.5)], dtype=[('n', 'i4'), ('x', 'f8')]),
        np.array([True, False]),
    ],
    ids=lambda values: f'{values.dtype} {values.shape}',
)
def test_values_and_types_stay_what_they_are(files, values):
    source, target = files
    source['x'] = values
    source['x'].attrs['unit'] = 'm'
    copy_item(source, target, 'x')
    assert same_kind(source['x'], target['x'])
    assert target['x'].attrs['unit'] == 'm'
    np.testing.assert_array_equal(target['x'][()], values)


def test_chunks_filters_and_large_datasets(files, monkeypatch):
    source, target = files
    monkeypatch.setattr('ptycho_engine.formats.item_copy.BYTES_AT_ONCE', 4000)
    values = np.random.default_rng(1).integers(0, 9, (101, 30))
    source.create_dataset(
        'x', data=values, chunks=(10, 7), compression='gzip', shuffle=True, maxshape=(None, 30)
    )
    source.create_dataset('plain', data=values)
    source.file.flush()
    copy_item(source, target, 'plain')
    np.testing.assert_array_equal(target['plain'][()], values)
    copy_item(source, target, 'x')
    found = target['x']
    assert (found.chunks, found.compression, found.shuffle, found.maxshape) == (
        (10, 7),
        'gzip',
        True,
        (None, 30),
    )
    np.testing.assert_array_equal(found[()], values)


def test_texts_and_lists_of_any_length(files):
    source, target = files
    source.create_dataset('texts', data=['a', 'µ' * 100, ''], dtype=h5py.string_dtype())
    lists = source.create_dataset('lists', (2,), h5py.vlen_dtype(np.int32))
    lists[0], lists[1] = [1, 2, 3], []
    for name in ('texts', 'lists'):
        copy_item(source, target, name)
        assert same_kind(source[name], target[name])
    assert target['texts'].asstr()[()].tolist() == ['a', 'µ' * 100, '']
    assert [found.tolist() for found in target['lists'][()]] == [[1, 2, 3], []]


def test_groups_keep_what_has_two_names_and_circles_end(files):
    source, target = files
    group = source.create_group('g/inner')
    group['x'] = np.arange(3)
    source['g/again'] = group['x']
    group['above'] = source['g']
    source['g/soft'] = h5py.SoftLink('/elsewhere')
    source['g/far'] = h5py.ExternalLink('other.h5', '/x')
    copy_item(source, target, 'g')
    assert target['g/again'] == target['g/inner/x']
    assert target['g/inner/above'] == target['g']
    assert target['g'].get('soft', getlink=True).path == '/elsewhere'
    assert target['g'].get('far', getlink=True).filename == 'other.h5'


def test_references_are_emptied_and_data_of_other_files_refused(files, tmp_path):
    source, target = files
    source['x'] = np.arange(3)
    source.create_dataset('refs', data=[source['x'].ref], dtype=h5py.ref_dtype)
    copy_item(source, target, 'refs')
    assert not target['refs'][0]
    (tmp_path / 'raw').write_bytes(bytes(24))
    source.create_dataset('far', (3,), 'f8', external=[(str(tmp_path / 'raw'), 0, 24)])
    with pytest.raises(ValueError, match='other files'):
        copy_item(source, target, 'far')
    assert 'far' not in target


@pytest.mark.parametrize('place', [6, 25], ids=['number of chunks', 'size of a chunk'])
def test_a_damaged_index_of_chunks_is_an_error_and_not_the_end_of_the_process(files, tmp_path, place):
    """HDF5's own copying frees memory twice where a chunk's size is wrong."""
    with h5py.File(tmp_path / 'c.h5', 'w') as file:
        file.create_dataset('x', data=np.zeros((9, 8, 8)), chunks=(1, 8, 8), compression='gzip')
    data = bytearray((tmp_path / 'c.h5').read_bytes())
    start = data.index(b'TREE', data.index(b'TREE') + 1)
    data[start + place] = 0xFF
    (tmp_path / 'c.h5').write_bytes(data)
    _, target = files
    with h5py.File(tmp_path / 'c.h5') as source, pytest.raises((OSError, RuntimeError, ValueError)):
        copy_item(source, target, 'x')


@pytest.mark.parametrize('kind', ['f4', h5py.string_dtype()])
def test_of_an_enormous_dataset_what_is_stored_is_copied(files, kind):
    source, target = files
    large = source.create_dataset('x', (2**20, 2**20, 2**10), kind, chunks=(1, 64, 64))
    large[2**19, 5, 1000] = 7 if kind == 'f4' else 'seven'
    source.file.flush()
    copy_item(source, target, 'x')
    assert target['x'].shape == large.shape
    assert target['x'][2**19, 5, 1000] == large[2**19, 5, 1000]
    assert target['x'].id.get_num_chunks() == 1


def test_a_filter_that_is_not_installed_is_no_obstacle(files, tmp_path):
    source, target = files
    source.create_dataset('x', data=np.arange(64), chunks=(8,), compression='gzip')
    source.file.flush()
    path = tmp_path / 'a.h5'
    data = path.read_bytes()
    message = data.rindex(b'deflate')
    (tmp_path / 'c.h5').write_bytes(data[: message - 8] + (4242).to_bytes(2, 'little') + data[message - 6 :])
    with h5py.File(tmp_path / 'c.h5') as strange:
        with pytest.raises(OSError):  # noqa: PT011  its text depends on the machine
            strange['x'][()]
        copy_item(strange, target, 'x')
        assert target['x'].id.get_create_plist().get_filter(0)[0] == 4242
        offset = target['x'].id.get_chunk_info(3).chunk_offset
        assert target['x'].id.read_direct_chunk(offset) == strange['x'].id.read_direct_chunk(offset)
