"""Each clause of specs/ptychodus_api_spec.md is named by a test, and each that a test names exists."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
SPEC = (HERE.parents[1] / 'specs' / 'ptychodus_api_spec.md').read_text(encoding='utf-8')
TESTS = {
    path: path.read_text(encoding='utf-8')
    for path in HERE.parent.rglob('test_*.py')
    if path != Path(__file__).resolve()
}
DEFINED = re.compile(r'\*\*(API-\d\d)\*\*')
CLAUSE = re.compile(r'\bAPI-\d\d\b')
RANGE = re.compile(r'API-(\d\d) to API-(\d\d)')
DEFECT = re.compile(r'^\| (\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$', re.MULTILINE)
TEST = re.compile(r'`(test_\w+)(?:::(test_\w+))?`')


def named() -> set[str]:
    """Return the clauses that tests name, those within ranges too."""
    found: set[str] = set()
    for text in TESTS.values():
        found.update(CLAUSE.findall(text))
        for first, last in RANGE.findall(text):
            inside = {f'API-{number:02}' for number in range(int(first), int(last) + 1)}
            found.update(inside & set(DEFINED.findall(SPEC)))
    return found


def test_each_clause_is_defined_once() -> None:
    defined = DEFINED.findall(SPEC)
    assert len(defined) == len(set(defined))


def test_each_clause_is_named_by_a_test_and_each_named_clause_is_defined() -> None:
    defined = set(DEFINED.findall(SPEC))
    assert sorted(defined - named()) == [], 'no test names them'
    assert sorted(named() - defined) == [], 'the spec does not define them'
    assert sorted(set(CLAUSE.findall(SPEC)) - defined) == [], 'mentioned in the spec only'


def test_each_known_defect_has_a_clause_and_tests_that_exist() -> None:
    """The 33 defects of other integrations: what is ours instead, and what proves it."""
    rows = DEFECT.findall(SPEC)
    assert [int(number) for number, *_ in rows] == list(range(1, 34))
    functions = {
        (path.stem, name) for path, text in TESTS.items() for name in re.findall(r'def (test_\w+)', text)
    }
    modules = {path.stem for path in TESTS}
    for number, defect, clauses, tests in rows:
        if 'not ours' in clauses:
            continue
        assert set(CLAUSE.findall(clauses)) <= set(DEFINED.findall(SPEC)), defect
        found = TEST.findall(tests)
        assert found, f'defect {number} names no test'
        for module, function in found:
            assert module in modules, f'defect {number}: {module}'
            assert not function or (module, function) in functions, f'defect {number}: {module}::{function}'
