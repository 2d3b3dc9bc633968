"""How often `doctor` names what is wrong with a scan, what its repair is worth, and how often it cries wolf.

``python -m tests.benchmarks.bench_doctor [--seeds 20] [--first 0] [--only NAME] [--clean 60]``: for each kind
of mistake so many simulated scans (48×48 pixels, 8×8 positions, 1e4 to 1e6 photons, a probe without symmetry)
are spoilt; then so many good scans of many kinds are looked at. NRMSE is that of physics alone, against the
truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ptycho_engine.config import InferenceConfig
from ptycho_engine.diagnostics.changes import changed
from ptycho_engine.diagnostics.diagnosis import Diagnosis, diagnose
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import score
from ptycho_engine.simulate import OBJECT_FAMILIES, make_object, make_positions, simulate_scan
from ptycho_engine.simulate.recipe import Recipe

SIZE, SIDE = 48, 8
Rng = np.random.Generator
Spoil = Callable[[RawData, Rng], RawData]


@dataclass(frozen=True)
class Kind:
    """A mistake, and the names under which it may go."""

    spoil: Spoil
    names: tuple[str, ...]


def probe(rng: Rng) -> np.ndarray:
    """Return a probe (1, SIZE, SIZE) without symmetry, out of focus."""
    f = np.fft.fftfreq(SIZE)
    fy, fx = np.meshgrid(f, f, indexing='ij')
    r = np.hypot(fx, fy) / 0.2
    turn = rng.uniform(0, 2 * np.pi)
    u, v = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    phase = rng.uniform(5, 9) * r**2 + rng.uniform(2, 4) * (u**2 - v**2) / 0.04
    phase += rng.uniform(1.5, 3) * (u + 0.3 * v) / 0.2 * r**2 + np.pi * (fx + fy)
    return np.fft.fftshift(np.fft.ifft2((r < 1) * (r > 0.25) * np.exp(1j * phase)))[None].astype(np.complex64)


def good_scan(seed: int, background: float = 0.0) -> RawData:
    """Return a scan whose object is the truth."""
    rng = np.random.default_rng([seed, 5])
    x, y = make_positions(str(rng.choice(['raster', 'spiral'])), SIDE, SIDE, rng.uniform(3.5, 6), rng)
    shape = int(np.ptp(y)) + SIZE + 10, int(np.ptp(x)) + SIZE + 12
    truth = make_object(
        str(rng.choice(list(OBJECT_FAMILIES))),
        shape,
        rng,
        absorption=rng.uniform(0.1, 0.5),
        phase=rng.uniform(0.5, 1.2),
    )
    x, y = x - x.min() + (SIZE - 1) / 2 + 4, y - y.min() + (SIZE - 1) / 2 + 4
    photons = float(10 ** rng.uniform(4, 6))
    return simulate_scan(truth, probe(rng), x, y, photons=photons, rng=rng, background=background)


def of_patterns(change: Callable[[np.ndarray, Rng], np.ndarray]) -> Spoil:
    return lambda raw, rng: replace(raw, diffraction=change(raw.diffraction, rng).copy())


def of_counts(change: Callable[[np.ndarray, Rng], None]) -> Spoil:
    def spoil(raw: RawData, rng: Rng) -> RawData:
        counts = np.rint(np.square(raw.diffraction, dtype=np.float64))
        change(counts, rng)
        return replace(raw, diffraction=np.sqrt(counts).astype(np.float32))

    return spoil


def of_positions(change: Callable[[np.ndarray, np.ndarray, Rng], tuple[np.ndarray, np.ndarray]]) -> Spoil:
    def spoil(raw: RawData, rng: Rng) -> RawData:
        x, y = change(raw.xcoords, raw.ycoords, rng)
        return replace(raw, xcoords=x, ycoords=y)

    return spoil


def mapped(degrees: tuple[float, float], stretch: tuple[float, float]) -> Spoil:
    def change(x: np.ndarray, y: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        angle = np.radians(rng.uniform(*degrees) * rng.choice([-1, 1]))
        factor = 1 + rng.uniform(*stretch) * rng.choice([-1, 1])
        c, s = factor * np.cos(angle), factor * np.sin(angle)
        u, v = x - x.mean(), y - y.mean()
        return c * u - s * v + x.mean(), s * u + c * v + y.mean()

    return of_positions(change)


def defocused(raw: RawData, rng: Rng) -> RawData:
    square = (2 * np.fft.fftfreq(SIZE)) ** 2
    curvature = rng.uniform(6, 20) * rng.choice([-1, 1])
    phase = np.exp(1j * curvature * (square[:, None] + square))
    return replace(raw, probeGuess=np.fft.ifft2(np.fft.fft2(raw.probeGuess) * phase).astype(np.complex64))


def hot(counts: np.ndarray, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 4))):
        counts[:, rng.integers(SIZE), rng.integers(SIZE)] = round(10 ** rng.uniform(3.3, 5))


def stuck_row(counts: np.ndarray, rng: Rng) -> None:
    counts[:, rng.integers(SIZE)] = round(10 ** rng.uniform(1.3, 4))


def dead(counts: np.ndarray, rng: Rng) -> None:
    row, column = rng.integers(SIZE // 2 - 7, SIZE // 2 + 5, 2)
    counts[:, row : row + int(rng.integers(2, 5)), column : column + int(rng.integers(2, 5))] = 0


def saturated(counts: np.ndarray, rng: Rng) -> None:
    np.minimum(counts, np.floor(np.quantile(counts, rng.uniform(0.99, 0.997))), out=counts)


def unsteady(counts: np.ndarray, rng: Rng) -> None:
    counts[:] = rng.binomial(counts.astype(np.int64), rng.uniform(0.4, 1, (len(counts), 1, 1)))


def reordered(raw: RawData, order: Callable[[np.ndarray], np.ndarray]) -> RawData:
    index = order(np.arange(len(raw)))
    return replace(raw, xcoords=raw.xcoords[index], ycoords=raw.ycoords[index])


def slipped_later(raw: RawData, rng: np.random.Generator) -> RawData:
    place, size = int(rng.integers(10, len(raw) - 10)), int(rng.choice([-3, -2, -1, 1, 2, 3]))
    patterns = np.arange(len(raw))
    if size > 0:
        patterns = np.delete(patterns, slice(place, place + size))
    else:
        patterns = np.insert(patterns, place, [place] * -size)[: len(raw)]
    positions = slice(0, len(patterns))
    return replace(raw.select(patterns), xcoords=raw.xcoords[positions], ycoords=raw.ycoords[positions])


UNIT, AXES = ('unit of positions',), ('rotated axes', 'step scale', 'sheared axes')
HALF_TURN = 'patterns turned by 180 degrees'
QUARTER_TURN = 'patterns turned by 90 degrees counter-clockwise'
KINDS = {
    'flipud': Kind(of_patterns(lambda a, _: a[:, ::-1]), ('patterns upside down',)),
    'fliplr': Kind(of_patterns(lambda a, _: a[:, :, ::-1]), ('patterns mirrored left to right',)),
    'rot180': Kind(of_patterns(lambda a, _: a[:, ::-1, ::-1]), (HALF_TURN,)),
    'transpose': Kind(of_patterns(lambda a, _: a.swapaxes(1, 2)), ('patterns transposed',)),
    'rot90': Kind(
        of_patterns(lambda a, _: np.rot90(a, axes=(1, 2))),
        (QUARTER_TURN,),
    ),
    'fftshift': Kind(of_patterns(lambda a, _: np.fft.ifftshift(a, axes=(1, 2))), ('fftshift',)),
    'off centre': Kind(
        of_patterns(lambda a, rng: np.roll(a, rng.integers(3, 9, 2) * rng.choice([-1, 1], 2), axis=(1, 2))),
        ('patterns shifted',),
    ),
    '-x': Kind(of_positions(lambda x, y, _: (-x, y)), ('positions -x',)),
    '-y': Kind(of_positions(lambda x, y, _: (x, y.min() + y.max() - y)), ('positions -y',)),
    '-x, -y': Kind(of_positions(lambda x, y, _: (-x, -y)), ('positions -x, -y',)),
    'swapped': Kind(of_positions(lambda x, y, _: (y, x)), ('positions swapped',)),
    'unit, metres': Kind(of_positions(lambda x, y, r: (x * (s := 10 ** r.uniform(-8, -6)), y * s)), UNIT),
    'unit, micrometres': Kind(of_positions(lambda x, y, r: (x * (s := r.uniform(0.01, 0.2)), y * s)), UNIT),
    'unit, 1000': Kind(of_positions(lambda x, y, _: (x / 1000, y / 1000)), UNIT),
    'unit, larger': Kind(of_positions(lambda x, y, r: (x * (s := r.uniform(10, 40)), y * s)), UNIT),
    'turned axes': Kind(mapped((5, 15), (0, 0)), AXES),
    'step scale': Kind(mapped((0, 0), (0.06, 0.15)), AXES),
    'conjugated probe': Kind(lambda r, _: replace(r, probeGuess=r.probeGuess.conj()), (HALF_TURN,)),
    'mirrored probe': Kind(
        lambda r, _: replace(r, probeGuess=r.probeGuess[..., ::-1].copy()), ('probe mirrored left to right',)
    ),
    'defocused probe': Kind(defocused, ('probe defocused', 'probe')),
    'hot': Kind(of_counts(hot), ('stuck pixels',)),
    'stuck row': Kind(of_counts(stuck_row), ('stuck pixels',)),
    'dead': Kind(of_counts(dead), ('dead pixels',)),
    'saturated': Kind(of_counts(saturated), ('saturation',)),
    'background': Kind(lambda raw, _: raw, ('background',)),
    'intensities': Kind(of_counts(unsteady), ('intensities',)),
    'reversed': Kind(lambda r, _: reordered(r, lambda i: i[::-1]), ('order reversed',)),
    'out of step': Kind(
        lambda r, rng: reordered(r, lambda i: np.roll(i, int(rng.choice([-2, -1, 1, 2])))),
        tuple(f'order shifted by {k}' for k in (-2, -1, 1, 2)),
    ),
}
# Patterns that are missing, or too many, anywhere but at the beginning.
KINDS['out of step later'] = Kind(
    slipped_later, tuple(f'order slipped by {k}' for k in (-3, -2, -1, 1, 2, 3))
)
UNREPAIRED = 'background', 'intensities'


def nrmse(raw: RawData, truth: np.ndarray, like: RawData) -> float:
    """Return the error of the image of a scan against the truth, in the frame of a good scan or mirrored."""
    config = InferenceConfig(calibrate='off')
    *_, last = reconstruct(Scan.from_raw(replace(raw, objectGuess=None)), load_model('none'), config)
    assert isinstance(last, Reconstructed)
    found, grid = last.reconstruction.object_array, last.reconstruction.grid
    good = Scan.from_raw(replace(like, objectGuess=None)).grid
    row, column = int(good.origin_y), int(good.origin_x)
    part = truth[row : row + good.height, column : column + good.width]
    height, width = min(part.shape[0], grid.height), min(part.shape[1], grid.width)
    inner = slice(SIZE // 2, height - SIZE // 2), slice(SIZE // 2, width - SIZE // 2)
    wanted, got = part[:height, :width], found[:height, :width]
    # A sign of both axes, or a conjugate, may as well be the other one.
    return min(
        score(candidate, wanted, inner).nrmse
        for image in (got, got[::-1], got[:, ::-1], got[::-1, ::-1])
        for candidate in (image, image.conj())
    )


def row(name: str, kind: Kind, seeds: range) -> str:
    named, solved, ratios, seconds = 0, 0, [], 0.0
    missed = []
    for seed in seeds:
        good = good_scan(seed, background=3.0 if name == 'background' else 0.0)
        spoilt = kind.spoil(replace(good, objectGuess=None), np.random.default_rng([seed, 6]))
        tic = time.process_time()
        found = diagnose(spoilt)
        seconds += time.process_time() - tic
        keys = [cause.key for cause in found.causes] if found else []
        right = bool(keys) and keys[0] in kind.names
        named += right
        solved += found is not None and found.solved
        if not right:
            missed.append(f'{seed}: {", ".join(keys) or "nothing"}')
        if right and found is not None and name not in UNREPAIRED:
            assert good.objectGuess is not None
            clean = nrmse(good, good.objectGuess, good)
            ratios.append(nrmse(changed(spoilt, found.changes), good.objectGuess, good) / clean)
    worth = f'{np.median(ratios):.2f} (worst {max(ratios):.2f})' if ratios else '-'
    count = len(seeds)
    rates = f'{named:>2}/{count} {solved:>2}/{count}'
    return f'{name:<18} {rates}  {worth:<20} {seconds / count:5.1f}  {"; ".join(missed)}'


def clean_recipe(seed: int) -> Recipe:
    """Return a good scan of one of many kinds."""
    rng = np.random.default_rng([seed, 77])
    size, scan = int(rng.choice([32, 48, 64, 96, 128])), str(rng.choice(['raster', 'spiral', 'random']))
    modes, side = int(rng.integers(1, 4)), int(rng.choice([5, 7, 10, 14, 20, 24]))
    if seed % 8 == 3:
        size, side = (256, 7) if seed % 16 == 3 else (size, 32)
    return Recipe(
        object=str(rng.choice(list(OBJECT_FAMILIES))),
        scan=scan,
        size=size,
        points=f'{side}x{side}',
        photons=float(10 ** rng.uniform(3, 6)),
        modes=modes if modes > 1 else None,
        step_px=float(rng.uniform(0.06, 0.22) * size),
        phase=float(rng.uniform(0.3, 1.5)),
        absorption=float(rng.uniform(0.05, 0.6)),
        defocus_rad=float(rng.choice([3, 6, 9, 14])),
        jitter=float(rng.choice([0, 0.1, 0.25])) if scan == 'raster' else None,
        seed=seed,
    )


def cries_wolf(found: Diagnosis | None) -> bool:
    return found is not None and (not found.near or bool(found.causes) or bool(found.suspected))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=20)
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--only', nargs='*', default=list(KINDS))
    parser.add_argument('--clean', type=int, default=60)
    options = parser.parse_args()
    if options.seeds:
        print('mistake            named solved NRMSE / clean        CPU-s  missed', flush=True)
    for name in options.only if options.seeds else ():
        print(row(name, KINDS[name], range(options.first, options.first + options.seeds)), flush=True)
    alarms, seconds = [], []
    for seed in range(options.first, options.first + options.clean):
        raw = clean_recipe(seed).simulate()
        tic = time.process_time()
        found = diagnose(raw)
        seconds.append(time.process_time() - tic)
        if cries_wolf(found):
            assert found is not None
            told = [*(cause.key for cause in found.causes), *found.suspected]
            alarms.append(f'{seed}: {found.ratio:.2f} {told}')
    if seconds:
        rate = f'{len(alarms)}/{options.clean} alarms; {np.median(seconds):.1f} CPU-s'
        print(f'good scans: {rate}  {"; ".join(alarms)}')


if __name__ == '__main__':
    main()
