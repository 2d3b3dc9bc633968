"""Compare reconstructions with a known object.

RESULT is a product, an NPZ file with objectGuess, or the output directory of `ptychopinn reconstruct`. The
scores are taken inside the scanned region, after a sub-pixel shift, a complex factor and a phase ramp are
removed. With --scan the deviance of the measured patterns is computed too, under the result's own probe and
positions. Below the table stands what each reconstruction said of itself: fit, ring correlation of odd and
even patterns, uncertainty, refinement. Writes into the output directory
  scores.csv, scores.json   the table
  NAME.png                  truth beside result, losses, ring correlation

examples:
  ptychopinn evaluate result --truth scan/truth.h5 --output scores
  ptychopinn evaluate a b --truth scan/truth.h5 --scan scan --output scores
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from ..io.folder_lock import sole_writer, tidy
from ..io.preflight import require_writable
from ..io.staging import Staging, staged
from ..printable import printable
from ..reconstruction.evaluate import Evaluation, ObjectFile, evaluate, read_object
from ..reconstruction.picture import comparison_figure, save_figure
from ..scan.scan import Scan, load_scan
from .paragraph import beside, say
from .table import scores_table

TABLES = ('scores.csv', 'scores.json')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn evaluate``."""
    parser.add_argument('results', nargs='+', type=Path, metavar='RESULT', help='reconstructions')
    parser.add_argument(
        '--truth', type=Path, required=True, metavar='FILE', help='product or NPZ file with the known object'
    )
    parser.add_argument('--scan', type=Path, metavar='SCAN', help='the scan that was reconstructed')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')


def run(options: argparse.Namespace) -> None:
    """Score every result, write table and figures, print the table."""
    require_writable(options.output, TABLES)
    truth = read_object(options.truth, truth=True)
    scan = None if options.scan is None else load_scan(options.scan)
    for path in options.results:
        tidy(path if path.is_dir() else path.parent)
    results = [read_object(path) for path in options.results]
    with sole_writer(options.output, 'ptychopinn evaluate'):
        report_scores(results, truth, scan, options.output)


def report_scores(
    results: Sequence[ObjectFile], truth: ObjectFile, scan: Scan | None, directory: Path
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


def _write_table(staging: Staging, rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    for name, content in zip(TABLES, (text.getvalue(), json.dumps(rows, indent=2) + '\n'), strict=True):
        staging.path(name).write_text(content, encoding='utf-8')


def _draw(path: Path, result: ObjectFile, truth: ObjectFile, evaluation: Evaluation) -> None:
    box = result.box() if result.x is not None else truth.box()
    scores = evaluation.scores
    title = f'{printable(evaluation.name)}: NRMSE {scores.nrmse:.3f}, FRC50 {scores.frc50:.2f} 1/px'
    figure = comparison_figure(truth.object_array, result.object_array, box, result.losses, title)
    save_figure(figure, path)
