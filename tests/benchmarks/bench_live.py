"""How good and how quick a live image is (bars of ``specs/live.md``); by hand, in CPU seconds of one thread.

``python tests/benchmarks/bench_live.py [--points 24] [--photons 1e5] [--rate 50] [--picture live.png]``

A raster is pushed by eights. What time a rate leaves between two pushes is idle time, used to improve.
Snapshots are compared with `reconstruct` of the same frames, both against the truth.
"""

import argparse
import math
import resource
import time

import numpy as np
import torch

from ptycho_engine import reconstruct
from ptycho_engine.live.session import open_session
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from tests.conftest import small_scan

PIECE = 8


def batch(scan, count):
    part = Scan(scan.raw.select(np.arange(count)), scan.grid)
    *_, last = reconstruct(part)
    assert isinstance(last, Reconstructed)
    return last.reconstruction.object_array, scanned_box(part)


def push(session, raw, part):
    session.push(raw.diffraction[part], np.stack([raw.ycoords[part], raw.xcoords[part]], axis=1), part)


def play(raw, grid, rate, marks):
    """Return snapshots at some numbers of frames, and the CPU seconds of each push with its snapshot."""
    session = open_session(raw.probeGuess, grid, domain='amplitude')
    shots, seconds = {}, []
    with session:
        for start in range(0, len(raw), PIECE):
            part = np.arange(start, min(start + PIECE, len(raw)))
            begin = time.process_time()
            push(session, raw, part)
            session.snapshot()
            seconds.append(time.process_time() - begin)
            while time.process_time() - begin < PIECE / rate:
                session.improve()
            if part[-1] + 1 in marks:
                shots[int(part[-1] + 1)] = session.snapshot()
    return shots, np.array(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--points', type=int, default=24)
    parser.add_argument('--photons', type=float, default=1e5)
    parser.add_argument('--rate', type=float, default=50.0)
    parser.add_argument('--picture')
    options = parser.parse_args()
    torch.set_num_threads(1)
    raw = small_scan(points=options.points, photons=options.photons)
    scan, n = Scan.from_raw(raw), len(raw)
    marks = [PIECE * round(n * part / PIECE) for part in (0.25, 0.5, 1)]
    references = {count: batch(scan, count) for count in marks}
    # Loading the framework and the first transforms are no part of it.
    play(raw.select(np.arange(16)), scan.grid, math.inf, ())
    for rate in (math.inf, options.rate):
        shots, seconds = play(raw, scan.grid, rate, marks)
        for count, (reference, box) in references.items():
            live, whole = (score(raw.objectGuess, obj, box) for obj in (shots[count].object_array, reference))
            print(
                f'rate {rate:g}: {count} frames: NRMSE {live.nrmse:.4f}, batch {whole.nrmse:.4f} '
                f'({live.nrmse / whole.nrmse:.2f}x); SSIM {live.amplitude_ssim:.3f}/{live.phase_ssim:.3f}; '
                f'{shots[count].quality.sentence}'
            )
        half = len(seconds) // 2
        print(
            f'rate {rate:g}: first image after {seconds[0]:.2f} CPU-s; {n / seconds.sum():.0f} frames '
            f'per CPU-s; push to snapshot median {np.median(seconds[:half]):.3f} s, second half '
            f'{np.median(seconds[half:]):.3f} s, worst {seconds[1:].max():.3f} s; '
            f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB'
        )
    if options.picture:
        draw(raw, shots, references, options.picture)


def draw(raw, shots, references, path) -> None:
    """Draw amplitude and phase of each snapshot above those of the batch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(shots), 13), layout='constrained')
    axes = figure.subplots(4, len(shots))
    for column, (count, shot) in enumerate(shots.items()):
        for row, obj in enumerate((shot.object_array, references[count][0])):
            inside = obj[scanned_box(Scan.from_raw(raw))]
            axes[2 * row, column].imshow(np.abs(inside), cmap='gray')
            axes[2 * row + 1, column].imshow(np.angle(inside * np.conj(inside.mean() or 1)))
        axes[0, column].set_title(f'{count} frames; below, batch')
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=60)


if __name__ == '__main__':
    main()
