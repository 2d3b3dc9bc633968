"""Runs batch mode of one Ptychodus for many settings files in one process, up to the start of a training.

Reads ``{"directory": IN, "files": {name: base64 of settings.ini}, "arguments": {name: [more arguments]}}`` as
JSON from standard input and writes ``{name: {code, log, followed}}`` to the file given as the only argument.
In place of the data there may be "folder", "pipe" or "link to nothing". ``followed`` holds the settings that
the training would have used, by ``Group.Key``, or is None where none was started.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from main_driver import run

registries: list[Any] = []
started: list[dict[str, str]] = []


def record(*_: object) -> Iterator[Any]:
    """Stand in for the training."""
    # The first is the program's; later ones serve to look up defaults.
    registry = registries[0]
    started.append(
        {
            f'{group}.{key}': parameter.get_value_as_string()
            for group in registry
            for key, parameter in registry[group].parameters().items()
        }
    )
    return iter(())


def put(path: Path, what: str) -> None:
    """Put a file, or what is none, in the place of what was there."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    if what == 'folder':
        path.mkdir()
    elif what == 'pipe':
        os.mkfifo(path)
    elif what == 'link to nothing':
        path.symlink_to(path.with_name('moved.ini'))
    else:
        path.write_bytes(base64.b64decode(what))


if __name__ == '__main__':
    import ptychodus
    from ptychodus.api.settings import SettingsRegistry

    from ptychopinn_ptychodus.install import install
    from ptychopinn_ptychodus.reconstructor import PtychoPINNReconstructor

    print(ptychodus.__file__)
    install()
    PtychoPINNReconstructor.train = record  # type: ignore[method-assign]
    get = queue.Queue.get
    # Ptychodus' threads look only once a second whether they should end.
    queue.Queue.get = lambda q, block=True, timeout=None: get(q, block, timeout and 0.02)  # type: ignore[method-assign]
    make = SettingsRegistry.__init__

    def remember(registry: SettingsRegistry) -> None:
        make(registry)
        registries.append(registry)

    SettingsRegistry.__init__ = remember  # type: ignore[method-assign]
    # Each run sets sys.argv.
    report_file = Path(sys.argv[1])
    asked = json.load(sys.stdin)
    directory = Path(asked['directory'])
    report = {}
    for name, what in asked['files'].items():
        put(directory / 'settings.ini', what)
        registries.clear()
        started.clear()
        more = asked['arguments'].get(name, [])
        code, log = run([*more, '-b', 'train', '-i', str(directory), '-o', str(directory.parent / 'OUT')])
        report[name] = {'code': code, 'log': log, 'followed': started[0] if started else None}
    report_file.write_text(json.dumps(report))
