"""One term for one thing: words that stood for another one do not come back."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GONE = {
    r'\bslow[\s_-]+phase': 'low-frequency phase',
    r'\bsweeps?\b': 'iteration',
    r'\bgauge\b': 'scale',
    r'\bremainders?\b': 'sub-pixel shift',
    r'\bgood[\s_]pixels?\b': 'valid pixels',
    r'\b(is|are|of|all) good\b(?= pixels?)': 'valid',
    r'\.good\b|\bgood=': 'valid',
    r'\.brightest\b|\bbrightest=': 'peak_illumination',
    r'\bwishes\b': 'specification',
    r'\bbelieved\b': 'edge-preserving',
    r'\bphysics steps\b': 'data-consistency iterations',
    r'\b(couples|merges) (all|the) patterns\b|work on one object': 'joint',
    r'\bbetter start goes on\b': 'is continued',
    r'\bsends no light\b': 'has no intensity',
    r'\b(Course|Pace|Surroundings|DrawnScan|SweepDone|PreparedScan)\b(?! of)': 'a name of the thing',
}
"""Patterns and what is said instead."""

ALLOWED = {('ptychopinn_ptychodus/speeds.py', 'sweep')}
"""A word in a file that users have."""


PLACES = ('ptycho_engine/**/*.py', 'ptychopinn_ptychodus/**/*.py', 'docs/**/*.md', 'specs/*.md', '*.md')


def texts():
    for place in PLACES:
        for path in ROOT.glob(place):
            if path.name != 'CHANGELOG.md':
                yield str(path.relative_to(ROOT)), path.read_text(encoding='utf-8')


@pytest.mark.parametrize('word', GONE, ids=list(GONE.values()))
def test_words_that_are_gone(word):
    found = [
        f'{name}:{text[: match.start()].count(chr(10)) + 1}: {match[0]!r}; say {GONE[word]!r}'
        for name, text in texts()
        for match in re.finditer(word, text)
        if (name, match[0]) not in ALLOWED
    ]
    assert not found, '\n'.join(found)
