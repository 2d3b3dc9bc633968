"""FMT-05, FMT-06: files of other programs are told for what they are, with how they are opened."""

import bz2
import gzip
import logging
import lzma

import h5py
import numpy as np
import pytest
import tifffile

from ptycho_engine.commands import main
from ptycho_engine.errors import DataKeyError, DataValueError
from ptycho_engine.formats.foreign_scan import foreign_scan
from ptycho_engine.scan.scan import load_scan
from tests.conftest import small_scan


@pytest.fixture(scope='module')
def raw():
    return small_scan(4, 32)


@pytest.fixture(scope='module')
def counts(raw):
    return np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.uint32)


def write_nexus(path, counts):
    with h5py.File(path, 'w') as file:
        file['entry/data/data'] = counts


def write_other(path, counts):
    with h5py.File(path, 'w') as file:
        file['stack'] = counts


def write_ours(path, counts):
    with h5py.File(path, 'w') as file:
        file['patterns'], file['indexes'] = counts, np.arange(len(counts))
        file['bad_pixels'] = np.zeros(counts.shape[1:], bool)


def write_matlab(path, counts):
    path.write_bytes(b'MATLAB 5.0 MAT-file' + bytes(200))


KINDS = {
    'master.h5': (write_nexus, 'a NeXus file'),
    'nd.hdf5': (write_nexus, 'a NeXus file'),
    'stack.h5': (write_other, 'an HDF5 file of another program (with stack)'),
    'diffraction.h5': (write_ours, 'patterns as Ptychodus exports them'),
    'old.mat': (write_matlab, 'a file of MATLAB'),
    'frames.tif': (lambda path, counts: tifffile.imwrite(path, counts), 'a TIFF image'),
    'frames.dat': (lambda path, counts: np.save(path.open('wb'), counts), 'an array of NumPy'),
}


@pytest.mark.parametrize('name', KINDS)
def test_fmt_05_a_file_of_patterns_says_what_it_is_and_how_it_is_opened(name, counts, tmp_path, capsys):
    write, what = KINDS[name]
    path = tmp_path / name
    write(path, counts)
    with pytest.raises(DataValueError) as raised:
        load_scan(path)
    sentence = str(raised.value)
    assert sentence.startswith(f'{path} is {what}')
    assert f'`ptychopinn reconstruct {path} --positions FILE' in sentence
    assert main(['reconstruct', str(path), '--output', str(tmp_path / 'out')]) == 2
    assert sentence in capsys.readouterr().err
    assert main(['doctor', '--data-only', str(path)]) == 1
    assert what in ' '.join(capsys.readouterr().out.split())


def test_fmt_05_an_array_of_patterns_asks_for_positions(counts, tmp_path, capsys):
    np.save(tmp_path / 'frames.npy', counts)
    assert main(['reconstruct', str(tmp_path / 'frames.npy'), '--output', str(tmp_path / 'out')]) == 2
    assert 'patterns alone; give their positions with --positions FILE' in capsys.readouterr().err


def test_fmt_05_arrays_of_other_names_are_named(counts, raw, tmp_path):
    np.savez(tmp_path / 'tike.npz', data=counts, scan=np.stack([raw.ycoords, raw.xcoords], 1))
    with pytest.raises(DataKeyError, match=r'found data, scan\..*tike\.npz::data --positions .*npz::scan '):
        load_scan(tmp_path / 'tike.npz')
    # Two that may be the patterns.
    np.savez(tmp_path / 'two.npz', data=counts, raw=counts, scan=np.stack([raw.ycoords, raw.xcoords], 1))
    with pytest.raises(DataKeyError, match=r'two\.npz::PATTERNS --positions .*npz::POSITIONS '):
        load_scan(tmp_path / 'two.npz')


@pytest.mark.parametrize(
    ('pack', 'program'), [(bz2.compress, 'bunzip2'), (gzip.compress, 'gunzip'), (lzma.compress, 'unxz')]
)
def test_fmt_05_a_file_that_is_packed_says_how_to_unpack_it(raw, tmp_path, capsys, pack, program):
    raw.to_file(tmp_path / 'scan.npz')
    path = tmp_path / 'scan.npz.packed'
    path.write_bytes(pack((tmp_path / 'scan.npz').read_bytes()))
    assert main(['reconstruct', str(path), '--output', str(tmp_path / 'out')]) == 2
    assert f'it is compressed as a whole; unpack it with {program})' in capsys.readouterr().err


def test_fmt_05_scans_of_ours_and_damage_are_left_alone(counts, raw, tmp_path):
    np.savez(tmp_path / 'scan.npz', diffraction=counts)
    (tmp_path / 'broken.h5').write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(64))
    with h5py.File(tmp_path / 'product.h5', 'w') as file:
        file['object'] = np.ones((4, 4), complex)
    for name in ('scan.npz', 'broken.h5', 'product.h5', 'absent.h5', '.'):
        assert foreign_scan(tmp_path / name) is None


def test_fmt_05_cxi_by_another_name_is_cxi(raw, tmp_path, capsys):
    np.savez(
        tmp_path / 'scan.npz',
        **{name: getattr(raw, name) for name in ('diffraction', 'probeGuess', 'xcoords', 'ycoords')},
    )
    assert main(['convert', str(tmp_path / 'scan.npz'), '--output', str(tmp_path / 'scan.cxi')]) == 0
    other = (tmp_path / 'scan.cxi').rename(tmp_path / 'cxi.h5')
    assert main(['convert', str(other), '--output', str(tmp_path / 'again.npz')]) == 0
    again = load_scan(tmp_path / 'again.npz').raw
    np.testing.assert_allclose(again.diffraction, raw.diffraction, atol=1e-4)
    with pytest.raises(DataValueError, match='is a CXI file; `ptychopinn convert'):
        load_scan(other)


def test_fmt_06_frames_of_a_grid_are_counted_through(counts, raw, tmp_path, caplog):
    grid = counts.reshape(4, 4, 32, 32)
    own = {name: getattr(raw, name) for name in ('probeGuess', 'xcoords', 'ycoords')}
    np.savez(tmp_path / 'grid.npz', diffraction=grid, **own)
    with caplog.at_level(logging.INFO):
        found = load_scan(tmp_path / 'grid.npz').raw
    np.testing.assert_array_equal(np.rint(found.diffraction**2), counts)
    assert 'the frames are a grid of 4×4' in caplog.text
    np.savez(tmp_path / 'other.npz', diffraction=grid[:3], **own)
    with pytest.raises(DataValueError, match=r'a grid of frames with one of 16 positions for each'):
        load_scan(tmp_path / 'other.npz')
