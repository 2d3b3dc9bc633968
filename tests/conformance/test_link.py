"""doctor, link and gui with an editable Ptychodus, and with a wheel that lost its plugin file (API-09)."""

from __future__ import annotations

import os
import site
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import HERE, PATIENCE_S, PLUGIN, Finished, runner
from releases import unpack

pytestmark = [pytest.mark.ptychodus, pytest.mark.usefixtures('ptychodus_plugin')]

ROOT = HERE.parents[1]
LISTED = 'Ptychodus lists PtychoPINN / PINN, Supervised and Physics'
MISSING = 'missing: Ptychodus looks for'


def says(run: Finished, words: object) -> bool:
    """Return whether a command printed `words`, wherever it broke its lines."""
    return ''.join(str(words).split()) in ''.join(run.log.split())


class Environment:
    """A virtual environment whose packages are added by path, as editable installs are.

    Parameters
    ----------
    folder : Path
        Where to make it.
    first : list of Path
        Go before the packages of the environment that runs the tests, which serve as dependencies.
    """

    def __init__(self, folder: Path, first: list[Path], environment: dict[str, str]) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / 'bin' / 'python'
        (self.site,) = folder.glob('lib/python*/site-packages')
        lines = [*first, *site.getsitepackages()]
        (self.site / '__editable__.pth').write_text('\n'.join(map(str, lines)) + '\n')
        clean = {k: v for k, v in environment.items() if k != 'PYTHONPATH'}
        self._run = runner(str(self.python), clean, PATIENCE_S)

    def ptychopinn(self, *arguments: object) -> Finished:
        return self._run('-m', 'ptycho_engine', *arguments)

    def lists_ours(self) -> bool:
        """Return whether the unmodified Ptychodus lists our algorithms there."""
        code = 'from ptychopinn_ptychodus.commands import examine; print("OK", examine().ok)'
        return bool(self._run('-c', code).lines('OK True'))


posix = pytest.mark.skipif(os.name != 'posix', reason='the layout of a POSIX virtual environment')


@pytest.fixture
def editable(tmp_path: Path, environment: dict[str, str]) -> tuple[Environment, Path]:
    """Return an environment with a clone of Ptychodus, as an editable install makes it, and its plugins."""
    clone = tmp_path / 'clone'
    unpack('1.7.0', clone / 'src', plugin=False)
    here = Environment(tmp_path / 'env', [clone / 'src', ROOT], environment)
    (info,) = (clone / 'src').glob('ptychodus-*.dist-info')
    info.rename(here.site / info.name)
    return here, clone / 'src' / 'ptychodus' / 'plugins'


@posix
def test_an_editable_ptychodus_is_found_wanting_linked_and_unlinked(
    editable: tuple[Environment, Path], scan_copy: Path, tmp_path: Path
) -> None:
    """API-09: the installer cannot put the file into a clone; doctor says so and link mends it."""
    here, plugins = editable
    report = here.ptychopinn('doctor')
    assert report.code == 1
    assert says(report, f'{MISSING} {plugins / PLUGIN}')
    assert not says(report, 'PTYCHOPINN_PTYCHODUS'), 'not the cause'
    assert not says(report, LISTED)

    from scan_maker import write_settings

    write_settings(scan_copy, {'PtychoPINNInference': {'ModelPath': '/nowhere/model.zip'}})
    started = here.ptychopinn('gui', '--', '-b', 'reconstruct', '-i', scan_copy, '-o', tmp_path / 'OUT')
    assert started.code == 1, 'gui needs no plugin file: the run is ours and says what is missing'
    assert says(started, 'There is no model at /nowhere')

    linked = here.ptychopinn('link')
    assert linked.code == 0, linked.log
    assert says(linked, f'Wrote {plugins / PLUGIN}')
    assert here.lists_ours()

    assert says(here.ptychopinn('link', '--remove'), 'Removed')
    assert not (plugins / PLUGIN).exists()


@posix
def test_another_environment_is_linked_by_its_python(
    editable: tuple[Environment, Path], environment: dict[str, str]
) -> None:
    """API-09: ``link --python``, from here into there and back."""
    there, plugins = editable
    ours = runner(sys.executable, environment, PATIENCE_S)
    for words, left in (((), True), (('--remove',), False)):
        done = ours('-m', 'ptycho_engine', 'link', '--python', there.python, *words)
        assert done.code == 0, done.log
        assert says(done, str(plugins / PLUGIN))
        assert (plugins / PLUGIN).exists() == left


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build our own wheel, as pip would."""
    hatchling = pytest.importorskip('hatchling.build', reason='pip install hatchling')
    folder = tmp_path_factory.mktemp('wheel')
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return folder / hatchling.build_wheel(str(folder))
    finally:
        os.chdir(before)


@posix
def test_a_wheel_restores_the_plugin_file_that_it_lost(
    wheel: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """API-08, API-09: the wheel holds the file twice, where Ptychodus looks and where link finds it again."""
    here = Environment(tmp_path / 'env', [], environment)
    unpack('1.7.0', here.site, plugin=False)
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if name.startswith('ptychodus/')]
        archive.extractall(here.site)
    assert inside == [f'ptychodus/plugins/{PLUGIN}']
    plugin = here.site / 'ptychodus' / 'plugins' / PLUGIN
    assert plugin.read_bytes() == (ROOT / 'ptychopinn_ptychodus' / 'plugins' / PLUGIN).read_bytes()

    refused = here.ptychopinn('link', '--remove')
    assert refused.code == 2
    assert says(refused, 'belongs to the installed package')

    plugin.unlink()
    assert says(here.ptychopinn('link'), f'Wrote {plugin}')
    assert here.lists_ours()
