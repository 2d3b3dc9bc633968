import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from ptycho_engine.errors import EngineError
from ptycho_engine.io import mapping
from ptycho_engine.io.mapping import scratch_array


def test_mem_04_a_scratch_file_has_no_name_and_keeps_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    scratch = scratch_array((1000, 8, 8), np.complex64, 'A test')
    assert not list(tmp_path.iterdir())
    values = np.random.default_rng(0).standard_normal((1000, 8, 8)).astype(np.complex64)
    scratch.array[:] = values
    scratch.release()
    np.testing.assert_array_equal(scratch.array, values)


RESIDENT = """
import os
import numpy as np
from ptycho_engine.io.mapping import scratch_array

def resident_mb():
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') >> 20

scratch = scratch_array((64, 1 << 20), np.uint8, 'A test')
before = resident_mb()
scratch.array[:] = 1
touched = resident_mb()
scratch.release()
released = resident_mb()
assert scratch.read(slice(None)).all()
print(touched - before, released - before, resident_mb() - before)
"""


@pytest.mark.skipif(
    not os.path.exists('/proc/self/statm'), reason='resident memory is read as Linux tells it'
)
def test_mem_09_pages_that_were_touched_are_given_back(tmp_path):
    """In a process of its own: what other tests have left running allocates too."""
    told = subprocess.run(
        [sys.executable, '-c', RESIDENT],
        env={**os.environ, 'TMPDIR': str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    touched, released, read = (int(megabytes) for megabytes in told.stdout.split())
    assert touched > 60
    assert released < 8
    # What is read is a copy of 64 MB, which is gone again; the pages that were read for it are too.
    assert read < 8


@pytest.mark.skipif(not hasattr(os, 'posix_fallocate'), reason='room can be reserved on POSIX only')
def test_mem_04_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))

    def full(descriptor, offset, size):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(mapping.os, 'posix_fallocate', full)
    with pytest.raises(EngineError, match=r'A test needs 8\.0 GB of scratch space in .*TMPDIR'):
        scratch_array((1000, 1000, 1000), np.float64, 'A test')
    assert not list(tmp_path.iterdir())


def test_mem_04_a_temporary_folder_that_cannot_be_used_is_said_once(tmp_path, monkeypatch, caplog):
    """Python passes over such a TMPDIR without a word."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    scratch_array((10,), np.float64, 'A test')
    assert not caplog.records
    monkeypatch.setenv('TMPDIR', '/nonexistent')
    for _ in range(2):
        scratch_array((10,), np.float64, 'A test')
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f'TMPDIR is /nonexistent, which cannot be used; scratch files lie in {tmp_path}.'
    )
