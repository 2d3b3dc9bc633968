"""The help of every command, as kept in snapshots.

After a change that is meant, write them again: ``python -m tests.commands.test_help``.
"""

import argparse
import os
import sys
from pathlib import Path

import pytest

from ptycho_engine.commands import COMMANDS, build_parser
from ptycho_engine.scan.product_exchange import OBJECT_PIXEL_SIZE_M, PROBE_PIXEL_SIZE_M
from ptycho_engine.training.simulated import UNKNOWN
from ptycho_engine.training.universal import EPOCH_STEPS
from ptycho_engine.upstream.fixture import MINIMUM_SUBSET

SNAPSHOTS = Path(__file__).parent / 'snapshots'
NAMES = ['ptychopinn', *COMMANDS]


def help_text(name: str) -> str:
    """Return what ``--help`` prints in a terminal of 80 columns."""
    before = os.environ.get('COLUMNS')
    os.environ['COLUMNS'] = '80'
    try:
        if name == 'ptychopinn':
            return build_parser('').format_help()
        parser = build_parser(name)
        (sub,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        return sub.choices[name].format_help()
    finally:
        if before is None:
            del os.environ['COLUMNS']
        else:
            os.environ['COLUMNS'] = before


@pytest.mark.skipif(sys.version_info >= (3, 13), reason='argparse lays help out in another way')
@pytest.mark.parametrize('name', NAMES)
def test_help_is_as_kept(name):
    text = help_text(name)
    assert text == (SNAPSHOTS / f'{name}.txt').read_text(encoding='utf-8'), (
        'if the change is meant: python -m tests.commands.test_help'
    )
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ('name', 'words', 'value'),
    [
        ('train', 'an epoch is {} batches', EPOCH_STEPS),
        ('train', 'twice what the patterns suggest; {:g} without patterns', UNKNOWN.absorption),
        ('train', 'twice what the patterns suggest; {:g} without patterns', UNKNOWN.phase),
        ('make-fixture', 'at least {}', MINIMUM_SUBSET),
        ('convert-product', 'of an object pixel in metres (default: {:g})', OBJECT_PIXEL_SIZE_M),
        ('convert-product', 'of a probe pixel in metres (default: {:g})', PROBE_PIXEL_SIZE_M),
    ],
)
def test_a_number_in_the_help_is_that_of_the_code(name, words, value):
    """Which the help does not load."""
    assert words.format(value) in ' '.join(help_text(name).split())


def test_no_snapshot_is_left_over():
    assert {path.stem for path in SNAPSHOTS.glob('*.txt')} == set(NAMES)


if __name__ == '__main__':
    SNAPSHOTS.mkdir(exist_ok=True)
    for path in SNAPSHOTS.glob('*.txt'):
        path.unlink()
    for each in NAMES:
        (SNAPSHOTS / f'{each}.txt').write_text(help_text(each), encoding='utf-8')
