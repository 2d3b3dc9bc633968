"""Scans whose file says something wrong, reconstructed as they are and with what the scan says of itself.

    python tests/benchmarks/bench_calibration.py [--kinds defocus background ...] [--set tuning] [--count 3]

Each scan is simulated by NumPy alone (``outside_scenes.py``), 169 patterns of 64², four objects, three probes
and three doses, and reconstructed by default settings three times: with everything known, with a file that
is wrong and ``calibrate`` off, and with that file by ``auto``. What cannot be known of a fly scan is that it
moves: the scan that it is compared with stands still. A line gives the NRMSE and the CPU seconds of each and
what was found; a table of medians ends it. ``--set tuning`` takes the seeds by which settings may be chosen.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import numpy.typing as npt
from outside_scenes import SIDE, SIZE, intensities, make_object
from scipy.ndimage import gaussian_filter

from ptycho_engine.backends.base import create_backend
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.network.plan import build_plan
from ptycho_engine.physics.coherent import CoherentModes, coherent_modes
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.solver import Solution, solve

FIRST = {'tuning': 100, 'table': 400, 'unseen': 800}
SETS = {name: [first + 5 * i % 12 for i in range(12)] for name, first in FIRST.items()}
"""Seeds: those that settings may be chosen by, and two sets for tables. The first ones have other objects,
probes and doses each."""

STEP_PX, POINTS, JITTER_PX = 6.0, 13, 1.5
DOSES = 1e4, 1e5, 1e6
OBJECTS = 'leaves', 'grains', 'photographs', 'leaves'
DEFOCUS = 7.6, 10.0, 5.5
"""Phase in radians at the edge of the pupil of the three probes."""

HIGHEST, FALL = 0.36, 0.08
"""Cycles per pixel of a smooth object at most, and over which its spectrum falls to nothing."""

Image = npt.NDArray[np.complexfloating]
Row = dict[str, tuple[float, float]]
"""NRMSE and CPU seconds of each column."""
Real = npt.NDArray[np.float64]


def probe(defocus: float, coma: float = 0.7) -> npt.NDArray[np.complex128]:
    """Return an annular pupil out of focus (SIZE, SIZE), of power 1, in the middle of the patch."""
    frequency = np.fft.fftfreq(SIZE)
    fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
    radius, angle = np.hypot(fy, fx) / 0.17, np.arctan2(fy, fx)
    pupil = 1 / (1 + np.exp((radius - 1) / 0.03)) - 1 / (1 + np.exp((radius - 0.4) / 0.03))
    pupil = pupil * (1 - 0.25 * radius * np.cos(angle - 0.6))
    aberration = (
        defocus * radius**2 + coma * radius**3 * np.cos(angle + 1.1) + 0.5 * radius**3 * np.cos(3 * angle)
    )
    field = np.fft.fftshift(np.fft.ifft2(pupil * np.exp(1j * aberration + 1j * np.pi * (fx + fy))))
    return np.asarray(field / np.sqrt((np.abs(field) ** 2).sum()))


@dataclass
class Case:
    """What happened in the experiment, and what its file says."""

    rng: np.random.Generator
    truth: Image
    modes: Image
    """(P, N, N) of the beam."""
    x: Real
    y: Real
    photons: float
    told_probe: Image
    """(P, N, N)."""
    told_x: Real
    told_y: Real
    defocus: float
    """Phase in radians at the edge of the pupil."""
    blur: float = 0.0
    """Pixels that the stage moves along x in an exposure."""
    intensity: Real | None = None
    """(n,) relative."""
    background: float = 0.0
    bad: npt.NDArray[np.bool_] | None = None
    """(N, N) pixels that read a value of their own."""
    reading: Real | None = None
    """(N, N) of these."""
    drift: CoherentModes | None = None
    """By what the first mode of the beam is another one at each position."""
    told_drift: CoherentModes | None = None

    def scans(self) -> dict[str, Known]:
        """Return the scan with all that is known of it, and with a file that is wrong."""
        expected = sum(
            self._light(mode, moved)
            for mode in range(len(self.modes))
            for moved in (np.linspace(-0.5, 0.5, 5) * self.blur if self.blur else (0.0,))
        )
        factor = self.photons / expected.sum(axis=(1, 2)).mean()
        power = factor * (5 if self.blur else 1)
        relative = np.ones(len(self.x)) if self.intensity is None else self.intensity
        counts = self.rng.poisson(factor * expected * relative[:, None, None] + self.background).astype(float)
        if self.bad is not None:
            counts[:, self.bad] = self.rng.poisson(self.reading[self.bad], (len(counts), self.bad.sum()))
        told = self._file(
            counts, np.sqrt(power) * self.told_probe, self.told_x, self.told_y, self.told_drift, power
        )
        if self.blur:
            still = sum(self._light(mode, 0.0) for mode in range(len(self.modes)))
            counts = self.rng.poisson(power * still).astype(float)
        right = self._file(counts, np.sqrt(power) * self.modes, self.x, self.y, self.drift, power)
        known = Known(
            replace(right, bad_pixels=self.bad),
            None if self.intensity is None else self.intensity / self.intensity.mean(),
            np.full((SIZE, SIZE), self.background) if self.background else None,
        )
        return {'right': known, 'wrong': Known(told)}

    def _light(self, mode: int, moved: float) -> Real:
        """Return the expected counts (n, SIZE, SIZE) of a mode, with the stage moved along x."""
        if mode or self.drift is None:
            return intensities(self.truth, self.modes[mode], self.x + moved, self.y)
        probes = self.modes[0] + np.tensordot(self.drift.weights, self.drift.modes, 1)
        each = zip(probes, self.x[:, None] + moved, self.y[:, None], strict=True)
        return np.concatenate([intensities(self.truth, one, x, y) for one, x, y in each])

    def _file(
        self, counts: Real, modes: Image, x: Real, y: Real, drift: CoherentModes | None, power: float
    ) -> RawData:
        return RawData(
            diffraction=np.sqrt(counts).astype(np.float32),
            probeGuess=modes.astype(np.complex64),
            xcoords=x.copy(),
            ycoords=y.copy(),
            objectGuess=np.ones(self.truth.shape, np.complex64),
            coherent=None if drift is None else drift.scaled(np.sqrt(power)),
            source='case',
        )


@dataclass
class Known:
    """A scan and what its file cannot say."""

    raw: RawData
    intensity: Real | None = None
    """(n,) relative."""
    background: Real | None = None
    """(N, N) counts."""


def _clean(case: Case) -> None:
    pass


def _defocus(case: Case) -> None:
    case.told_probe = probe(case.rng.choice([-1, 1]) * case.rng.uniform(2, 4) + case.defocus, 0.4)[None]


def _positions(case: Case) -> None:
    case.told_x = case.x + case.rng.normal(0, 0.7, len(case.x))
    case.told_y = case.y + case.rng.normal(0, 0.7, len(case.y))


def _both(case: Case) -> None:
    _defocus(case)
    _positions(case)


def _modes(case: Case) -> None:
    frequency = np.fft.fftfreq(SIZE)
    others = [
        np.fft.ifft2(2j * np.pi * f * np.fft.fft2(case.modes[0])) for f in (frequency, frequency[:, None])
    ]
    others = [
        np.sqrt(share) * mode / np.linalg.norm(mode) for share, mode in zip((0.25, 0.15), others, strict=True)
    ]
    case.modes = np.stack([np.sqrt(0.6) * case.modes[0], *others])


def _background(case: Case) -> None:
    case.background = case.rng.uniform(1, 4)


def _intensities(case: Case) -> None:
    case.intensity = case.rng.uniform(0.3, 1.2, len(case.x))


def _affine(case: Case) -> None:
    angle, stretch = np.deg2rad(case.rng.choice([-1, 1]) * 8), 1 + 0.08 * case.rng.choice([-1, 1])
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if case.rng.random() < 0.5:
        matrix = stretch * np.eye(2)
    middle = np.array([[case.x.mean()], [case.y.mean()]])
    case.told_x, case.told_y = matrix @ (np.stack([case.x, case.y]) - middle) + middle


def _hot(case: Case) -> None:
    case.bad = np.zeros((SIZE, SIZE), bool)
    case.reading = np.zeros((SIZE, SIZE))
    for _ in range(4):
        place = tuple(case.rng.integers(4, SIZE - 4, 2))
        case.bad[place], case.reading[place] = True, 10 ** case.rng.uniform(3, 5)


def _gap(case: Case) -> None:
    case.bad, case.reading = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE))
    case.bad[:, 38:40] = True


def _stop(case: Case) -> None:
    case.reading = np.zeros((SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    case.bad = np.hypot(y - 8, x) < 4


def _fly(case: Case) -> None:
    case.blur = STEP_PX


def _drift(case: Case) -> None:
    """Three coherent modes: focus and tilt of the beam drift over the scan. The file has their mean."""
    frequency = np.fft.fftfreq(SIZE)
    fy, fx = np.meshgrid(frequency, frequency, indexing='ij')
    spectrum = np.fft.fft2(case.modes[0])
    middle = np.arange(SIZE) - (SIZE - 1) / 2
    slope = middle[:, None] * np.cos(1.0) + middle * np.sin(1.0)
    changes = np.stack([np.fft.ifft2(1j * (fx**2 + fy**2) * spectrum), 1j * slope * case.modes[0]])
    # Less what is a phase of all of the probe, which shows in no pattern.
    phase = (changes * case.modes[0].conj()).imag.sum(axis=(1, 2)) / np.square(np.abs(case.modes[0])).sum()
    changes -= 1j * phase[:, None, None] * case.modes[0]
    time = np.linspace(0, 1, len(case.x))
    begin = case.rng.uniform(0, 2 * np.pi)
    weights = np.stack([time - 0.5, 0.4 * np.cos(2 * np.pi * time + begin)], axis=1)
    weights += 0.05 * case.rng.standard_normal(weights.shape)
    norms = np.linalg.norm(changes, axis=(1, 2))[:, None, None]
    found, case.drift = coherent_modes(case.modes, changes / norms * np.linalg.norm(case.modes[0]), weights)
    case.modes = case.told_probe = found.astype(complex)


def _other_drift(case: Case) -> None:
    """The same; the file has other modes and weights, as an earlier reconstruction of few iterations does."""
    _drift(case)
    drift = case.drift
    assert drift is not None
    noise = case.rng.standard_normal((2, *drift.modes.shape))
    blurred = gaussian_filter(noise[0] + 1j * noise[1], (0, 2, 2)) * np.abs(case.modes[0])
    blurred *= np.linalg.norm(drift.modes, axis=(1, 2), keepdims=True) / np.linalg.norm(
        blurred, axis=(1, 2), keepdims=True
    )
    weights = drift.weights * case.rng.uniform(0.5, 1.5, drift.weights.shape)
    case.told_drift = CoherentModes((0.8 * drift.modes + 0.6 * blurred).astype(np.complex64), weights)


KINDS: dict[str, Callable[[Case], None]] = {
    'clean': _clean,
    'defocus': _defocus,
    'positions': _positions,
    'defocus+positions': _both,
    'modes': _modes,
    'background': _background,
    'intensities': _intensities,
    'affine': _affine,
    'hot': _hot,
    'gap': _gap,
    'stop': _stop,
    'fly': _fly,
    'varying': _drift,
    'varying-roughly': _other_drift,
}


def smooth(obj: Image) -> Image:
    """Return an object (H, W) without frequencies above HIGHEST: no light wraps around on the detector."""
    radius = np.hypot(np.fft.fftfreq(obj.shape[0])[:, None], np.fft.fftfreq(obj.shape[1]))
    return np.asarray(np.fft.ifft2(np.fft.fft2(obj) * np.clip((HIGHEST - radius) / FALL, 0, 1)))


def make_case(kind: str, seed: int, *, smoothed: bool = False) -> Case:
    """Simulate a scan of a kind; object, probe and dose follow from the seed."""
    rng = np.random.default_rng([24, sorted(KINDS).index(kind), seed])
    truth = make_object(OBJECTS[seed % len(OBJECTS)], seed)
    if smoothed:
        truth = smooth(truth)
    defocus = DEFOCUS[seed % len(DEFOCUS)]
    beam = probe(defocus)[None]
    axis = (np.arange(POINTS) - (POINTS - 1) / 2) * STEP_PX + (SIDE - 1) / 2
    y, x = (
        (grid + rng.uniform(-JITTER_PX, JITTER_PX, grid.shape)).ravel()
        for grid in np.meshgrid(axis, axis, indexing='ij')
    )
    photons = DOSES[seed // len(OBJECTS) % len(DOSES)]
    case = Case(rng, truth, beam, x, y, photons, beam, x, y, defocus)
    KINDS[kind](case)
    return case


def image(known: Known, calibrate: str, backend: str) -> tuple[Image, float, str]:
    """Return the object that defaults find, CPU seconds and what is told of it."""
    tic = time.process_time()
    config = InferenceConfig(backend=backend, calibrate=calibrate)
    archive = load_model()
    prepared = ScanModel(Scan.from_raw(known.raw), intensity=known.intensity, background=known.background)
    with closing(create_backend(backend, PyTorchExecutionConfig(accelerator='cpu'))) as engine:
        engine.build(build_plan(archive.config.model), archive.weights)
        steps = solve(prepared, engine, config, lambda: False, learned=True)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: Solution = end.value
                return found.object_array, time.process_time() - tic, found.sentence


COLUMNS = {
    'right': ('right', 'off'),
    'clean-auto': ('right', 'auto'),
    'wrong': ('wrong', 'off'),
    'auto': ('wrong', 'auto'),
}
"""Which file is reconstructed with which `calibrate`."""


def lines(
    kind: str, seeds: Sequence[int], columns: Sequence[str], backend: str, *, smoothed: bool = False
) -> Iterator[Row]:
    """Yield NRMSE and seconds of each column of a kind, seed by seed, and print them."""
    for seed in seeds:
        case = make_case(kind, seed, smoothed=smoothed)
        scans = case.scans()
        found: Row = {}
        words = ''
        for column in columns:
            file, calibrate = COLUMNS[column]
            obj, seconds, comments = image(scans[file], calibrate, backend)
            box = scan_box(case.x, case.y, case.truth.shape)
            found[column] = score(case.truth.astype(np.complex64), obj, box).nrmse, seconds
            words += f'{column} {found[column][0]:.4f} in {seconds:.1f} s   '
        print(f'{kind:18} {seed}  {words}{comments if "auto" in columns else ""}', flush=True)
        yield found


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--set', choices=SETS, default='table')
    parser.add_argument('--count', type=int, help='the first so many seeds (default: all)')
    parser.add_argument('--columns', nargs='+', choices=COLUMNS, default=['right', 'wrong', 'auto'])
    parser.add_argument('--backend', choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument('--smooth', action='store_true', help='objects whose light the detector holds')
    given = parser.parse_args(words)
    seeds = SETS[given.set][: given.count]
    image(
        make_case('clean', seeds[0]).scans()['right'], 'off', given.backend
    )  # Not timed: what is loaded once.
    print(f'| kind | {" | ".join(given.columns)} | auto / right: median, worst | times the seconds |')
    print('|---' * (3 + len(given.columns)) + '|')
    table = {
        kind: list(lines(kind, seeds, given.columns, given.backend, smoothed=given.smooth))
        for kind in given.kinds
    }
    for kind, rows in table.items():
        cells = ' | '.join(f'{median(row[c][0] for row in rows):.4f}' for c in given.columns)
        last = given.columns[-1]
        errors, seconds = ([row[last][i] / row[given.columns[0]][i] for row in rows] for i in (0, 1))
        print(f'| {kind} | {cells} | {median(errors):.2f}, {max(errors):.2f} | {median(seconds):.1f} |')


if __name__ == '__main__':
    main()
