"""Checksums of scans: what is read whole is always checked, the rest on demand (VERIFY-*)."""

import h5py
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataValueError
from ptycho_engine.patterns import frame_stack as stored
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import load_scan, load_training_scans
from tests.conftest import small_scan


@pytest.fixture
def npz(tmp_path):
    """A scan whose patterns are stored, not compressed."""
    path = tmp_path / 'x.npz'
    small_scan(3, 32).to_file(path, compressed=False)
    return path


def flip(path, name='diffraction'):
    """Change one bit of the patterns: a number becomes another, just as likely."""
    data = bytearray(path.read_bytes())
    at = data.index(f'{name}.npy'.encode()) + 4000
    data[at] ^= 1
    path.write_bytes(data)


def test_verify_01_a_scan_that_is_read_whole_is_always_checked(npz):
    RawData.from_file(npz)
    flip(npz)
    with pytest.raises(DataValueError, match=r"x\.npz: 'diffraction' is damaged .*CRC"):
        RawData.from_file(npz)


@pytest.mark.parametrize('name', ['probeGuess', 'xcoords'])
def test_verify_01_arrays_beside_the_patterns_are_always_checked(npz, name):
    data = bytearray(npz.read_bytes())
    data[data.index(f'{name}.npy'.encode()) + 200] ^= 1
    npz.write_bytes(data)
    with pytest.raises(DataValueError, match=f"'{name}' is damaged.*CRC"):
        RawData.from_file(npz)


def test_verify_02_patterns_that_stay_in_their_file_are_checked_on_demand(npz, monkeypatch):
    monkeypatch.setattr(stored, 'MEMORY_LIMIT_BYTES', 0)
    for load in (load_scan, load_training_scans, RawData.from_file):
        load(npz, verify=True)
    flip(npz)
    RawData.from_file(npz, memory_limit=0)
    for load in (load_scan, load_training_scans, RawData.from_file):
        with pytest.raises(DataValueError, match=r"x\.npz: 'diffraction' is damaged; copy the file again"):
            load(npz, verify=True)


def test_verify_03_hdf5_is_checked_where_it_has_checksums_and_else_said(tmp_path, capsys):
    path = tmp_path / 'scan'
    assert main(['simulate', '--output', str(path), '--points', '3x3', '--size', '32', '--quiet']) == 0
    with h5py.File(path / 'diffraction.h5', 'r+') as file:
        counts = file['patterns'][()]
        del file['patterns']
        file.create_dataset('patterns', data=counts, chunks=(1, 32, 32), fletcher32=True)
        place = file['patterns'].id.get_chunk_info(4).byte_offset
    assert main(['doctor', '--data-only', '--verify', str(path)]) == 0
    assert 'has no checksum of bad_pixels, indexes' in capsys.readouterr().err
    data = bytearray((path / 'diffraction.h5').read_bytes())
    data[place + 100] ^= 1
    (path / 'diffraction.h5').write_bytes(data)
    with pytest.raises(DataValueError, match=r"diffraction\.h5: 'patterns' is damaged; copy the file again"):
        load_scan(path, verify=True)


def test_verify_05_directories_of_our_own_have_checksums(tmp_path):
    path = tmp_path / 'scan'
    assert main(['simulate', '--output', str(path), '--points', '3x3', '--size', '32', '--quiet']) == 0
    with h5py.File(path / 'diffraction.h5') as file:
        place = file['patterns'].id.get_chunk_info(4).byte_offset
    data = bytearray((path / 'diffraction.h5').read_bytes())
    data[place + 100] ^= 1
    (path / 'diffraction.h5').write_bytes(data)
    with pytest.raises(DataValueError, match=r"diffraction\.h5: 'patterns' cannot be read"):
        load_scan(path)


@pytest.mark.parametrize('command', ['prepare', 'train', 'reconstruct', 'doctor'])
def test_verify_04_every_command_that_reads_scans_can_check_them(npz, tmp_path, capsys, command, monkeypatch):
    monkeypatch.setattr(stored, 'MEMORY_LIMIT_BYTES', 0)
    flip(npz)
    words = {
        'prepare': ['--output', str(tmp_path / 'y.npz')],
        'train': ['--output', str(tmp_path / 'model'), '--epochs', '1'],
        'reconstruct': ['--output', str(tmp_path / 'out')],
        'doctor': ['--data-only'],
    }
    assert main([command, str(npz), *words[command], '--verify']) in (1, 2)
    said = capsys.readouterr()
    assert "'diffraction' is damaged" in ' '.join((said.out + said.err).split())
    assert not (tmp_path / 'y.npz').exists()
