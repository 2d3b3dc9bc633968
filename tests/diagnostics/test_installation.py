"""The doctor's view of the installation."""

import json
import subprocess
import sys

from ptycho_engine.diagnostics import installation
from ptycho_engine.diagnostics.findings import Grade


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
    found = list(installation.examine_installation())
    (stop,) = [f for f in found if f.grade is Grade.STOP]
    assert stop.text == 'no backend works; pip install torch.'
    assert {f.topic for f in found} >= {'Python', 'PyTorch', 'TensorFlow', 'memory', 'disk'}


def test_a_backend_that_crashes_is_named(monkeypatch):
    monkeypatch.setattr(
        installation, 'why_unavailable', lambda name: None if name == 'pytorch' else 'not there'
    )
    monkeypatch.setattr(installation.sys, 'executable', '/bin/false')
    found = {f.topic: f for f in installation.examine_installation()}
    assert 'does not work (exit code 1)' in found['PyTorch'].text
    assert found['backend'].grade is Grade.STOP


def test_little_memory_and_disk_are_cautions(monkeypatch):
    monkeypatch.setattr(installation, '_backends', lambda: iter(()))
    monkeypatch.setattr(installation, 'LITTLE_MEMORY', 1e18)
    monkeypatch.setattr(installation, 'LITTLE_DISK', 1e18)
    found = {f.topic: f for f in installation.examine_installation()}
    assert found['memory'].grade is found['disk'].grade is Grade.CAUTION
    assert 'close other programs' in found['memory'].text
