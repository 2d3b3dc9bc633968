"""The table of faults in specs/faults.md names tests and scripts that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'specs' / 'faults.md').read_text(encoding='utf-8')
NAMED = re.findall(r'`(tests/[\w/]+\.py)(?:::(\w+))?`', TEXT)


def test_each_fault_names_its_test():
    rows = [row for row in TEXT.splitlines() if row.startswith('| ') and not row.startswith('| fault')]
    assert len(rows) > 35
    assert [row for row in rows if '.py::test_' not in row.split('|')[2]] == []


def test_the_tests_that_are_named_are_there():
    missing = []
    for path, name in NAMED:
        text = (ROOT / path).read_text(encoding='utf-8') if (ROOT / path).is_file() else ''
        if not text or (name and not re.search(rf'^ *def {name}\(', text, re.MULTILINE)):
            missing.append(f'{path}::{name}')
    assert missing == []
    assert len(NAMED) > 60
