"""When a live session says that it is enough, and when the true error stops falling; by hand.

``python tests/benchmarks/bench_enough.py [SEED ...]``

Each seed draws a scan that goes over its area again and again in no order: how large that is, photons, object
and order of positions. The true error has stopped falling where, from there on, half as many frames more
lower it by less than a quarter; photon noise alone would by 18 %. No curve is fitted: it does not matter
where one begins to look, nor, from 1.5 times these frames on, where one ends.
"""

import argparse

import numpy as np
import torch

from ptycho_engine.live.session import open_session
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import align, scanned_box
from ptycho_engine.simulate import defocused_probe, make_object, simulate_scan

SIZE, PIECE, FIRST = 64, 8, 16
MORE, FALL = 0.5, 0.25
OBJECTS = ('dead-leaves', 'lines', 'siemens', 'smooth', 'composite')


def simulated(seed):
    """Return a scan, and words on it."""
    rng = np.random.default_rng([seed, 77])
    side, photons = rng.uniform(50, 130), 10 ** rng.uniform(4, 6)
    order, kind = rng.choice(['random', 'permuted']), rng.choice(OBJECTS)
    count = PIECE * int(3.5 * (side + 20) ** 2 / 64 / PIECE)
    probe = defocused_probe(SIZE, rng, width_px=0.3 * SIZE)
    if order == 'random':
        x, y = rng.uniform(0, side, (2, count))
    else:
        across = int(np.ceil(np.sqrt(count)))
        step = side / across
        rows, columns = np.mgrid[:across, :across].reshape(2, -1)
        places = np.stack([columns, rows], axis=1) * step + 0.1 * step * rng.normal(size=(across**2, 2))
        x, y = places[rng.permutation(len(places))[:count]].T
    full = int(side) + SIZE + 12
    truth = make_object(kind, (full, full + 4), rng, absorption=0.4, phase=0.6)
    x, y = x - x.mean() + (full + 3) / 2, y - y.mean() + (full - 1) / 2
    raw = simulate_scan(truth, probe, x, y, photons=photons, rng=rng)
    return raw, f'{count} frames, {side:.0f} px, {photons:.1e} photons, {kind}, {order}'


def played(raw):
    """Return frames, true error and whether it is enough (n, 3), after each few pushes."""
    scan, found = Scan.from_raw(raw), []
    box = scanned_box(scan)
    with open_session(raw.probeGuess, scan.grid, domain='amplitude') as session:
        for start in range(0, len(raw), PIECE):
            part = np.arange(start, start + PIECE)
            place = np.stack([raw.ycoords[part], raw.xcoords[part]], axis=1)
            session.push(raw.diffraction[part], place, part)
            session.improve()
            frames = start + PIECE
            if frames >= FIRST and frames % (PIECE if frames <= 240 else 3 * PIECE) == 0:
                shot = session.snapshot()
                both = align(raw.objectGuess, shot.object_array, box)
                error = np.linalg.norm(both.result - both.truth) / np.linalg.norm(both.truth)
                found.append((frames, error, shot.quality.enough))
    return np.array(found)


def stops_falling(frames, error):
    """Return the frames from which on ``MORE`` times as many more lower the error by less than ``FALL``."""
    x, y = np.log(frames), np.log(error)
    y[1:-1] = np.median([y[:-2], y[1:-1], y[2:]], axis=0)
    at = np.linspace(x[0], x[-1] - np.log1p(MORE), 2000)
    fall = np.interp(at, x, y) - np.interp(at + np.log1p(MORE), x, y)
    # Means over a factor 1.1 in frames.
    wide = max(int(np.log(1.1) / (at[1] - at[0])), 1)
    fall = np.convolve(np.pad(fall, (wide // 2, wide - 1 - wide // 2), 'edge'), np.ones(wide) / wide, 'valid')
    return float(np.exp(at[min(np.flatnonzero(fall >= -np.log1p(-FALL)).max(initial=-1) + 1, len(at) - 1)]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('seeds', nargs='*', type=int, default=list(range(301, 311)))
    torch.set_num_threads(1)
    ratios = []
    for seed in parser.parse_args().seeds:
        raw, words = simulated(seed)
        frames, error, enough = played(raw).T
        stops = stops_falling(frames, error)
        said = float(frames[enough > 0][0]) if enough.any() else np.nan
        ratios.append(said / stops)
        print(
            f'{seed}: {words}: stops falling at {stops:.0f}, enough at {said:.0f} ({ratios[-1]:.2f})',
            flush=True,
        )
    near = sum(abs(ratio - 1) <= 0.2 for ratio in ratios)
    print(f'{near} of {len(ratios)} within 20 %; median {np.nanmedian(ratios):.2f}')


if __name__ == '__main__':
    main()
