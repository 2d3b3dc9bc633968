"""What is followed in an HDF5 file, and how much one may declare."""

import os
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from ptycho_engine.errors import DataFileNotFoundError, DataValueError
from ptycho_engine.io.hdf5 import open_hdf5
from ptycho_engine.io.regular import regular_state

FRAMES = np.arange(6 * 4 * 4, dtype=np.uint16).reshape(6, 4, 4)
UNLIMITED = h5py.h5f.UNLIMITED


def read(path, name='d'):
    with open_hdf5(path) as file:
        return file.dataset(name)[()]


def refused(path, name='d') -> str:
    """Return the one sentence by which reading ends."""
    with pytest.raises((DataFileNotFoundError, DataValueError)) as caught:
        read(path, name)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def in_child(code, *arguments, folder):
    """Run code that could end its process by a signal, or hang."""
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


CHILD = """
    import sys
    from pathlib import Path
    from ptycho_engine.errors import EngineError
    from ptycho_engine.io.hdf5 import open_hdf5
    try:
        with open_hdf5(Path(sys.argv[1])) as file:
            print(file.dataset('d')[()].sum())
    except EngineError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def detector(tmp_path):
    """A folder with two files of frames, as the writer of a detector leaves them."""
    for number, part in enumerate((FRAMES[:4], FRAMES[4:]), start=1):
        with h5py.File(tmp_path / f'data_{number:06d}.h5', 'w') as file:
            file.create_dataset('entry/data/data', data=part, chunks=(1, 4, 4), compression='gzip')
    return tmp_path


def join(path, *, missing=False, shapes=((4, 4, 4), (2, 4, 4))):
    with h5py.File(path, 'w') as file:
        layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
        for number, (part, shape) in enumerate(zip((np.s_[:4], np.s_[4:]), shapes, strict=True), start=1):
            name = f'data_{number + 7 * missing * (number == 2):06d}.h5'
            source = h5py.VirtualSource(name, 'entry/data/data', shape)
            layout[part] = source[: len(range(6)[part])]
        file.create_virtual_dataset('d', layout, fillvalue=0)


def test_hdf_01_links_and_virtual_datasets_of_a_scan_lead_to_the_right_frames(detector, monkeypatch, caplog):
    caplog.set_level('INFO', 'ptychopinn')
    join(detector / 'master.h5')
    with h5py.File(detector / 'master.h5', 'r+') as file:
        file['other'] = np.ones((50, 4, 4), np.uint16)
        file['links/data_000001'] = h5py.ExternalLink('data_000001.h5', 'entry/data/data')
        file['links/soft'] = h5py.SoftLink('/links/data_000001')
        file['links/relative'] = h5py.SoftLink('soft')
    elsewhere = detector / 'elsewhere'
    elsewhere.mkdir()
    with h5py.File(elsewhere / 'data_000001.h5', 'w') as file:
        file['entry/data/data'] = np.zeros((4, 4, 4), np.uint16)
    for folder in (detector, elsewhere):
        # Files in the working folder are not taken for those beside the master file.
        monkeypatch.chdir(folder)
        np.testing.assert_array_equal(read(detector / 'master.h5'), FRAMES)
        for name in ('data_000001', 'soft', 'relative'):
            np.testing.assert_array_equal(read(detector / 'master.h5', f'links/{name}'), FRAMES[:4])
    caplog.clear()
    with open_hdf5(detector / 'master.h5') as file:
        assert file.get('d').shape == FRAMES.shape
        assert file.file_of('links/soft') == detector / 'data_000001.h5'
        assert 'links/soft' in file
        assert 'links/none' not in file
        assert file.get('links/none') is None
    (told,) = caplog.messages
    followed = [detector / 'data_000001.h5', detector / 'data_000002.h5']
    assert told == f'{detector / "master.h5"}: data are read from {followed[0]}, {followed[1]}.'


def test_hdf_02_what_is_missing_is_named_and_never_zeros(detector):
    join(detector / 'master.h5', missing=True)
    assert "'data_000009.h5', which is missing" in refused(detector / 'master.h5')
    join(detector / 'short.h5', shapes=((4, 4, 4), (3, 4, 4)))
    with h5py.File(detector / 'data_000002.h5', 'w') as file:
        file['entry/data/data'] = FRAMES[4:5]
    assert 'takes more than there is' in refused(detector / 'short.h5')
    with h5py.File(detector / 'data_000002.h5', 'w') as file:
        file['entry/data/other'] = FRAMES[4:]
    assert "missing: 'entry/data/data' of data_000002.h5" in refused(detector / 'short.h5')
    with h5py.File(detector / 'links.h5', 'w') as file:
        file['file'] = h5py.ExternalLink('data_000003.h5', 'entry/data/data')
        file['item'] = h5py.ExternalLink('data_000001.h5', 'entry/none')
        file['soft'] = h5py.SoftLink('/none')
    assert "'data_000003.h5', which is missing" in refused(detector / 'links.h5', 'file')
    assert "missing: 'none'" in refused(detector / 'links.h5', 'item')
    assert "missing: 'none'" in refused(detector / 'links.h5', 'soft')


def numbered(path, source, dataset=b'd'):
    """Write a virtual dataset of blocks of two frames from sources that are numbered."""
    space = h5py.h5s.create_simple((2, 4, 4), (h5py.h5s.UNLIMITED, 4, 4))
    space.select_hyperslab((0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (2, 1, 1), (2, 4, 4))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_virtual(space, source, dataset, h5py.h5s.create_simple((2, 4, 4)))
    with h5py.File(path, 'a') as file:
        h5py.h5d.create(file.id, b'v', h5py.h5t.NATIVE_UINT16, space, plist)


def test_hdf_02_numbered_sources_are_all_there(tmp_path):
    for number in range(3):
        with h5py.File(tmp_path / f'part_{number}.h5', 'w') as file:
            file['d'] = FRAMES[2 * number : 2 * number + 2]
        with h5py.File(tmp_path / 'own.h5', 'a') as file:
            file[f'd{number}'] = FRAMES[2 * number : 2 * number + 2]
    numbered(tmp_path / 'v.h5', b'part_%b.h5')
    numbered(tmp_path / 'own.h5', b'.', b'd%b')
    for name in ('v.h5', 'own.h5'):
        np.testing.assert_array_equal(read(tmp_path / name, 'v'), FRAMES)
    (tmp_path / 'part_1.h5').unlink()
    with h5py.File(tmp_path / 'own.h5', 'a') as file:
        del file['d1']
    assert "missing: 'd' of part_1.h5" in refused(tmp_path / 'v.h5', 'v')
    assert "missing: 'd1' of" in refused(tmp_path / 'own.h5', 'v')
    (tmp_path / 'part_0.h5').unlink()
    assert "'part_0.h5', which is missing" in refused(tmp_path / 'v.h5', 'v')


def virtual(path, file_name, shape=(4, 4), **limits):
    with h5py.File(path, 'w') as file:
        layout = h5py.VirtualLayout(shape, 'f4', **limits)
        layout[:] = h5py.VirtualSource(file_name, 'd', shape)
        file.create_virtual_dataset('d', layout)


def test_hdf_02_frames_that_come_from_no_file_are_not_zeros(detector):
    for frames, sentence in ((4, '2 of whose 6 frames come from no file'), (5, '1 of whose 6')):
        path = detector / f'master{frames}.h5'
        with h5py.File(path, 'w') as file:
            layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
            layout[:4] = h5py.VirtualSource('data_000001.h5', 'entry/data/data', (4, 4, 4))
            if frames == 5:
                layout[5:] = h5py.VirtualSource('data_000002.h5', 'entry/data/data', (2, 4, 4))[1:]
            file.create_virtual_dataset('d', layout)
        assert sentence in refused(path)


def test_hdf_02_a_gap_between_the_modules_of_a_detector_is_usual(detector):
    path = detector / 'modules.h5'
    with h5py.File(path, 'w') as file:
        layout = h5py.VirtualLayout((4, 4, 4), FRAMES.dtype)
        whole = h5py.VirtualSource('data_000001.h5', 'entry/data/data', (4, 4, 4))
        layout[:, :1], layout[:, 2:] = whole[:, :1], whole[:, 2:]
        file.create_virtual_dataset('d', layout)
    expected = FRAMES[:4].copy()
    expected[:, 1] = 0
    np.testing.assert_array_equal(read(path), expected)


def test_hdf_11_a_filter_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / 'x.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('d', data=FRAMES, chunks=(1, 4, 4), compression='gzip')
    stored = path.read_bytes()
    # Number, length of the name, flags and number of values come before its name.
    start = stored.index(b'deflate\0') - 8
    path.write_bytes(stored[:start] + (32_999).to_bytes(2, 'little') + stored[start + 2 :])
    assert "'d' is compressed by a filter that is not installed here (HDF5 number 32999)" in refused(path)


@pytest.mark.parametrize('name', ['.', 'a.h5', 'b.h5', 'link.h5'])
def test_hdf_03_a_virtual_dataset_in_itself_is_told_and_kills_nothing(tmp_path, name):
    virtual(tmp_path / 'a.h5', name)
    virtual(tmp_path / 'b.h5', 'a.h5')
    (tmp_path / 'link.h5').symlink_to('a.h5')
    found = in_child(CHILD, tmp_path / 'a.h5', folder=tmp_path)
    assert (found.returncode, found.stderr.count('\n')) == (1, 1), found
    assert 'a part of itself' in found.stderr


def test_hdf_03_virtual_datasets_in_one_another_are_read_and_bounded(tmp_path):
    with h5py.File(tmp_path / '0.h5', 'w') as file:
        file['d'] = np.full((4, 4), 7.0)
    for depth in range(1, 12):
        virtual(tmp_path / f'{depth}.h5', f'{depth - 1}.h5')
    assert read(tmp_path / '5.h5').sum() == 7 * 16
    assert 'deep' in refused(tmp_path / '11.h5')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='there are no named pipes')
@pytest.mark.parametrize('way', ['itself', 'link', 'virtual', 'raw'])
def test_hdf_04_nothing_but_regular_files_is_opened(tmp_path, way):
    pipe = tmp_path / 'pipe.h5'
    os.mkfifo(pipe)
    path = tmp_path / 'a.h5'
    if way == 'itself':
        path = pipe
    elif way == 'virtual':
        virtual(path, 'pipe.h5')
    else:
        with h5py.File(path, 'w') as file:
            if way == 'link':
                file['d'] = h5py.ExternalLink('pipe.h5', 'd')
            else:
                file.create_dataset('d', (4,), 'u1', external=[('pipe.h5', 0, UNLIMITED)])
    found = in_child(CHILD, path, folder=tmp_path)
    assert (found.returncode, found.stderr.count('\n')) == (1, 1), found
    assert 'is a named pipe' in found.stderr


def test_hdf_05_raw_data_lie_in_the_folder_of_the_file(tmp_path, monkeypatch):
    inner = tmp_path / 'scan'
    inner.mkdir()
    for folder, value in ((tmp_path, 1), (inner, 2)):
        (folder / 'raw.bin').write_bytes(bytes([value]) * 100)
    with h5py.File(inner / 'a.h5', 'w') as file:
        for name, raw, length in (
            ('d', 'raw.bin', 100),
            ('up', '../raw.bin', 100),
            ('absolute', '/etc/passwd', 10),
            ('short', 'raw.bin', 101),
        ):
            file.create_dataset(name, (length,), 'u1', external=[(raw, 0, UNLIMITED)])
    monkeypatch.chdir(tmp_path)
    assert read(inner / 'a.h5').sum() == 200
    with open_hdf5(inner / 'a.h5') as file:
        first = file.dataset('d')
        assert first[:3].sum() + file.dataset('d')[:3].sum() == 12
    assert 'outside its own folder' in refused(inner / 'a.h5', 'up')
    assert 'outside its own folder' in refused(inner / 'a.h5', 'absolute')
    assert 'cut short' in refused(inner / 'a.h5', 'short')


def test_hdf_07_no_more_is_declared_than_there_can_be(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file.create_dataset('chunks', (1 << 15, 1 << 14), 'c8', chunks=(64, 64))
        file.create_dataset('one', (1 << 15, 1 << 14), 'c8', chunks=(1 << 14, 1 << 14), compression='gzip')
        file.create_dataset('plain', (1 << 15, 1 << 14), 'c8')
        file.create_dataset('small', (64, 64), 'f4')
        file.create_dataset('mask', (4371, 4150), 'u4', chunks=(4371, 4150), compression='gzip')
        file['mask'][0, 0] = 1
        file['text'] = ['a', 'b']
        file['empty'] = h5py.Empty('f4')
    for name in ('chunks', 'one', 'plain'):
        assert 'declares 32768 × 16384 values of type complex64, which take 4295 MB' in refused(path, name)
    assert read(path, 'small').sum() == 0
    assert read(path, 'mask').sum() == 1
    assert 'expected numbers' in refused(path, 'text')
    assert 'expected numbers' in refused(path, 'empty')


def test_hdf_07_a_plain_dataset_ends_within_its_file(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file['d'] = np.ones(100_000, np.uint8)
        offset = file['d'].id.get_offset()
    whole = path.read_bytes()
    assert offset + 100_000 <= len(whole)
    assert read(path).sum() == 100_000
    for lie in (100_000 + len(whole), 10_000_000):
        path.write_bytes(whole.replace((100_000).to_bytes(8, 'little'), lie.to_bytes(8, 'little')))
        assert 'a.h5' in refused(path)


def test_hdf_08_walks_are_linear_and_bounded(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        group = file
        for _ in range(20):
            group = group.create_group('g')
        group['d'] = FRAMES
        group['again'] = file['g']
    with open_hdf5(path) as file:
        assert [name.count('/') for name, _ in file.walk()] == [*range(20), 20]
    with h5py.File(path, 'w') as file:
        group = file
        for _ in range(5000):
            group = group.create_group('g')
    with open_hdf5(path) as file, pytest.raises(DataValueError, match='100 deep'):
        list(file.walk())


def test_hdf_09_a_file_that_another_program_writes_is_called_so(tmp_path):
    path = tmp_path / 'a.h5'
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'w'); f['d'] = 1; print('', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline()
        sentence = refused(path)
        writer.communicate('\n')
    assert 'is being written by another program; wait' in sentence


def test_hdf_10_a_file_that_changes_meanwhile_is_told(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file['d'] = FRAMES

    def read_while_it_grows():
        with open_hdf5(path) as file:
            assert file.dataset('d')[()].sum() == FRAMES.sum()
            with path.open('ab') as stream:
                stream.write(b'more')

    with pytest.raises(DataValueError, match=r'a\.h5 changed while it was read'):
        read_while_it_grows()


def write_numbers(path, value):
    with h5py.File(path, 'w') as file:
        file['d'] = np.full((50, 50), value)
    return path


def test_hdf_10_a_file_that_is_replaced_meanwhile_is_read_whole(tmp_path):
    """As our own writers do it: what is open stays what it was."""
    path, new = write_numbers(tmp_path / 'a.h5', 1), write_numbers(tmp_path / 'new', 2)
    with open_hdf5(path) as file:
        new.replace(path)
        assert file.dataset('d')[()].sum() == 2500
    with open_hdf5(path) as file:
        path.unlink()
        assert file.dataset('d')[()].sum() == 5000


def test_hdf_10_an_open_file_that_is_written_and_then_replaced_is_told(tmp_path):
    path, new = write_numbers(tmp_path / 'a.h5', 1), write_numbers(tmp_path / 'new', 2)

    def read():
        with open_hdf5(path):
            with path.open('ab') as stream:
                stream.write(b'more')
            new.replace(path)

    with pytest.raises(DataValueError, match=r'a\.h5 changed while it was read'):
        read()


def test_hdf_10_the_state_of_a_file_is_that_of_what_was_opened(tmp_path, monkeypatch):
    """Replaced after it was looked at, and before it was opened."""
    path, new = write_numbers(tmp_path / 'a.h5', 1), tmp_path / 'new'
    with h5py.File(new, 'w') as file:
        file['d'] = np.full((500, 500), 2)
    real = h5py.File

    def late(name, *args, **kwargs):
        if name == path and new.exists():
            new.replace(path)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(h5py, 'File', late)
    with open_hdf5(path) as file:
        assert file.state == regular_state(path)
        assert file.dataset('d')[()].sum() == 500_000


def test_hdf_10_another_file_than_the_one_seen_before_is_told(tmp_path):
    path, new = write_numbers(tmp_path / 'a.h5', 1), write_numbers(tmp_path / 'new', 2)
    with open_hdf5(path) as file:
        state = file.state
    new.replace(path)

    def read():
        with open_hdf5(path, state=state):
            pass

    with pytest.raises(
        DataValueError, match=r'a\.h5 changed while it was read \(another file took its place\)'
    ):
        read()


def test_hdf_07_attributes_are_short(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file.attrs['name'] = 'µm'
        file.attrs['many'] = ['a'] * 2000
        lists = h5py.h5t.vlen_create(h5py.h5t.NATIVE_DOUBLE)
        h5py.h5a.create(file.id, b'lists', lists, h5py.h5s.create_simple((2000,)))
    with open_hdf5(path) as file:
        assert file.attrs['name'] == 'µm'
        assert file.attrs.get('none') is None
        assert set(file.attrs) == {'name', 'many', 'lists'}
        for name in ('many', 'lists'):
            with pytest.raises(DataValueError, match=name):
                file.attrs[name]


def test_a_group_whose_names_cannot_be_read_is_told(tmp_path):
    path = tmp_path / 'a.h5'
    with h5py.File(path, 'w') as file:
        file['x'] = np.arange(3)
    data = bytearray(path.read_bytes())
    # Where the free space of the names begins, after signature, version and size.
    place = data.index(b'HEAP') + 16
    data[place : place + 8] = (12345).to_bytes(8, 'little')
    path.write_bytes(data)
    with pytest.raises(DataValueError, match=r'a\.h5.* cannot be read'), open_hdf5(path) as file:
        list(file)
