"""The doctor's view of the installation."""

import importlib.machinery
import json
import os
import subprocess
import sys

import pytest

from ptycho_engine.diagnostics import frameworks, installation
from ptycho_engine.diagnostics.findings import Grade
from ptycho_engine.formats import packaged


def test_a_backend_computes_on_the_cpu():
    done = subprocess.run(
        [sys.executable, '-m', 'ptycho_engine.diagnostics.backend_trial', 'pytorch'],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert report['devices']['cpu'] > 0
    assert report['version'][0].isdigit()


def test_without_a_backend_nothing_runs(monkeypatch):
    monkeypatch.setattr(installation, 'why_unavailable', lambda name: 'not there')
    found = list(installation.examine_installation(thorough=True))
    (stop,) = [f for f in found if f.grade is Grade.STOP]
    assert stop.text == 'no backend works; pip install torch.'
    assert {f.topic for f in found} >= {'Python', 'PyTorch', 'TensorFlow', 'memory', 'disk'}


def test_a_backend_that_crashes_is_named(monkeypatch):
    monkeypatch.setattr(
        installation, 'why_unavailable', lambda name: None if name == 'pytorch' else 'not there'
    )
    monkeypatch.setattr(installation.sys, 'executable', '/bin/false')
    found = {f.topic: f for f in installation.examine_installation(thorough=True)}
    assert 'does not work (exit code 1)' in found['PyTorch'].text
    assert found['backend'].grade is Grade.STOP


def test_little_memory_and_disk_are_cautions(monkeypatch):
    monkeypatch.setattr(installation, 'installed_frameworks', lambda: iter(()))
    monkeypatch.setattr(installation, 'LITTLE_MEMORY', 1e18)
    monkeypatch.setattr(installation, 'LITTLE_DISK', 1e18)
    found = {f.topic: f for f in installation.examine_installation()}
    assert found['memory'].grade is found['disk'].grade is Grade.CAUTION
    assert 'close other programs' in found['memory'].text


class Machine:
    """What files and the driver say on another machine."""

    def __init__(self, monkeypatch, folder):
        self._set, self._torch = monkeypatch, folder / 'torch'
        self._torch.mkdir()
        (self._torch / '__init__.py').write_text('raise SystemExit("imported")')
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        monkeypatch.setattr(frameworks, 'why_unavailable', lambda name: None)
        monkeypatch.setattr(frameworks.importlib.metadata, 'version', lambda name: '9.1')
        spec = importlib.machinery.PathFinder.find_spec('torch', [str(folder)])
        monkeypatch.setattr(frameworks.importlib.util, 'find_spec', lambda name: spec)

    def found(self, version_file, driver):
        (self._torch / 'version.py').write_text(version_file)

        def run(command, **_):
            if driver is None:
                raise FileNotFoundError(command[0])
            return subprocess.CompletedProcess(command, 0, driver, '')

        self._set.setattr(frameworks.subprocess, 'run', run)
        return {finding.topic: finding for finding in frameworks.installed_frameworks()}


CPU = """from typing import Optional
__version__ = '9.1'
cuda: Optional[str] = None
hip: Optional[str] = None
"""
H200 = 'NVIDIA H200, 143771 MiB, 570.86\n'


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def test_cfg_24_what_is_installed_is_told_and_nothing_that_was_not_tried(machine):
    found = machine.found(CPU, None)
    assert found['PyTorch'].text == '9.1 is installed, built for CPUs alone.'
    assert found['TensorFlow'].text == '9.1 is installed.'
    assert found['GPU'].text == 'none is listed by a driver of NVIDIA (nvidia-smi).'
    assert not any('works' in finding.text for finding in found.values())


def test_cfg_24_a_gpu_is_told_and_that_a_build_for_cpus_leaves_it_idle(machine, monkeypatch):
    built = CPU.replace('cuda: Optional[str] = None', "cuda: Optional[str] = '12.8'")
    found = machine.found(built, H200)
    assert found['PyTorch'].text == '9.1 is installed, built for CUDA 12.8.'
    assert (found['GPU'].grade, found['GPU'].text) == (
        Grade.FINE,
        'NVIDIA H200 (143771 MiB, driver 570.86).',
    )
    idle = machine.found(CPU, H200)['GPU']
    assert idle.grade is Grade.CAUTION
    assert 'This PyTorch is built for CPUs alone and cannot use it' in idle.text
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert 'CUDA_VISIBLE_DEVICES= is what a run sees' in machine.found(built, H200)['GPU'].text


def test_cfg_24_a_version_file_that_cannot_be_read_is_no_crash(machine):
    assert machine.found('cuda = (', None)['PyTorch'].text == '9.1 is installed, built for what is unknown.'


def test_cfg_24_a_prior_that_cannot_be_read_stops(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged, 'PACKAGED_PRIOR', tmp_path / 'prior.zip')
    monkeypatch.setattr(installation, 'installed_frameworks', lambda: iter(()))
    (tmp_path / 'prior.zip').write_bytes(b'no zip')
    found = {f.topic: f for f in installation.examine_installation()}
    assert found['prior'].grade is Grade.STOP
    assert 'install the package again' in found['prior'].text


def test_cfg_24_without_a_framework_nothing_runs(monkeypatch):
    monkeypatch.setattr(frameworks, 'why_unavailable', lambda name: 'not there')
    (stop,) = [f for f in installation.examine_installation() if f.grade is Grade.STOP]
    assert stop.text == 'no backend is installed; pip install torch.'


def test_cfg_24_doctor_takes_a_second():
    """CPU time of all its processes, none of which imports a framework."""
    before = sum(os.times()[2:4])
    done = subprocess.run(
        [sys.executable, '-m', 'ptycho_engine', 'doctor'],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert 'the learned prior of the package is read' in ' '.join(done.stdout.split())
    assert sum(os.times()[2:4]) - before < 2
