"""The clauses of specs/: each number stands for one clause, and those of whole families are named by tests.

Those of the adapter (API) are looked at in tests/conformance/test_clauses.py.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SPECS = '\n'.join(path.read_text(encoding='utf-8') for path in sorted((HERE.parent / 'specs').glob('*.md')))
TESTS = [
    path.read_text(encoding='utf-8')
    for path in HERE.rglob('test_*.py')
    if path != Path(__file__).resolve() and path.name != 'test_clauses.py'
]
DEFINED = re.findall(r'^\* \*\*([A-Z]+-\d\d)\*\*', SPECS, re.MULTILINE)
FAMILIES = (
    *('ARC', 'CHK', 'DIR', 'DISK', 'DOUBT', 'GAU', 'HDF', 'MEM', 'OUT', 'RESULT', 'TEXT', 'VERIFY'),
    *('BUNDLE', 'EXCHANGE', 'PRODUCT', 'QUALITY', 'STAGE'),
)


def named() -> set[str]:
    """Return the clauses that tests name: as ARC-08, or in the name of a test, as test_arc_08_and_09_..."""
    found: set[str] = set()
    for text in TESTS:
        found.update(re.findall(r'\b[A-Z]+-\d\d\b', text))
        for family, numbers in re.findall(r'def test_([a-z]+)((?:_(?:\d\d|and|to))+)_', text):
            for first, last in re.findall(r'_(\d\d)(?:_to_(\d\d))?', numbers):
                inside = range(int(first), int(last or first) + 1)
                found.update(f'{family.upper()}-{number:02}' for number in inside)
    return found


@pytest.mark.parametrize('family', FAMILIES)
def test_each_clause_has_its_own_number_and_a_test(family: str) -> None:
    defined = [clause for clause in DEFINED if clause.startswith(f'{family}-')]
    assert defined, f'no clause of {family} was found'
    assert [clause for clause, times in Counter(defined).items() if times > 1] == []
    assert sorted(set(defined) - named()) == [], 'no test names them'
    stated = {clause for clause in named() if clause.startswith(f'{family}-')}
    assert sorted(stated - set(defined)) == [], 'the specifications do not define them'


# Also those of tables and those that stand by themselves; "API-05's" is none.
BEGUN = re.compile(r'^(?:\* |\| )?\**([A-Z]+-\d\d)(?=\*\*|[ |]|$)', re.MULTILINE)


def test_no_number_stands_for_two_clauses() -> None:
    begun = Counter(BEGUN.findall(SPECS))
    assert len(begun) > 300
    assert [clause for clause, times in begun.items() if times > 1] == []


def test_names_of_tests_name_clauses_that_there_are() -> None:
    begun = set(BEGUN.findall(SPECS))
    families = {clause.split('-')[0] for clause in begun}
    stated = {
        f'{family.upper()}-{number}'
        for text in TESTS
        for family, number in re.findall(r'def test_([a-z]+)_(\d\d)_', text)
        if family.upper() in families
    }
    assert sorted(stated - begun) == []
