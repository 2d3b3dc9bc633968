"""What a live session finds of an experiment that is not as it was told, and how soon (LIVE-30); by hand.

``python tests/benchmarks/bench_live_calibration.py [--kinds focus beam ...] [--points 24] [--rate 50]``

A raster is pushed by eights at a rate in CPU seconds, the idle time used. Each line is one moment: NRMSE of
the snapshot as it is by default, of a session that does not calibrate, and of one that was told the truth.
"""

import argparse
import math
import time

import numpy as np
import torch
from bench_live import PIECE, push

from ptycho_engine.config import InferenceConfig
from ptycho_engine.live.session import open_session
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from tests.conftest import small_scan


def _focus(raw, rng):
    n = raw.N
    radius2 = np.square(np.fft.fftfreq(n))[:, None] + np.square(np.fft.fftfreq(n))
    spread = np.fft.fft2(raw.probeGuess)
    width = (np.abs(spread) ** 2 * radius2).sum() / (np.abs(spread) ** 2).sum()
    object.__setattr__(raw, 'probeGuess', np.fft.ifft2(spread * np.exp(1.5j * radius2 / width)).astype('c8'))


def _beam(raw, rng):
    counts = np.square(raw.diffraction).round().astype(int)
    kept = rng.uniform(0.3, 1.0, (len(raw), 1, 1))
    raw.diffraction[:] = np.sqrt(rng.binomial(counts, kept))


def _background(raw, rng):
    counts = np.square(raw.diffraction).round()
    raw.diffraction[:] = np.sqrt(counts + rng.poisson(2.0, counts.shape))


def _axes(raw, rng):
    x, y = raw.xcoords - raw.xcoords.mean(), raw.ycoords - raw.ycoords.mean()
    angle = np.deg2rad(5)
    raw.xcoords[:] = raw.xcoords.mean() + 1.03 * (np.cos(angle) * x - np.sin(angle) * y)
    raw.ycoords[:] = raw.ycoords.mean() + 1.03 * (np.sin(angle) * x + np.cos(angle) * y)


def _hot(raw, rng):
    raw.diffraction[:, 11, 40] = np.sqrt(rng.poisson(20000, len(raw)))


KINDS = {
    'right': lambda raw, rng: None,
    'focus': _focus,
    'beam': _beam,
    'background': _background,
    'axes': _axes,
    'hot': _hot,
}


def copy(raw):
    return raw.select(np.arange(len(raw)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--points', type=int, default=24)
    parser.add_argument('--photons', type=float, default=1e5)
    parser.add_argument('--rate', type=float, default=50.0)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    right = small_scan(points=options.points, photons=options.photons, seed=options.seed)
    for kind in options.kinds:
        wrong = copy(right)
        KINDS[kind](wrong, np.random.default_rng(options.seed))
        print(f'{kind}: {len(wrong)} frames at {options.rate:g} a CPU second')
        followed = {}
        for column, raw, calibrate in (
            ('auto', wrong, 'auto'),
            ('off', wrong, 'off'),
            ('right', right, 'off'),
        ):
            if column != 'right' or kind == 'beam' or 'right' not in followed:
                followed[column] = play(raw, right, calibrate, options.rate)
        for frames, *_ in followed['auto']:
            cells = [
                f'{column} { {f: e for f, e, *_ in rows}[frames]:.4f}' for column, rows in followed.items()
            ]
            print(f'  {frames:5} frames: {", ".join(cells)}')
        words, slowest = followed['auto'][-1][2:]
        print(f'  {words}\n  slowest slice {slowest:.2f} s', flush=True)


def play(raw, right, calibrate, rate):
    """Return rows of frames, NRMSE, what is said, and the longest time of a slice."""
    scan, rows = Scan.from_raw(raw), []
    marks = {PIECE * round(len(raw) * part / 8 / PIECE) for part in range(1, 9)}
    slowest = 0.0
    with open_session(
        raw.probeGuess, scan.grid, domain='amplitude', config=InferenceConfig(calibrate=calibrate)
    ) as session:
        for start in range(0, len(raw), PIECE):
            part = np.arange(start, min(start + PIECE, len(raw)))
            begin = time.process_time()
            push(session, raw, part)
            while not math.isinf(rate) and time.process_time() - begin < PIECE / rate:
                idle = time.process_time()
                session.improve()
                slowest = max(slowest, time.process_time() - idle)
            if part[-1] + 1 in marks:
                shot = session.snapshot()
                box = scanned_box(Scan(right.select(np.arange(part[-1] + 1)), scan.grid))
                rows.append(
                    (
                        part[-1] + 1,
                        score(right.objectGuess, shot.object_array, box).nrmse,
                        shot.quality.sentence,
                        slowest,
                    )
                )
    return rows


if __name__ == '__main__':
    main()
