"""Images without training: physics alone beside the packaged prior, on objects that it has not seen.

    python tests/benchmarks/bench_prior.py [--steps 6 12 18 24] [--photons 1e4 1e5] [--objects a b photograph]

Objects are those of ``quality_scenes.py`` and a photograph as amplitude beside another as phase. Each cell is
amplitude SSIM / phase SSIM, NRMSE and CPU seconds from the scan in memory to the image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from quality_scenes import SIDE, STEP, TEXTURES, benchmark_object, benchmark_probe
from skimage import data
from skimage.transform import resize

from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.data.scan import Scan
from ptycho_engine.events import Reconstructed
from ptycho_engine.files.packaged import NO_MODEL, load_model
from ptycho_engine.pipeline.quality import Scores, scan_box, score
from ptycho_engine.pipeline.reconstruct import reconstruct
from ptycho_engine.simulate import raster_positions, simulate_scan

POINTS = 23
PHOTOGRAPH = 'photograph'


def test_object(name: str) -> npt.NDArray[np.complex64]:
    """Return an object (SIDE, SIDE)."""
    if name != PHOTOGRAPH:
        return benchmark_object(TEXTURES[name])
    amplitude, phase = (
        resize(image / image.max(), (SIDE, SIDE), anti_aliasing=True)
        for image in (data.camera(), data.moon())
    )
    return np.asarray((0.5 + 0.5 * amplitude) * np.exp(1j * (phase - phase.mean())), dtype=np.complex64)


def scan_of(name: str, step: float, photons: float) -> Scan:
    """Simulate a raster over the middle of an object, each position moved by up to a quarter of a step."""
    points = max(int(POINTS * STEP / step), 2)
    rng = np.random.default_rng([91, round(step), round(np.log10(photons))])
    x, y = raster_positions(points, points, step, rng)
    middle = (SIDE - 1) / 2
    obj = test_object(name)
    return Scan.from_raw(
        simulate_scan(obj, benchmark_probe(), x + middle, y + middle, photons=photons, rng=rng)
    )


def measured(scan: Scan, model: str | None, backend: str) -> tuple[Scores, float]:
    """Return the scores of an image and the CPU seconds it took."""
    tic = time.process_time()
    config, execution = InferenceConfig(backend=backend), PyTorchExecutionConfig(accelerator='cpu')
    for event in reconstruct(scan, load_model(model), config, execution=execution):
        if isinstance(event, Reconstructed):
            result = event.reconstruction
    seconds = time.process_time() - tic
    raw = scan.raw
    return score(
        raw.objectGuess, result.object_array, scan_box(raw.xcoords, raw.ycoords, scan.grid.shape)
    ), seconds


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', type=float, nargs='+', default=[6, 12, 18, 24])
    parser.add_argument('--photons', type=float, nargs='+', default=[1e4, 1e5])
    parser.add_argument(
        '--objects', nargs='+', choices=[*TEXTURES, PHOTOGRAPH], default=[*TEXTURES, PHOTOGRAPH]
    )
    parser.add_argument('--backend', choices=BACKENDS, default=BACKENDS[0])
    options = parser.parse_args(words)
    print('| scan | physics alone | with the prior |\n|---|---|---|')
    for step in options.steps:
        for photons in options.photons:
            for name in options.objects:
                scan = scan_of(name, step, photons)
                cells = [
                    f'{s.amplitude_ssim:.3f}/{s.phase_ssim:.3f}, {s.nrmse:.4f}, {seconds:.1f} s'
                    for s, seconds in (measured(scan, model, options.backend) for model in (NO_MODEL, None))
                ]
                print(f'| {name}, {step:g} px, {photons:.0e} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
