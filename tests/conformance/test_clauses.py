"""The table of defects in specs/ptychodus_api_spec.md names clauses and tests that there are."""

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
DEFECT = re.compile(r'^\| (\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$', re.MULTILINE)
TEST = re.compile(r'`(test_\w+)(?:::(test_\w+))?`')


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
