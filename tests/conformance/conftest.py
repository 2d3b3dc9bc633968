"""Fixtures that drive the real Ptychodus; where it is missing tests are skipped, but never in CI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCRIPT = Path(sys.executable).parent / 'ptychodus'
IN_CI = os.environ.get('CI', '').casefold() == 'true'
PLUGIN = 'ptychopinn_reconstructor.py'
PATIENCE_S = 600
"""After this a command counts as hanging; a busy machine may take ten times as long as a quiet one."""
STORY_S = 3000
"""The same for a story of the window."""

sys.path.insert(0, str(HERE))
# Otherwise a check that fails does not say what it has seen.
pytest.register_assert_rewrite('window_checks')


def absent(reason: str) -> None:
    """Skip a test on somebody's machine; fail it in CI, where nothing may be missing."""
    if IN_CI:
        pytest.fail(f'{reason} (skipped outside CI)')
    pytest.skip(reason)


@dataclass(frozen=True)
class Finished:
    """A finished command."""

    code: int
    log: str

    def lines(self, *words: str) -> list[str]:
        """Return the log lines that hold all of `words`."""
        return [line for line in self.log.splitlines() if all(word in line for word in words)]


@pytest.fixture(scope='session')
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which runs neither see nor leave anything of the user's."""
    home = tmp_path_factory.mktemp('home')
    return {
        **os.environ,
        'HOME': str(home),
        'QT_QPA_PLATFORM': 'offscreen',
        'XDG_RUNTIME_DIR': str(home),
        # Two runs at once on two cores would wait for each other's threads at every operation.
        'OMP_NUM_THREADS': '1',
    }


@pytest.fixture(scope='session')
def ptychodus_plugin() -> Path:
    """Return the installed plugin file, which must be the one under test."""
    try:
        release = distribution('ptychodus').version
    except PackageNotFoundError:
        absent('Ptychodus is not installed; pip install "ptychodus[gui]"')
    import ptychodus.plugins

    path = Path(next(iter(ptychodus.plugins.__path__))) / PLUGIN
    if not path.is_file():
        absent(f'Ptychodus {release} does not hold {PLUGIN}; pip install -e .')
    source = HERE.parents[1] / 'ptychopinn_ptychodus' / 'plugins' / PLUGIN
    assert path.read_text() == source.read_text(), f'{path} is out of date; install the package again'
    return path


def runner(command: str, environment: dict[str, str], patience_s: float) -> Callable[..., Finished]:
    """Return a function that runs a command and keeps what it prints."""

    def run(*arguments: object, timeout: float = patience_s, **variables: str) -> Finished:
        done = subprocess.run(
            [command, *map(str, arguments)],
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Finished(done.returncode, done.stdout)

    return run


@pytest.fixture(scope='session')
def ptychodus(ptychodus_plugin: Path, environment: dict[str, str]) -> Callable[..., Finished]:
    """Return a function that runs the unmodified console script."""
    return runner(str(SCRIPT), environment, PATIENCE_S)


@pytest.fixture(scope='session')
def python(ptychodus_plugin: Path, environment: dict[str, str]) -> Callable[..., Finished]:
    """Return a function that runs Python code, or a script, in a fresh interpreter."""
    return runner(sys.executable, environment, PATIENCE_S)


@pytest.fixture(scope='session')
def window_libraries(python: Callable[..., Finished]) -> None:
    """Make sure that Qt can open a window on the offscreen platform."""
    done = python('-c', 'from PyQt5.QtWidgets import QApplication; QApplication([])')
    if done.code != 0:
        absent(f'Qt cannot open a window here: {done.log.strip().splitlines()[-1:]}')


@pytest.fixture(scope='session')
def scan(tmp_path_factory: pytest.TempPathFactory, ptychodus_plugin: Path) -> Path:
    """Return a Ptychodus directory with 64 patterns of 64×64 pixels and quick settings."""
    from scan_maker import simulated_scan, write_scan

    return write_scan(tmp_path_factory.mktemp('scan') / 'IN', simulated_scan())


def write_models(scan: Path) -> Path:
    """Write models beside a scan's directory: one that fits and three that differ from it."""
    from scan_maker import simulated_scan, write_model

    probe = simulated_scan().probeGuess
    write_model(scan.parent / 'model.zip', probe)
    write_model(scan.parent / 'other_probe.zip', probe[:, ::-1] ** 2)
    write_model(scan.parent / 'other_size.zip', simulated_scan(size=32, grid=2).probeGuess)
    write_model(scan.parent / 'other_network.zip', probe, gridsize=2)
    return scan


@pytest.fixture(scope='session')
def scan_with_models(scan: Path) -> Path:
    """Return the scan's directory, with untrained models beside it."""
    return write_models(scan)


@dataclass(frozen=True)
class Trained:
    """A finished batch training."""

    run: Finished
    out: Path


@pytest.fixture(scope='session')
def trained(scan: Path, ptychodus: Callable[..., Finished]) -> Trained:
    """Train once by the console script."""
    out = scan.parent / 'TRAINED'
    return Trained(ptychodus('-b', 'train', '-i', scan, '-o', out), out)


@pytest.fixture
def scan_copy(scan: Path, tmp_path: Path) -> Path:
    """Return a copy of the scan's directory to spoil."""
    import shutil

    return Path(shutil.copytree(scan, tmp_path / 'IN'))


@pytest.fixture(scope='module')
def tell(
    scan_with_models: Path, python: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Return a function that plays a story and returns its report."""

    cache = str(tmp_path_factory.mktemp('cache'))

    def play(story: str, directory: Path = scan_with_models, **variables: str) -> dict[str, Any]:
        work = tmp_path_factory.mktemp(story)
        variables = {'XDG_CACHE_HOME': cache, **variables}
        run = python(HERE / 'window_driver.py', story, directory, work, timeout=STORY_S, **variables)
        assert run.code == 0, run.log
        report: dict[str, Any] = json.loads((work / 'report.json').read_text())
        return {**report, 'work': work, 'log': run.log}

    return play
