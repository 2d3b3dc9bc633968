"""Run the tutorials and keep the picture that each ends with: ``python docs/tutorials.py [NAME ...]``.

A notebook is stored without outputs; the pictures are in ``docs/pictures/tutorials``, where the site shows
them. All run in this process, in a folder of their own.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from small_png import write_small
from traitlets import Type

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE / 'tutorials').glob('*.ipynb'))
INLINE = 'module://matplotlib_inline.backend_inline'


@dataclass(frozen=True)
class Outcome:
    """What the cells of a notebook have printed and shown."""

    printed: str
    """Text of the last cell."""
    picture: bytes
    """PNG file that the last cell has shown; empty where it has shown none."""
    shown: tuple[dict[str, Any], ...]
    """Data of everything that was shown, by MIME type."""


class Hook(DisplayHook):
    """Shows the value of a cell's last line as `display` would, instead of printing it."""

    def write_output_prompt(self) -> None:
        """Print no number."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        """Show the value in all its forms."""
        self.shell.display_pub.publish(format_dict, md_dict)


class Shell(InteractiveShell):
    """Jupyter's shell without a window."""

    displayhook_class = Type(Hook)

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: pictures are shown inline."""


def run(path: Path) -> Outcome:
    """Run the cells of a notebook in the current folder, as Jupyter does, and return what came of it.

    Raises
    ------
    RuntimeError
        If a cell fails; the cause is the error itself.
    """
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    os.environ['MPLBACKEND'] = INLINE
    shell = Shell.instance()
    shell.reset(new_session=False)
    shown: list[dict[str, Any]] = []
    printed, picture = '', b''
    shell.run_line_magic('matplotlib', 'inline')
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != 'code':
            continue
        with capture_output() as captured:
            result = shell.run_cell(cell.source)
        if not result.success:
            error = result.error_before_exec or result.error_in_exec
            raise RuntimeError(f'{path.name}, cell {number}: {error}') from error
        outputs = [output.data for output in captured.outputs]
        shown += outputs
        pictures = [data['image/png'] for data in outputs if 'image/png' in data]
        printed, picture = captured.stdout, _bytes_of(pictures[-1]) if pictures else b''
    return Outcome(printed, picture, tuple(shown))


def _bytes_of(picture: bytes | str) -> bytes:
    """Return a picture; a figure is shown as base64, a `_repr_png_` as it is."""
    return picture if isinstance(picture, bytes) else base64.b64decode(picture)


def main() -> None:
    """Run the tutorials that are named, or all, and write their pictures."""
    from PIL import Image

    chosen = [path for path in NOTEBOOKS if not sys.argv[1:] or path.stem in sys.argv[1:]]
    folder = HERE / 'pictures' / 'tutorials'
    folder.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
            outcome = run(path)
        target = folder / f'{path.stem}.png'
        with Image.open(io.BytesIO(outcome.picture)) as picture:
            write_small(picture, target)
        print(f'{path.stem}: {" ".join(outcome.printed.split())}')


if __name__ == '__main__':
    main()
