"""PtychoPINN beside pty-chi and beside a real `ptycho` package (API-10)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HERE, Finished

pytestmark = pytest.mark.ptychodus
Run = Callable[..., Finished]

LOOK = """
import json, sys
import ptychodus.model.core as core
from ptychodus.api.reconstruct import NullReconstructor, ReconstructorLibrary

class PtyChi(ReconstructorLibrary):
    'Stands for pty-chi: the first library, with an algorithm of the same kind of key.'
    name = 'pty-chi'

    def __init__(self, *_):
        super().__init__('ptychi')

    def __iter__(self):
        return iter([NullReconstructor('DM'), NullReconstructor('LSQML')])

if {pty_chi}:
    core.PtyChiReconstructorLibrary = PtyChi
model = core.ModelCore(None)
processing = model.processing_core
chosen = processing.algorithm_parameter
report = {{'algorithms': list(chosen.available_reconstructors()), 'chosen': chosen.get_value()}}
report['modules'] = sorted({{type(r).__module__ for r in model.ptychopinn_reconstructor_library}})
report['imported'] = 'ptycho' in sys.modules
if {pty_chi}:
    task = lambda: None
    report['others_are_let_through'] = processing.admit(task) is task
print('REPORT', json.dumps(report))
"""


def look(python: Run, *, pty_chi: bool = False, **variables: str) -> dict[str, object]:
    run = python('-c', LOOK.format(pty_chi=pty_chi), **variables)
    assert run.code == 0, run.log
    (line,) = run.lines('REPORT')
    report: dict[str, object] = json.loads(line.split('REPORT', 1)[1])
    return report


@pytest.fixture
def with_ptycho(tmp_path: Path) -> str:
    """Return a path on which a package `ptycho` is found, as if the original engine were installed."""
    (tmp_path / 'ptycho').mkdir()
    (tmp_path / 'ptycho' / '__init__.py').touch()
    return os.pathsep.join((str(tmp_path), str(HERE.parents[1])))


def test_beside_pty_chi_nothing_of_it_changes(python: Run) -> None:
    """API-10, API-03: its algorithms and its default stay; ours are listed after them."""
    report = look(python, pty_chi=True)
    assert report['algorithms'] == [
        'pty-chi_dm',
        'pty-chi_lsqml',
        'ptychopinn_pinn',
        'ptychopinn_supervised',
        'ptychopinn_physics',
    ]
    assert str(report['chosen']).startswith('pty-chi_')
    assert report['others_are_let_through']


def test_beside_a_real_ptycho_ours_are_listed(python: Run, with_ptycho: str) -> None:
    """API-10: each key once, and the other engine is not even imported."""
    report = look(python, PYTHONPATH=with_ptycho)
    assert report['algorithms'] == ['ptychopinn_pinn', 'ptychopinn_supervised', 'ptychopinn_physics']
    assert report['modules'] == ['ptychopinn_ptychodus.algorithm', 'ptychopinn_ptychodus.reconstructor']
    assert not report['imported']


def test_the_switch_keeps_the_entries_of_ptychodus(python: Run, with_ptycho: str) -> None:
    """API-10, API-05."""
    report = look(python, PYTHONPATH=with_ptycho, PTYCHOPINN_PTYCHODUS='off')
    assert report['algorithms'] == ['ptychopinn_pinn', 'ptychopinn_supervised']
    assert all(str(module).startswith('ptychodus.') for module in report['modules'])  # type: ignore[attr-defined]
