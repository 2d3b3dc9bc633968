"""Images without training beside pty-chi's, on scans that share no code with the package.

    python tests/benchmarks/bench_prior.py [--rows 24px-1e5 ...] [--kinds leaves grains] [--count 6]

Physics alone, the packaged prior and pty-chi (extra ``benchmark``, settings of ``pty_chi.py``) reconstruct
each scan of ``outside_scenes.py`` with the known probe, from a flat object, in one thread. Scores and CPU
seconds of each column are kept in ``--scores``; what is missing there, was made with other settings, or is
named in ``--again`` is measured. Pty-chi's do not depend on this package: where ours changes,
``--again physics prior`` measures the rest of the table, without pty-chi installed too.

``--set tuning`` takes other objects, by which settings may be chosen (``--pty-chi`` tries some of pty-chi's);
``--kinds former`` the scenes of ``quality_scenes.py``; ``--picture FILE`` draws the images of the first
object of each row instead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import mean, median, stdev

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import numpy.typing as npt
from outside_scenes import KINDS, ROWS, SETS, Scene, make_scene
from pty_chi import BEST, Settings, pty_chi
from quality_picture import draw
from quality_scenes import STEP, TEXTURES, raster_scan

from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.archive import ModelArchive
from ptycho_engine.formats.packaged import NO_MODEL, PACKAGED_PRIOR, load_model
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score

HERE = Path(__file__).resolve().parent
SCORES = HERE / 'prior_scores.json'
CHI, PHYSICS, PRIOR = 'pty-chi', 'physics', 'prior'
COLUMNS = (CHI, PHYSICS, PRIOR)
FORMER = 'former'
"""Kind of the two objects that the package's own functions draw."""

COMPARED_PATTERNS = 4
"""Patterns whose counts tell whether a kept score is of the same scan."""

SAME_COUNTS = 1e-4
"""Relative difference of these counts up to which it is; other noise differs by more."""


@dataclass(frozen=True)
class Options:
    """What the columns depend on beside the scan."""

    backend: str
    model: Path | None
    """Instead of the packaged prior."""
    chi: Settings | None
    """Instead of pty-chi's best settings."""

    def of(self, column: str, row: str) -> dict[str, object]:
        """Return what a score of a column is good for, as it is kept beside it."""
        if column == CHI:
            return asdict(self.chi or BEST[row])
        return {'backend': self.backend} | ({'model': _digest(self.model)} if column == PRIOR else {})


@cache
def _digest(model: Path | None) -> str:
    return hashlib.sha256((model or PACKAGED_PRIOR).read_bytes()).hexdigest()[:12]


@cache
def _model(path: Path | str | None) -> ModelArchive:
    return load_model(path)


def image(scene: Scene, column: str, options: Options) -> tuple[npt.NDArray[np.complex64], float]:
    """Return the object that a column finds, and the CPU seconds from the scan in memory to it."""
    raw = RawData(**scene.as_measured())
    if column == CHI:
        settings = options.chi or BEST[scene.row]
        # Its import, and what it does once in a process.
        pty_chi(raw.select(np.arange(1)), Settings('autodiff', 1, 0.01))
        tic = time.process_time()
        return pty_chi(raw, settings), time.process_time() - tic
    archive = _model(options.model) if column == PRIOR else _model(NO_MODEL)
    execution = PyTorchExecutionConfig(accelerator='cpu')
    tic = time.process_time()
    for event in reconstruct(
        Scan.from_raw(raw), archive, InferenceConfig(backend=options.backend), execution=execution
    ):
        if isinstance(event, Reconstructed):
            found = event.reconstruction.object_array
    return found, time.process_time() - tic


class Scores:
    """Scores of columns on scenes, kept in a JSON file."""

    def __init__(self, path: Path, options: Options, again: Sequence[str]) -> None:
        self._path, self._options, self._again = path, options, again
        self._all: dict[str, dict[str, object]] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, scene: Scene, column: str) -> dict[str, float]:
        """Return NRMSE, SSIMs and CPU seconds, kept or measured."""
        name = f'{scene.name} {column}'
        made_with = self._options.of(column, scene.row)
        counts = [int(total) for total in scene.counts[:COMPARED_PATTERNS].sum(axis=(1, 2))]
        kept = self._all.get(name)
        # Not to the last photon: other machines round otherwise.
        if (
            column in self._again
            or kept is None
            or kept['with'] != made_with
            or not np.allclose(kept['counts'], counts, rtol=SAME_COUNTS)
        ):
            found, seconds = image(scene, column, self._options)
            scores = score(scene.truth, found, scan_box(scene.x, scene.y, scene.truth.shape))
            kept = self._all[name] = {
                'nrmse': round(scores.nrmse, 5),
                'amplitude': round(scores.amplitude_ssim, 4),
                'phase': round(scores.phase_ssim, 4),
                'seconds': round(seconds, 1),
                'counts': counts,
                'with': made_with,
            }
            lines = (f'{json.dumps(key)}: {json.dumps(value)}' for key, value in sorted(self._all.items()))
            self._path.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
        return {key: value for key, value in kept.items() if isinstance(value, float)}


