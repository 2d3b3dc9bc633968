"""What will fail when results are written is found before they are computed; the trial leaves nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptycho_engine.errors import ConfigError, OutputError
from ptycho_engine.io import preflight
from ptycho_engine.io.preflight import require_file_writable, require_room, require_writable

needs_root = pytest.mark.skipif(
    os.name != 'posix' or os.geteuid() != 0 or shutil.which('setpriv') is None,
    reason='only root can become another user',
)


@pytest.mark.parametrize('place', ['.', 'new', 'new/deeper/ä b\n'])
def test_out_01_what_can_be_written_is_tried_without_a_trace(tmp_path, place):
    require_writable(tmp_path / place, ['product.h5', 'x' * 255])
    assert list(tmp_path.iterdir()) == []


def blocked_by_file(folder: Path) -> str:
    (folder / 'file').write_text('')
    return 'file/out'


def blocked_by_a_link_to_nowhere(folder: Path) -> str:
    (folder / 'link').symlink_to(folder / 'nowhere' / 'at all')
    return 'link'


def too_long(folder: Path) -> str:
    return 'x' * 256


@pytest.mark.parametrize(
    ('block', 'words'),
    [
        (blocked_by_file, 'file is a file'),
        (blocked_by_a_link_to_nowhere, 'is a link to nowhere'),
        (too_long, 'File name too long'),
    ],
)
def test_out_01_a_folder_that_cannot_be(tmp_path, block, words):
    place = block(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OutputError, match=words):
        require_writable(tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == before


def test_out_01_what_lies_where_a_file_will_go(tmp_path):
    (tmp_path / 'product.h5').mkdir()
    with pytest.raises(OutputError, match='a folder has that name'):
        require_writable(tmp_path, ['other.h5', 'product.h5'])
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OutputError, match='a device or a pipe'):
        require_file_writable(tmp_path / 'pipe')
    with pytest.raises(OutputError, match='a device or a pipe'):
        require_file_writable(Path('/dev/null'))
    with pytest.raises(OutputError, match='File name too long'):
        require_file_writable(tmp_path / ('x' * 253 + '.h5'))
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    require_file_writable(tmp_path / 'link')


def test_out_02_an_input_is_never_the_output(tmp_path):
    scan = tmp_path / 'scan.npz'
    scan.write_text('')
    (tmp_path / 'same.npz').hardlink_to(scan)
    for output in ('scan.npz', 'same.npz', '../' + tmp_path.name + '/scan.npz'):
        with pytest.raises(ConfigError, match='would replace'):
            require_file_writable(tmp_path / output, inputs=[scan])
    require_file_writable(tmp_path / 'other.npz', inputs=[scan])


def test_out_03_a_disk_without_room(tmp_path, monkeypatch):
    require_room(tmp_path / 'new', 1000, 'the result')
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(preflight.shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(OutputError, match=r'room for 3\.0 MB, but the result will take about 2\.5 GB'):
        require_room(tmp_path / 'new', 2.5e9, 'the result')


def test_out_01_a_disk_that_takes_nothing(tmp_path, monkeypatch):
    """A full disk or a used-up quota lets an empty file be made."""

    def full(descriptor: int) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(preflight.os, 'fsync', full)
    with pytest.raises(OutputError, match='No space left on device'):
        require_writable(tmp_path / 'new')
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach; pytest closes its own to them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@needs_root
def test_out_01_a_folder_that_may_not_be_written_to(open_folder):
    sticky = open_folder / 'sticky'
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / 'product.h5').write_text('')
    code = (
        'import sys\nfrom pathlib import Path\n'
        'from ptycho_engine.errors import OutputError\n'
        'from ptycho_engine.io.preflight import require_writable\n'
        'for place in ("new", ".", "sticky"):\n'
        '    try:\n'
        '        require_writable(Path(sys.argv[1]) / place, ["product.h5"])\n'
        '    except OutputError as error:\n'
        '        print(error)\n'
    )
    done = subprocess.run(
        [
            *('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'),
            *(sys.executable, '-c', code, str(open_folder)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0 and 'ermission' in done.stderr:
        pytest.skip('another user may not run this Python')
    new, here, others = done.stdout.splitlines()
    assert 'may not be written to (Permission denied)' in new
    assert 'may not be written to (Permission denied)' in here
    assert 'belongs to somebody else' in others
