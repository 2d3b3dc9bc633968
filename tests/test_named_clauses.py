"""The clauses of specs/: each number stands for one clause, which is short, and which a test names.

A test names a clause as ARC-08 in its text, as API-05 to API-07, or in its name, as test_arc_08_and_09_...
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ('ptycho_engine', 'ptychopinn_ptychodus')
SPECS = {
    path.relative_to(ROOT): path.read_text(encoding='utf-8') for path in sorted((ROOT / 'specs').glob('*.md'))
}
# Those that look at clauses would name all of them.
LOOKING = ('test_named_clauses.py', 'test_clauses.py')
TESTS = [
    path.read_text(encoding='utf-8')
    for path in (ROOT / 'tests').rglob('test_*.py')
    if path.name not in LOOKING
]

NUMBER = re.compile(r'\b([A-Z]+)-(\d\d)\b')
BEGUN = re.compile(r'^(?:\* |\| )?\*\*([A-Z]+-\d\d)\*\*', re.MULTILINE)
MOST_LINES = 4
WIDEST = {'specs/ptychodus_api_spec.md': 200}
"""Columns of a line of a clause; 130 elsewhere."""


def defined() -> list[str]:
    """Return the clauses that are begun, in order, those of tables too."""
    return [clause for text in SPECS.values() for clause in BEGUN.findall(text)]


FAMILIES = {clause.split('-')[0] for clause in defined()}


def spread(family: str, first: str, last: str) -> set[str]:
    """Return the clauses from one number to another."""
    return {f'{family}-{number:02}' for number in range(int(first), int(last or first) + 1)}


def mentioned(text: str) -> set[str]:
    """Return the clauses of our families that a text names, those within ranges too."""
    found = {f'{family}-{number}' for family, number in NUMBER.findall(text) if family in FAMILIES}
    for family, first, last in re.findall(r'\b([A-Z]+)-(\d\d) to (?:\1-)?(\d\d)\b', text):
        if family in FAMILIES:
            # A range may leap over numbers that are not taken.
            found |= spread(family, first, last) & set(defined())
    return found


def in_names(text: str) -> set[str]:
    """Return the clauses that the names of tests name."""
    found: set[str] = set()
    for family, numbers in re.findall(r'def test_([a-z]+)((?:_(?:\d\d|and|to|[a-z]+(?=_\d\d)))+)_', text):
        current = family.upper()
        for word, first, last in re.findall(r'_(?:([a-z]+)(?=_\d\d)|(\d\d)(?:_to_(\d\d))?)', numbers):
            if word and word != 'and':
                current = word.upper()
            elif first and current in FAMILIES:
                found |= spread(current, first, last)
    return found


def clauses() -> Iterator[tuple[Path, str, list[str]]]:
    """Yield (file, clause, its lines) of every clause that is no row of a table.

    A table, an example or a paragraph after an empty line belongs to no clause.
    """
    for path, text in SPECS.items():
        for block in re.split(r'\n\s*\n|\n(?=\* )', text):
            lines = block.strip('\n').splitlines()
            begun = BEGUN.match(lines[0]) if lines else None
            if begun and not lines[0].startswith('|'):
                yield path, begun[1], lines


def test_no_number_stands_for_two_clauses() -> None:
    begun = Counter(defined())
    assert len(begun) > 350
    assert [clause for clause, times in begun.items() if times > 1] == []


def test_each_clause_is_named_by_a_test() -> None:
    named = set().union(*(mentioned(text) | in_names(text) for text in TESTS))
    assert sorted(set(defined()) - named) == []


def test_each_clause_that_is_named_exists() -> None:
    """In tests, in the specifications themselves, in the documentation and in the packages."""
    read = [path for package in PACKAGES for path in (ROOT / package).rglob('*.py')]
    read += [*(ROOT / 'docs').rglob('*.md'), *ROOT.glob('*.md')]
    texts = [*SPECS.values(), *TESTS, *(path.read_text(encoding='utf-8') for path in read)]
    found = set().union(*map(mentioned, texts), *map(in_names, TESTS))
    assert sorted(found - set(defined())) == []


def test_a_clause_is_short() -> None:
    long = [
        f'{path}: {clause} has {len(lines)} lines of up to {max(map(len, lines))} characters'
        for path, clause, lines in clauses()
        if len(lines) > MOST_LINES or max(map(len, lines)) > WIDEST.get(str(path), 130)
    ]
    assert long == []


def test_paths_and_names_of_code_in_the_specifications_exist() -> None:
    """As `whole_scan/solver.py`, looked for in the packages, or `ptycho_engine.io.hdf5.open_hdf5`."""
    places = [ROOT, *(ROOT / package for package in PACKAGES)]
    missing = []
    for path, text in SPECS.items():
        quoted = re.findall(r'`([^`\s]+)`', text)
        for name in (word.split('::')[0] for word in quoted):
            if re.fullmatch(r'[\w/]+\.py', name) and not any((place / name).is_file() for place in places):
                # The adapter's plugin file is installed into the folder of Ptychodus.
                if not (ROOT / PACKAGES[1] / 'plugins' / Path(name).name).is_file():
                    missing.append(f'{path}: {name}')
            elif name.startswith(tuple(f'{package}.' for package in PACKAGES)) and not is_code(name):
                missing.append(f'{path}: {name}')
    assert missing == []


def is_code(dotted: str) -> bool:
    """Return whether a dotted name is a module, or a name that one defines."""
    parts = dotted.split('.')
    module = ROOT.joinpath(*parts)
    if module.is_dir() or module.with_suffix('.py').is_file():
        return True
    holder = ROOT.joinpath(*parts[:-1])
    source = holder / '__init__.py' if holder.is_dir() else holder.with_suffix('.py')
    return source.is_file() and bool(
        re.search(rf'\b{re.escape(parts[-1])}\b', source.read_text(encoding='utf-8'))
    )
