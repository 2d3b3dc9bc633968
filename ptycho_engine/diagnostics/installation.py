"""Looking at the installation: Python, frameworks, the learned prior, memory and disk."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..backends.base import FRAMEWORKS, why_unavailable
from ..errors import EngineError
from ..formats.packaged import load_model
from .findings import Finding, Grade
from .frameworks import installed_frameworks

__all__ = ['examine_installation']

TRIAL_S = 180.0
LITTLE_MEMORY = 2e9
LITTLE_DISK = 1e9


def examine_installation(*, thorough: bool = False) -> Iterator[Finding]:
    """Yield what is found on this machine.

    Parameters
    ----------
    thorough : bool
        Whether every installed backend computes something on every device, which takes seconds for each;
        without, files and the driver tell what is there.
    """
    yield Finding(Grade.FINE, 'Python', f'{platform.python_version()} at {sys.executable}.')
    yield from _backends() if thorough else installed_frameworks()
    yield _prior()
    free = psutil.virtual_memory().available
    text = f'{free / 1e9:.1f} GB free of {psutil.virtual_memory().total / 1e9:.1f} GB.'
    if free < LITTLE_MEMORY:
        text += ' That is little; close other programs, or take a smaller batch_size.'
    yield Finding(Grade.FINE if free >= LITTLE_MEMORY else Grade.CAUTION, 'memory', text)
    space = shutil.disk_usage(Path.cwd()).free
    text = f'{space / 1e9:.1f} GB free in {Path.cwd()}.'
    if space < LITTLE_DISK:
        text += ' That is little; models and products may not fit.'
    yield Finding(Grade.FINE if space >= LITTLE_DISK else Grade.CAUTION, 'disk', text)


def _prior() -> Finding:
    try:
        weights = load_model().weights
    except EngineError as error:
        return Finding(Grade.STOP, 'prior', str(error))
    count = sum(weight.size for weight in weights.values())
    return Finding(Grade.FINE, 'prior', f'the learned prior of the package is read; it has {count} weights.')


def _backends() -> Iterator[Finding]:
    works = False
    for backend, (title, _, command) in FRAMEWORKS.items():
        if why_unavailable(backend):
            yield Finding(Grade.FINE, title, f'not installed; {command} to use the backend {backend}.')
            continue
        finding = _trial(backend, title)
        works = works or finding.grade is Grade.FINE
        yield finding
    if not works:
        yield Finding(Grade.STOP, 'backend', 'no backend works; pip install torch.')


def _trial(backend: str, title: str) -> Finding:
    """Let a backend compute in a process of its own, which a broken installation may take down."""
    command = [sys.executable, '-m', 'ptycho_engine.diagnostics.backend_trial', backend]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_S, check=False)
        report = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Finding(Grade.CAUTION, title, f'gave no answer within {TRIAL_S:.0f} s; reinstall it.')
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]
        return Finding(Grade.CAUTION, title, f'does not work ({last}); reinstall it.')
    devices = report['devices']
    if not devices:
        return Finding(Grade.CAUTION, title, f'{report["version"]} computes on no device; reinstall it.')
    listed = ', '.join(f'{name} ({milliseconds:.0f} ms)' for name, milliseconds in devices.items())
    return Finding(Grade.FINE, title, f'{report["version"]}, works on {listed}.')
