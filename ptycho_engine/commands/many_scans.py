"""Many scans in one run: which of them are its share, which are done already, and what became of each."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError
from .table import Column, rows_table

__all__ = ['BEFORE', 'FAILED', 'WRITTEN', 'Outcome', 'Shard', 'holds_result', 'outcome_lines']

T = TypeVar('T')

IMMATERIAL = {
    *('accelerator', 'devices', 'deterministic', 'num_workers'),
    *('enable_progress_bar', 'inference_batch_size', 'batch_size', 'use_groups_cache'),
}
"""Settings of a reconstruction that say where and how fast it is computed, and not what."""
COLUMNS: tuple[Column, ...] = (
    ('patterns', 'patterns', '.0f', 10),
    ('seconds', 'seconds', '.1f', 10),
    ('deviance', 'deviance', '.3g', 10),
    ('noise', 'noise', '.3g', 8),
    ('result', 'became', '', 14),
)
WIDEST_NAME = 40
BECAME = WRITTEN, BEFORE, FAILED = 'written', 'done before', 'failed'
"""What may become of a scan."""


@dataclass(frozen=True)
class Shard:
    """A share of a list: each `of`-th item from the `number`-th on, both counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the share that a word of the command line names.

        Raises
        ------
        argparse.ArgumentTypeError
            With what was expected.
        """
        found = re.fullmatch(r'(\d{1,9})/(\d{1,9})', text)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.number <= shard.of:
            raise argparse.ArgumentTypeError(
                f'{text!r} is no share of a list; expected I/N with I from 1 to N, as 1/4 to 4/4'
            )
        return shard

    def share(self, items: Sequence[T]) -> list[T]:
        """Return the items of the share; it may have none."""
        return list(items[self.number - 1 :: self.of])


@dataclass(frozen=True)
class Outcome:
    """What became of a scan."""

    name: str
    became: str
    """One of :data:`BECAME`."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """As :attr:`~..reconstruction.result.Reconstruction.results`."""


def outcome_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a table of what became of scans, and a sentence that counts them."""
    rows = []
    for outcome in outcomes:
        quality = outcome.results.get('quality')
        told = {**outcome.results, **(quality if isinstance(quality, Mapping) else {})}
        numbers = {key: value for key, value in told.items() if isinstance(value, int | float)}
        rows.append(
            {
                'name': outcome.name,
                'patterns': numbers.get('n_patterns'),
                **{key: numbers.get(key) for key in ('seconds', 'deviance', 'noise')},
                'became': outcome.became,
            }
        )
    longest = max(len(outcome.name) for outcome in outcomes)
    counts = [(word, sum(outcome.became == word for outcome in outcomes)) for word in BECAME]
    counted = ', '.join(f'{number} {word}' for word, number in counts if number)
    table = rows_table(rows, COLUMNS, min(longest, WIDEST_NAME) + 2)
    return [*table, f'{len(outcomes)} scan{"s" * (len(outcomes) != 1)}: {counted}.']


def holds_result(directory: Path, files: Collection[str], asked: Mapping[str, Any]) -> bool:
    """Return whether a directory holds the result that is asked for; False where it holds none.

    Parameters
    ----------
    directory : Path
    files : collection of str
        What a result consists of, its product first.
    asked : mapping
        The part of the record of a result (:func:`~..formats.provenance.made_by`) that decides what it is:
        ``data``, ``model``, ``settings``, ``reading``, ``start_from``.

    Raises
    ------
    ConfigError
        If it holds another result, or not all of this one.
    DataValueError
        If the product there is damaged.
    """
    # With what reads products, which the help of a command can do without.
    from ..formats.provenance import provenance_in_product

    there = [name for name in files if (directory / name).exists()]
    if not there:
        return False
    product = next(iter(files))
    record = provenance_in_product(directory / product) if product in there else None
    missing = [name for name in files if name not in there]
    found = _difference(record or {}, json.loads(json.dumps(asked)))
    if record is None:
        found = 'what does not say which result it is'
    elif found is None and missing:
        found = f'this result without {", ".join(missing)}'
    if found is not None:
        raise ConfigError(
            f'{directory} holds {found}, and --continue replaces nothing; move it away, or give another '
            '--output.'
        )
    return True


def _difference(record: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Return in what a result is not the one that is asked for, in words; None where it is."""
    if _nameless(record.get('data')) != _nameless(asked['data']):
        return 'the result of another scan'
    if _nameless(record.get('model')) != _nameless(asked['model']):
        return 'a result by another model'
    if _nameless(record.get('start_from')) != _nameless(asked.get('start_from')):
        return 'a result that began at another object'
    if record.get('reading', {}) != asked.get('reading', {}):
        return 'a result of the same files read in another way'
    settings = record.get('settings')
    changed = []
    for owner, fields in asked['settings'].items():
        before = settings.get(owner) if isinstance(settings, dict) else None
        before = before if isinstance(before, dict) else {}
        changed += [
            f'{name} {before[name]}, now {value}'
            for name, value in fields.items()
            if name not in IMMATERIAL and name in before and before[name] != value
        ]
    return f'a result with other settings ({"; ".join(changed)})' if changed else None


def _nameless(value: Any) -> Any:
    """Return a record of files without their names: a file that was moved is the same one."""
    if isinstance(value, dict):
        return {key: _nameless(item) for key, item in value.items() if key != 'name'}
    return [_nameless(item) for item in value] if isinstance(value, list) else value