@dataclass(frozen=True)
class Line:
    """A scene and what each column reaches on it."""

    scene: Scene
    scores: dict[str, dict[str, float]]

    def __str__(self) -> str:
        cells = (
            f'{column} {s["nrmse"]:.4f} {s["amplitude"]:.3f}/{s["phase"]:.3f} {s["seconds"]:.1f} s'
            for column, s in self.scores.items()
        )
        return f'{self.scene.name:24} {"   ".join(cells)}'


def table(lines: Sequence[Line], columns: Sequence[str]) -> Iterator[str]:
    """Yield a table of means over the objects: NRMSE with its spread, amplitude / phase SSIM, CPU seconds."""
    yield f'| scan | objects | {" | ".join(columns)} |'
    yield '|---' * (2 + len(columns)) + '|'
    for row in dict.fromkeys(line.scene.row for line in lines):
        found = [line.scores for line in lines if line.scene.row == row]
        step, photons = ROWS[row]
        yield f'| {step} px, {photons:.0e} | {len(found)} | {" | ".join(_cell(found, c) for c in columns)} |'


def _cell(found: Sequence[dict[str, dict[str, float]]], column: str) -> str:
    nrmse, amplitude, phase, seconds = (
        [scores[column][key] for scores in found] for key in ('nrmse', 'amplitude', 'phase', 'seconds')
    )
    spread = f' ± {stdev(nrmse):.4f}' if len(nrmse) > 1 else ''
    return f'{mean(nrmse):.4f}{spread}, {mean(amplitude):.2f}/{mean(phase):.2f}, {mean(seconds):.1f} s'


def comparisons(lines: Sequence[Line], columns: Sequence[str]) -> Iterator[str]:
    """Yield for each row how the NRMSE of our columns compares to pty-chi's, object by object."""
    for row in dict.fromkeys(line.scene.row for line in lines):
        for column in (column for column in columns if column != CHI and CHI in columns):
            ratios = {
                line.scene.name: line.scores[column]['nrmse'] / line.scores[CHI]['nrmse']
                for line in lines
                if line.scene.row == row
            }
            worst = max(ratios, key=lambda name: ratios[name])
            yield (
                f'{row}: NRMSE of {column} over that of pty-chi: median {median(ratios.values()):.2f}, '
                f'worst {ratios[worst]:.2f} ({worst}); above 1 on {sum(r > 1 for r in ratios.values())} of '
                f'{len(ratios)}'
            )


def scenes(row: str, kinds: Sequence[str], numbers: Sequence[int]) -> Iterator[Scene]:
    """Yield the scenes of a row."""
    for kind in kinds:
        if kind == FORMER:
            yield from (_former_scene(letter, row) for letter in TEXTURES)
        else:
            yield from (make_scene(kind, number, row) for number in numbers)


def _former_scene(letter: str, row: str) -> Scene:
    step, photons = ROWS[row]
    raw = raster_scan(TEXTURES[letter], photons, round(step / STEP)).raw
    counts = np.rint(np.square(raw.diffraction)).astype(np.int64)
    return Scene(FORMER, letter, row, raw.objectGuess, raw.probeGuess[0], raw.xcoords, raw.ycoords, counts)


def _chi_settings(words: str) -> Settings:
    """Read 'ENGINE,STEPS,STEP_SIZE,TOTAL_VARIATION'."""
    engine, steps, step_size, variation = words.split(',')
    return Settings(engine, int(steps), float(step_size), float(variation))


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    parser.add_argument('--kinds', nargs='+', choices=[*KINDS, FORMER], default=['leaves', 'grains'])
    parser.add_argument('--set', choices=SETS, default='table', help='which objects of each kind')
    parser.add_argument('--count', type=int, help='the first so many of them (default: all)')
    parser.add_argument('--columns', nargs='+', choices=COLUMNS, default=COLUMNS)
    parser.add_argument('--again', nargs='*', choices=COLUMNS, default=(), help='measured anew')
    parser.add_argument('--scores', type=Path, default=SCORES)
    parser.add_argument('--backend', choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument('--model', type=Path, help='an archive in place of the packaged prior')
    parser.add_argument(
        '--pty-chi', type=_chi_settings, metavar='ENGINE,STEPS,STEP_SIZE,TOTAL_VARIATION', help='settings'
    )
    parser.add_argument('--picture', type=Path, help='PNG file')
    given = parser.parse_args(words)
    options = Options(given.backend, given.model, given.pty_chi)
    numbers = SETS[given.set][: given.count]
    if given.picture:
        shown = [next(scenes(row, given.kinds, numbers)) for row in given.rows]
        draw(given.picture, shown, lambda scene, column: image(scene, column, options)[0], given.columns)
        return
    kept = Scores(given.scores, options, given.again)
    lines = []
    for row in given.rows:
        for scene in scenes(row, given.kinds, numbers):
            lines.append(Line(scene, {column: kept.of(scene, column) for column in given.columns}))
            print(lines[-1], flush=True)
    print('\n'.join([*table(lines, given.columns), *comparisons(lines, given.columns)]))


if __name__ == '__main__':
    main()
