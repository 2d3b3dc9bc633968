"""HDF5 files on a disk that is full (DISK-07)."""

import errno
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.io.hdf5_writing import new_hdf5_file

PATTERNS = np.random.default_rng(0).integers(0, 1000, (200, 64, 64)).astype(np.uint16)
PACKED = {'chunks': (1, 64, 64), 'compression': 'lzf', 'fletcher32': True}

LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    import numpy as np
    from ptycho_engine.commands import main
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize('options', [{}, PACKED], ids=['plain', 'packed'])
def test_what_is_written_is_read_again(tmp_path, options):
    path = tmp_path / 'x.h5'
    path.write_bytes(b'before')
    with new_hdf5_file(path) as file:
        file.create_dataset('patterns', data=PATTERNS, **options)
        file.create_group('a').attrs['b'] = 'c'
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file['patterns'][()], PATTERNS)
        assert file['a'].attrs['b'] == 'c'
    assert [item.name for item in tmp_path.iterdir()] == ['x.h5']


def test_an_error_of_the_writer_passes_and_the_earlier_file_stays(tmp_path):
    path = tmp_path / 'x.h5'
    path.write_bytes(b'before')

    def write() -> None:
        with new_hdf5_file(path) as file:
            file['a'] = 1
            raise KeyError('mine')

    with pytest.raises(KeyError, match='mine'):
        write()
    assert path.read_bytes() == b'before'
    assert [item.name for item in tmp_path.iterdir()] == ['x.h5']


@pytest.mark.parametrize('kilobytes', [20, 100, 200])
@pytest.mark.parametrize('what', ['simulate', 'prepare'])
def test_disk_07_a_full_disk_ends_in_one_sentence(tmp_path, kilobytes, what):
    source, output = tmp_path / 'in', tmp_path / 'out'
    words = {
        'simulate': ['simulate', '--points', '10x10', '--size', '64', '--output', str(output)],
        'prepare': ['prepare', str(source), '--output', str(output)],
    }
    if what == 'prepare':
        assert main([*words['simulate'][:-1], str(source), '--quiet']) == 0
    found = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(LIMITED), str(1024 * kilobytes), *words[what]],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 1, found.stderr
    assert found.stderr.count('\n') == 1
    assert f'{output}' in found.stderr
    assert 'cannot be written: File too large.\n' in found.stderr
    assert 'Errno' not in found.stderr
    assert '.part' not in found.stderr
    assert not output.exists() or not list(output.iterdir())


def test_the_reason_is_that_of_the_system(tmp_path):
    resource = pytest.importorskip('resource')
    path = tmp_path / 'x.h5'

    def write() -> None:
        with new_hdf5_file(path) as file:
            for index, pattern in enumerate(PATTERNS):
                file.create_dataset(f'{index}', data=pattern, chunks=(64, 64), compression='lzf')

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match='File too large') as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert list(tmp_path.iterdir()) == []
