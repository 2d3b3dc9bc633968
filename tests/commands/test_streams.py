"""Standard output that is closed, cut off, full or without our characters; Ctrl-C before a run begins.

CFG-14, CFG-16 and CFG-17.
"""

import os
import signal
import subprocess
import sys
import time

import h5py
import pytest

from ptycho_engine.formats.product import write_product
from tests.conftest import flat_product

INTERRUPTED, FAILURE, BROKEN_PIPE = 130, 1, 141
COMMAND = [sys.executable, '-m', 'ptycho_engine']


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'p.h5'
    write_product(path, flat_product())
    with h5py.File(path, 'r+') as opened:
        opened.attrs['name'] = '5 µm × 図 \x1b[31m'
    return path


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ['bash', '-c', f'set -o pipefail; {line}'],
        env={**os.environ, 'RUN': ' '.join(COMMAND), **environment},
        capture_output=True,
        encoding='utf-8',
        errors='replace',
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ('redirection', 'code'),
    [('', 0), ('>&-', 0), ('2>&-', 0), ('>&- 2>&- <&-', 0), ('| true', BROKEN_PIPE), ('>/dev/full', FAILURE)],
)
def test_cfg_16_output_that_nobody_takes_is_no_traceback(file, redirection, code):
    done = shell(f'$RUN validate-product {file} {redirection}')
    assert done.returncode == code, done.stderr
    assert 'Traceback' not in done.stderr
    assert 'Exception ignored' not in done.stderr
    assert len(done.stderr.splitlines()) == (code == FAILURE)


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
def test_cfg_16_characters_that_cannot_be_encoded_are_spelled(file, encoding):
    done = shell(f'$RUN validate-product {file}', PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, '')


def test_cfg_16_prose_is_spelled_in_ascii(tmp_path):
    line = f'$RUN simulate --output {tmp_path / "s"} --points 2x2 --size 16'
    done = shell(line, PYTHONIOENCODING='ascii', LC_ALL='C')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('Wrote 4 patterns of 16x16 pixels')


@pytest.mark.parametrize('command', ['', 'train', 'convert-product'])
def test_cfg_16_help_is_printed_in_ascii(command):
    done = shell(f'$RUN {command} --help', PYTHONIOENCODING='ascii', LC_ALL='C')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'usage' in done.stdout


@pytest.mark.skipif(os.name != 'posix', reason='signals')
def test_cfg_17_ctrl_c_while_a_command_starts(tmp_path):
    """During imports and while arguments are read: one line, no traceback, exit code 130."""
    started = tmp_path / 'started'
    code = (
        'import sys, pathlib, importlib\n'
        'from ptycho_engine.commands import main\n'
        'find = importlib.import_module\n'
        'def slow(*arguments):\n'
        f'    pathlib.Path({str(started)!r}).touch()\n'
        '    import time\n'
        '    try:\n'
        '        time.sleep(60)\n'
        '    except BaseException as error:\n'
        '        raise ImportError("as extension modules do") from error\n'
        'importlib.import_module = slow\n'
        "sys.exit(main(['inspect', 'model']))\n"
    )
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.strip()) == (INTERRUPTED, 'ptychopinn: interrupted')
