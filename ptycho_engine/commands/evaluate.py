"""Compare results with a known object, or with each other."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..io.folder_lock import sole_writer, tidy
from ..io.preflight import require_writable
from ..io.staging import Staging, staged
from ..printable import printable
from ..reconstruction.evaluate import Evaluation, ObjectFile, evaluate, on_common_grid, read_object
from ..reconstruction.picture import comparison_figure, save_figure
from ..scan.scan import Scan, load_scan
from ..scoring.comparison import Comparison, compare
from .paragraph import beside, say, say_json
from .table import scores_table

TABLES = ('scores.csv', 'scores.json')


def run(options: argparse.Namespace) -> None:
    """Score every result, write table and figures, print the table."""
    require_writable(options.output, TABLES)
    if options.truth is None and len(options.results) < 2:
        raise ConfigError(
            'There is nothing to compare the result with; give --truth FILE, or a second result.'
        )
    if options.truth is None and options.scan is not None:
        raise ConfigError('--scan has no effect without --truth.')
    truth = None if options.truth is None else read_object(options.truth, truth=True)
    scan = None if options.scan is None else load_scan(options.scan)
    for path in options.results:
        tidy(path if path.is_dir() else path.parent)
    results = [read_object(path) for path in options.results]
    with sole_writer(options.output, 'ptychopinn evaluate'):
        if truth is None:
            report_agreement(results, options.output, as_json=options.json)
        else:
            report_scores(results, truth, scan, options.output, as_json=options.json)


def report_agreement(results: Sequence[ObjectFile], directory: Path, *, as_json: bool) -> None:
    """Compare results with the first one, write table, curves and a figure for each, and print the table."""
    first, *others = results
    names = unique([result.name for result in results])
    require_writable(directory, [f'{name}.png' for name in names[1:]])
    pairs = [on_common_grid(first, other) for other in others]
    boxes = [a.box() if a.x is not None else b.box() for a, b in pairs]
    found = [compare(a.object_array, b.object_array, box) for (a, b), box in zip(pairs, boxes, strict=True)]
    rows = []
    for comparison, other, name in zip(found, others, names[1:], strict=True):
        row = {'name': name, 'path': str(other.path), 'against': str(first.path), **comparison.to_row()}
        rows.append(_plain(row))
    curves = [
        {
            name: np.round(getattr(comparison, name), 6).tolist()
            for name in ('frequency', 'correlation', 'line')
        }
        for comparison in found
    ]
    detailed = [{**row, **curve} for row, curve in zip(rows, curves, strict=True)]
    with staged(directory) as staging:
        _write_table(staging, rows, detailed)
        for (a, b), box, comparison, name in zip(pairs, boxes, found, names[1:], strict=True):
            title = (
                f'{printable(names[0])} and {printable(name)}: NRMSE {comparison.nrmse:.3f}, half bit at '
                f'{comparison.half_bit:.2f} 1/px'
            )
            figure = comparison_figure(
                a.object_array,
                b.object_array,
                box,
                [],
                title,
                (printable(names[0]), printable(name)),
                comparison.line,
            )
            save_figure(figure, staging.path(f'{name}.png'))
    if as_json:
        say_json(rows, indent=2)
        return
    say(*scores_table(rows))
    for comparison, (a, _), name in zip(found, pairs, names[1:], strict=True):
        say(*beside(f'{name}: ', _in_metres(comparison, first if a.grid is None else a, names[0])))
    pictures = ', '.join(f'{name}.png' for name in names[1:])
    say(f'Wrote {", ".join(TABLES)} and {pictures} to {directory}.')


def _in_metres(comparison: Comparison, first: ObjectFile, name: str) -> str:
    """Return down to which detail two results agree, in words."""
    text = f'agrees with {printable(name)} down to {1 / (2 * comparison.half_bit):.2g} pixels (half period'
    pixel = None if first.grid is None else first.grid.pixel_width_m
    if pixel is not None:
        text += f', {pixel / (2 * comparison.half_bit):.2g} m'
    return f'{text}, where the ring correlation crosses the half-bit line).'


def report_scores(
    results: Sequence[ObjectFile],
    truth: ObjectFile,
    scan: Scan | None,
    directory: Path,
    *,
    as_json: bool = False,
) -> None:
    """Score results, write ``scores.csv``, ``scores.json`` and a figure for each, and print the table.

    The directory is held by the caller (:func:`~ptycho_engine.io.folder_lock.sole_writer`).
    """
    require_writable(directory, [f'{name}.png' for name in unique([result.name for result in results])])
    evaluations = [evaluate(result, truth, scan) for result in results]
    names = unique([evaluation.name for evaluation in evaluations])
    rows = [_plain({**e.to_row(), 'name': name}) for e, name in zip(evaluations, names, strict=True)]
    with staged(directory) as staging:
        _write_table(staging, rows)
        for result, evaluation, name in zip(results, evaluations, names, strict=True):
            _draw(staging.path(f'{name}.png'), result, truth, evaluation)
    if as_json:
        say_json(rows, indent=2)
        return
    say(*scores_table(rows))
    for evaluation, name in zip(evaluations, names, strict=True):
        if evaluation.account:
            say(*beside(f'{name}: ', evaluation.account))
    pictures = ', '.join(f'{name}.png' for name in names)
    say(f'Wrote {", ".join(TABLES)} and {pictures} to {directory}.')


def _plain(row: dict[str, object]) -> dict[str, object]:
    """Return a row whose names and paths every program can read, whatever bytes they hold."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}


def unique(names: Sequence[str]) -> list[str]:
    """Return names with a number behind those that occur more than once, in whatever case."""
    occurrences = Counter(name.casefold() for name in names)
    taken = set(occurrences)
    result = []
    for name in names:
        if occurrences[name.casefold()] > 1:
            numbered = (f'{name}-{number}' for number in count(1))
            name = next(candidate for candidate in numbered if candidate.casefold() not in taken)
            taken.add(name.casefold())
        result.append(name)
    return result


def _write_table(
    staging: Staging, rows: list[dict[str, object]], detailed: list[dict[str, object]] | None = None
) -> None:
    """Write rows as CSV and JSON, the latter of `detailed` ones where there are such."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    for name, content in zip(
        TABLES, (text.getvalue(), json.dumps(detailed or rows, indent=2) + '\n'), strict=True
    ):
        staging.path(name).write_text(content, encoding='utf-8')


def _draw(path: Path, result: ObjectFile, truth: ObjectFile, evaluation: Evaluation) -> None:
    losses = result.losses
    truth, result = on_common_grid(truth, result)
    box = result.box() if result.x is not None else truth.box()
    scores = evaluation.scores
    title = f'{printable(evaluation.name)}: NRMSE {scores.nrmse:.3f}, FRC50 {scores.frc50:.2f} 1/px'
    figure = comparison_figure(truth.object_array, result.object_array, box, losses, title)
    save_figure(figure, path)
