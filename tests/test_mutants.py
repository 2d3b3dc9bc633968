"""The script that seeds faults tells those that are noticed from those that are not."""

from pathlib import Path

import pytest

from tests import mutants
from tests.mutants import MUTANTS, Mutant, killed


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package with two numbers, of which a test looks at one."""
    (tmp_path / 'ptycho_engine').mkdir()
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'ptycho_engine' / '__init__.py').touch()
    (tmp_path / 'ptycho_engine' / 'rule.py').write_text('HELD = 3\nLOOSE = 4\n')
    (tmp_path / 'tests' / 'test_rule.py').write_text(
        'from ptycho_engine.rule import HELD\n\n\ndef test_rule():\n    assert HELD == 3\n'
    )
    return tmp_path


def test_a_fault_is_killed_or_alive_and_undone(checkout: Path) -> None:
    path = checkout / 'ptycho_engine' / 'rule.py'
    before = path.read_text()
    assert killed(checkout, Mutant('rule.py', 'HELD = 3', 'HELD = 5', ('test_rule.py',)))
    assert not killed(checkout, Mutant('rule.py', 'LOOSE = 4', 'LOOSE = 5', ('test_rule.py',)))
    assert path.read_text() == before


def test_a_text_that_is_no_more_is_named(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(mutants, 'ROOT', checkout)
    table = (
        Mutant('rule.py', 'GONE = 1', 'GONE = 2', ('test_rule.py',)),
        Mutant('rule.py', 'HELD', 'H', ('no.py',)),
    )
    monkeypatch.setattr(mutants, 'MUTANTS', table)
    first, second = mutants.stale()
    assert "'GONE = 1' occurs 0 times in rule.py" in first
    assert 'no tests/no.py' in second


def test_there_are_faults_in_every_part() -> None:
    assert len(MUTANTS) >= 40
    parts = {mutant.file.split('/')[0] for mutant in MUTANTS}
    assert {'physics', 'whole_scan', 'training', 'reconstruction', 'backends'} <= parts
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
