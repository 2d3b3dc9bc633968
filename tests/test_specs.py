"""The clauses of the contracts: each number stands for one rule, and tests name clauses that there are."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFINED = re.compile(r'^(?:\* |\| )?\**([A-Z]{2,8}-\d{2,3})(?=\*\*|[ |]|$)', re.MULTILINE)
NAMED = re.compile(r'^ *def test_([a-z]{2,8})_(\d{2,3})_', re.MULTILINE)


def clauses() -> Counter[str]:
    """Count how often each number begins a clause."""
    texts = [path.read_text(encoding='utf-8') for path in sorted((ROOT / 'specs').glob('*.md'))]
    return Counter(number for text in texts for number in DEFINED.findall(text))


def test_no_number_stands_for_two_clauses():
    found = clauses()
    assert len(found) > 300
    assert [number for number, count in found.items() if count > 1] == []


def test_tests_name_clauses_that_there_are():
    found = clauses()
    families = {number.split('-')[0] for number in found}
    unknown = set()
    for path in sorted((ROOT / 'tests').rglob('test_*.py')):
        for family, number in NAMED.findall(path.read_text(encoding='utf-8')):
            name = f'{family.upper()}-{number}'
            if family.upper() in families and name not in found:
                unknown.add(f'{path.name}: {name}')
    assert not unknown
