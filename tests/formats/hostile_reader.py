"""Read archives the way every program of ours does, each in a process of its own with little memory.

``python hostile_reader.py GOOD FOLDER`` prints, as JSON, what became of each file of the folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from ptycho_engine.commands import main
from ptycho_engine.errors import ArchiveError
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.formats.checkpoint import load_checkpoint
from ptychopinn_ptychodus.loaded_model import LoadedModel

MORE_BYTES = 600 << 20
SECONDS = 20

WATCHED = ('open', 'os.system', 'subprocess.Popen', 'socket.connect', 'os.exec', 'ctypes.dlopen', 'import')


def inspect(path: Path) -> None:
    """Run the command; raise what it complains of."""
    with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()):
        code = main(['inspect', str(path)])
    if code == 2:
        raise ArchiveError(errors.getvalue().rstrip('\n').removeprefix('ptychopinn inspect: '))
    assert code == 0, code


READERS: dict[str, Callable[[Path], object]] = {
    'load_archive': load_archive,
    'inspect': inspect,
    'the window': LoadedModel.open,
    'resume': load_checkpoint,
}


def read(path: Path) -> dict[str, object]:
    opened: list[str] = []
    pages = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + MORE_BYTES, pages + MORE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(lambda event, args: opened.append(f'{event} {args[0]}') if event in WATCHED else None)
    sentences: dict[str, str] = {}
    for name, reader in READERS.items():
        try:
            reader(path)
        except ArchiveError as error:
            sentences[name] = str(error)
        except BaseException as error:  # noqa: BLE001
            sentences[name] = f'NOT OURS: {type(error).__name__}: {error}'
        else:
            sentences[name] = ''
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        'sentences': sentences,
        'peak': usage.ru_maxrss << 10,
        'opened': sorted({entry for entry in opened if entry != f'open {path}'}),
        'cpu_s': usage.ru_utime + usage.ru_stime,
    }


def in_a_child(path: Path) -> dict[str, object]:
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiver)
        try:
            os.write(sender, json.dumps(read(path)).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, 'rb') as stream:
        answer = stream.read()
    _, status = os.waitpid(pid, 0)
    return {**json.loads(answer or b'{}'), 'status': status}


if __name__ == '__main__':
    good, folder = map(Path, sys.argv[1:])
    for reader in READERS.values():
        # What a reader imports when first used is loaded here.
        reader(good)
    print(json.dumps({path.name: in_a_child(path) for path in sorted(folder.iterdir())}))
