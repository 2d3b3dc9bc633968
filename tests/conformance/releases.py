"""Ptychodus releases beside the installed one: their wheels, downloaded once and unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import HERE, PLUGIN, absent

__all__ = ['SUPPORTED', 'environment_of', 'unpack', 'wheel_of']

ROOT = HERE.parents[1]
SUPPORTED = ('1.5.1', '1.6.0', '1.7.0')


def wheel_of(release: str) -> Path:
    """Return the wheel of a release, downloaded where it is not there yet."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    folder = cache / 'ptychopinn-ptychodus-wheels'
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(folder.glob(f'ptychodus-{release}-*.whl'))):
        done = subprocess.run(
            [
                *(sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--only-binary', ':all:'),
                *('--dest', str(folder), f'ptychodus=={release}'),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = sorted(folder.glob(f'ptychodus-{release}-*.whl'))
        if done.returncode != 0 or not found:
            absent(f'The wheel of Ptychodus {release} cannot be had: {done.stderr.strip()[-300:]}')
    return found[0]


def unpack(release: str, folder: Path, *, plugin: bool) -> Path:
    """Unpack a release's wheel into `folder`, with the plugin file as our wheel would put it, or without."""
    with zipfile.ZipFile(wheel_of(release)) as archive:
        archive.extractall(folder)
    if plugin:
        shutil.copy(ROOT / 'ptychopinn_ptychodus' / 'plugins' / PLUGIN, folder / 'ptychodus' / 'plugins')
    return folder


def environment_of(tree: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` with an unpacked release, and this checkout, before what is installed."""
    return {**environment, 'PYTHONPATH': os.pathsep.join(map(str, (tree, ROOT)))}
