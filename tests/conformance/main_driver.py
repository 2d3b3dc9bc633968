"""Runs ``ptychodus.__main__.main()`` for several command lines in one process, to pay its start-up once.

Reads ``[[name, [argument, ...]], ...]`` as JSON from standard input, and writes ``{name: [exit code, log]}``
to the file given as the only argument.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from pathlib import Path


def run(arguments: list[str]) -> tuple[int, str]:
    from ptychodus.__main__ import main

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter('[%(levelname)s] %(name)s: %(message)s'))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    sys.argv = ['ptychodus', *arguments]
    try:
        code = int(main())
    except Exception:  # noqa: BLE001  what the interpreter would do with it
        code = 1
        log.write(traceback.format_exc())
    finally:
        root.removeHandler(handler)
    return code, log.getvalue()


if __name__ == '__main__':
    import ptychodus

    print(ptychodus.__file__)
    cases = json.load(sys.stdin)
    Path(sys.argv[1]).write_text(json.dumps({name: run(arguments) for name, arguments in cases}))
