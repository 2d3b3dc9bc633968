"""Putting the plugin file where a Ptychodus looks that the installer did not know.

That is an editable clone of Ptychodus, or a Ptychodus in another environment.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ptycho_engine.errors import EngineError
from ptycho_engine.io.atomic import atomic_path

from .commands import PLUGIN_FILE, plugin_path

__all__ = ['LinkError', 'link', 'plugin_source', 'plugins_folder', 'unlink']

DISTRIBUTION = 'ptychopinn-ptychodus'
INSIDE = ('plugins', 'ptychodus/plugins', 'src/ptychodus/plugins')
"""Where the plugins of a clone or of an installed package are, seen from the folder that the user names."""

ASK = """
import importlib.util, json
import ptychodus.plugins as plugins
print(json.dumps({
    'folder': list(plugins.__path__)[0],
    'ours': importlib.util.find_spec('ptychopinn_ptychodus') is not None,
}))
"""


class LinkError(EngineError, RuntimeError):
    """The plugin file cannot be put where it belongs."""


def plugin_source() -> Path:
    """Return the plugin file as this package holds it, from which lost ones are restored.

    Raises
    ------
    LinkError
        If it was lost.
    """
    path = Path(__file__).parent / 'plugins' / PLUGIN_FILE
    if not path.is_file():
        raise LinkError(
            'This installation has lost its plugin file; in the folder of the project run: '
            'python -m pip install --force-reinstall --no-deps .'
        )
    return path


def _installed_files() -> Iterator[Path]:
    """Yield the plugin files that the installer knows of."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if file.name == PLUGIN_FILE)


def plugins_folder(ptychodus: Path | None = None, python: Path | None = None) -> Path:
    """Return the folder in which a Ptychodus looks for plugins.

    Parameters
    ----------
    ptychodus : Path, optional
        A clone of Ptychodus, or its package folder.
    python : Path, optional
        The Python of another environment. With neither, this environment counts.

    Raises
    ------
    LinkError
        If there is no Ptychodus, or the other environment lacks this package.
    """
    if ptychodus is not None:
        for inner in INSIDE:
            folder = ptychodus / inner
            if (folder / '__init__.py').is_file() or (folder.is_dir() and folder.parent.name == 'ptychodus'):
                return folder
        raise LinkError(
            f'{ptychodus} is no Ptychodus: expected the folder of a clone, or ptychodus/ with plugins/ in it.'
        )
    if python is not None:
        return _folder_of_other(python)
    here = plugin_path()
    if here is None:
        raise LinkError(
            'Ptychodus is not installed in this environment; name its clone with --ptychodus, or the Python '
            'of its environment with --python.'
        )
    return here.parent


def _folder_of_other(python: Path) -> Path:
    try:
        done = subprocess.run(
            [str(python), '-c', ASK], capture_output=True, text=True, timeout=60, check=False
        )
        report = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        raise LinkError(
            f'{python} has no Ptychodus; give the Python of the environment in which it is installed.'
        ) from None
    if not report['ours']:
        raise LinkError(
            f'{python} has Ptychodus but not this package; in the folder of the project run: '
            f'{python} -m pip install .'
        )
    return Path(report['folder'])


def link(folder: Path) -> tuple[Path, bool]:
    """Put the plugin file into a folder of plugins; return its path and whether anything changed."""
    target = folder / PLUGIN_FILE
    text = plugin_source().read_text(encoding='utf-8')
    if target.is_file() and target.read_text(encoding='utf-8') == text:
        return target, False
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return target, True


def unlink(folder: Path) -> tuple[Path, bool]:
    """Take the plugin file away; return its path and whether it was there.

    Raises
    ------
    LinkError
        If the installer put it there, who would miss it, or it is the source itself.
    """
    target = folder / PLUGIN_FILE
    if not target.is_file():
        return target, False
    if any(path.resolve() == target.resolve() for path in (plugin_source(), *_installed_files())):
        raise LinkError(
            f'{target} belongs to the installed package; set PTYCHOPINN_PTYCHODUS=off to switch the plugin '
            f'off, or run: pip uninstall {DISTRIBUTION}'
        )
    target.unlink()
    return target, True
