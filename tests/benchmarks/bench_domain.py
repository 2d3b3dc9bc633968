"""How surely the photon scale of normalised patterns is recovered from their values, and what it is worth.

    python tests/benchmarks/bench_domain.py
    python tests/benchmarks/bench_domain.py --files 10 --images 2

Files of amplitudes of counts times a factor: mean counts of a pattern from 1e3 to 1e6, factors from 1e-4 to
1e2, float16 and float32, with and without bad pixels that hold anything. As many files hold what are no
counts: noise, smooth values, counts that were turned, zoomed, moved, binned by weights, denoised, or lost a
background of each frame. Last, images of normalised patterns against those of the counts themselves.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from ptycho_engine import RawData, Reconstructed, Scan, reconstruct
from ptycho_engine.config import InferenceConfig
from ptycho_engine.formats.packaged import load_model
from ptycho_engine.scoring.scores import scan_box, score
from tests.conftest import small_scan

TOLERANCE = 0.01
NOT_COUNTS = (
    *('noise', 'smooth', 'turned', 'background', 'denoised', 'random'),
    *('zoomed', 'moved', 'weighted', 'repeated'),
)


def write(path: Path, raw: RawData, patterns: np.ndarray, bad: np.ndarray | None = None) -> None:
    """Write a file that says nothing of its units."""
    more = (patterns.shape[-1] - raw.N) // 2
    arrays = {'probeGuess': np.pad(raw.probeGuess[0], more), 'xcoords': raw.xcoords, 'ycoords': raw.ycoords}
    arrays |= {} if bad is None else {'bad_pixels': bad}
    np.savez(path, diffraction=patterns, objectGuess=raw.objectGuess, **arrays)


def normalised(path: Path, rng: np.random.Generator, number: int) -> tuple[float, str]:
    """Write a file of normalised amplitudes; return the true mean counts, and what the file is like."""
    photons, factor = 10 ** rng.uniform(3, 6), 10 ** rng.uniform(-4, 2)
    raw = small_scan(points=4, photons=photons, seed=number)
    kind = np.float16 if number % 2 else np.float32
    amplitude = np.asarray(raw.diffraction[:]) * factor
    bad = None
    if number % 4 > 1:
        bad = rng.random(amplitude.shape[1:]) < 0.01
        amplitude[:, bad] = rng.random((len(amplitude), int(bad.sum()))) * amplitude.max()
    write(path, raw, amplitude.astype(kind), bad)
    good = np.ones(amplitude.shape[1:], bool) if bad is None else ~bad
    counts = float((np.asarray(raw.diffraction[:])[:, good] ** 2).sum() / len(raw))
    return counts, f'{photons:8.3g} photons, factor {factor:8.3g}, {np.dtype(kind)}, bad {bad is not None}'


def no_counts(path: Path, rng: np.random.Generator, number: int) -> str:
    """Write a file of what are no counts, as amplitudes; return what it is."""
    photons = 10 ** rng.uniform(3, 6)
    raw = small_scan(points=4, photons=photons, seed=1000 + number)
    counts = np.asarray(raw.diffraction[:], float) ** 2
    word = NOT_COUNTS[number % len(NOT_COUNTS)]
    match word:
        case 'noise':
            values = np.abs(counts + rng.normal(0, 0.7, counts.shape))
        case 'smooth':
            values = ndimage.gaussian_filter(counts, (0, 2, 2))
        case 'turned':
            values = np.clip(ndimage.rotate(counts, 3.0, (1, 2), reshape=False, order=1), 0, None)
        case 'background':
            # That of each frame is another.
            level = ndimage.gaussian_filter(rng.random(counts.shape), (0, 8, 8))
            values = np.clip(counts + 3 - 6 * level, 0, None)
        case 'denoised':
            values = np.clip(ndimage.gaussian_filter(counts, (0.5, 0.7, 0.7)), 0, None)
        case 'zoomed':
            values = ndimage.zoom(counts, (1, 2, 2), order=1, mode='nearest', grid_mode=True)
        case 'moved':
            part = rng.choice([0.1, 0.25, 0.5])
            values = (1 - part) * counts + part * np.roll(counts, 1, axis=1)
        case 'weighted':
            values = ndimage.convolve(counts, np.outer([1, 2, 1], [1, 2, 1])[None] / 16)
        case 'repeated':
            values = counts.repeat(2, axis=1).repeat(2, axis=2)
        case _:
            values = rng.random(counts.shape) * counts.max()
    kind = np.float16 if number % 2 else np.float32
    write(path, raw, (np.sqrt(values) * 10 ** rng.uniform(-3, 0)).astype(kind))
    return f'{word} ({np.dtype(kind)})'


def nrmse(raw: RawData) -> float:
    """Return that of the image by physics alone."""
    scan = Scan.from_raw(raw)
    config = InferenceConfig(calibrate='off')
    (last,) = [e for e in reconstruct(scan, load_model('none'), config) if isinstance(e, Reconstructed)]
    assert raw.objectGuess is not None
    box = scan_box(raw.xcoords, raw.ycoords, scan.grid.shape)
    return score(raw.objectGuess, last.reconstruction.object_array, box).nrmse


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--files', type=int, default=60, help='of each of both kinds')
    parser.add_argument('--images', type=int, default=6, help='pairs of images')
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'scan.npz'
        right, worst = 0, 0.0
        for number in range(options.files):
            truth, like = normalised(path, rng, number)
            raw = RawData.from_file(path)
            found = float((np.asarray(raw.diffraction[:], float) ** 2).sum() / len(raw))
            error = abs(found / truth - 1)
            if raw.counted and error <= TOLERANCE:
                right, worst = right + 1, max(worst, error)
            else:
                print(f'missed: {like}: {found:.6g} for {truth:.6g}, counts: {raw.counted}')
        print(f'scale within 1 %: {right} of {options.files} files; worst of these {worst:.1e}')
        taken = 0
        for number in range(options.files):
            like = no_counts(path, rng, number)
            raw = RawData.from_file(path)
            if raw.counted:
                taken += 1
                print(f'taken for counts: {like}, as {raw.original_domain}')
        print(f'taken for counts: {taken} of {options.files} files that hold none')
        for number in range(options.images):
            photons = 10 ** rng.uniform(4, 6)
            counts = small_scan(points=7, photons=photons, seed=2000 + number)
            factor = 0.95 / float(np.asarray(counts.diffraction[:]).max())
            write(path, counts, (np.asarray(counts.diffraction[:]) * factor).astype(np.float32))
            mine, best = nrmse(RawData.from_file(path)), nrmse(counts)
            print(
                f'{photons:8.3g} photons: NRMSE {mine:.4f} normalised, {best:.4f} counts, {mine / best:.3f}x'
            )


if __name__ == '__main__':
    main()
