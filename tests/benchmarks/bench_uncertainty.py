"""How true the stated uncertainty is: its size and where it is large, on scans whose truth is known.

    python tests/benchmarks/bench_uncertainty.py [--steps 6 12 18 24] [--photons 1e4 1e5] [--model none]
    python tests/benchmarks/bench_uncertainty.py --fit
    python tests/benchmarks/bench_uncertainty.py --picture FILE.png

Size is the stated uncertainty divided by the true error, root mean squares over the scanned box. The
correlation is that with the true error, root mean square over a Gaussian of 4 px. Errors are those after the
alignment of the scores. ``--fit`` finds the shares of ``whole_scan/uncertainty.py`` anew, with other objects
than those that the table is for; after a change of the solver or of the packaged prior it is due.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image
from quality_scenes import SIDE, TEXTURES, Texture, benchmark_object, benchmark_probe
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls
from skimage import data
from skimage.color import rgb2gray
from skimage.transform import resize

from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.formats.packaged import NO_MODEL, load_model
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import align, scan_box
from ptycho_engine.simulate import defocused_probe, make_object, raster_positions, simulate_scan
from ptycho_engine.simulate.structures import STRUCTURES, draw_structure
from ptycho_engine.whole_scan import solver as solve_module
from ptycho_engine.whole_scan.uncertainty import PHYSICS_ALONE, WITH_PRIOR, Shares

FIELD_PX = 138
"""Side of the scanned area, for the small probe a third of it."""

ERROR_PX = 4.0
"""Width of the Gaussian over which the true error is averaged."""

FITTED = ('mixed 101', 'mixed 102', 'coins on brick', 'astronaut on grass', 'circuit 1', 'smooth 2', 'cell 3')
JUDGED = ('a', 'b', 'leaves 1', 'camera on moon', 'moon on camera')
"""Objects that the shares are fitted to, and others that they are judged by: photograph on photograph is the
amplitude and the phase; leaves are opaque discs by a generator that training does not know."""

ANNULAR, SOFT, SMALL = 'annular', 'soft', 'small'
"""Probes: that of ``quality_scenes.py``; one without central stop, less defocused; a small one of 32² px."""

FIT_SCANS = {
    (ANNULAR, 24.0, 1e5): FITTED,
    (ANNULAR, 24.0, 1e4): FITTED,
    (ANNULAR, 18.0, 1e5): FITTED,
    (ANNULAR, 18.0, 1e4): FITTED,
    (ANNULAR, 12.0, 1e5): ('mixed 101', 'mixed 102', 'coins on brick', 'circuit 1'),
    (ANNULAR, 6.0, 1e4): ('mixed 101', 'coins on brick'),
    (SMALL, 12.0, 1e5): ('mixed 101', 'circuit 1'),
    (SMALL, 9.0, 1e5): ('dead-leaves 4', 'circuit 1'),
    (SMALL, 6.0, 1e5): ('dead-leaves 4', 'coins on brick'),
    (SMALL, 6.0, 1e4): ('mixed 102',),
    (SMALL, 3.0, 1e5): ('dead-leaves 4', 'coins on brick'),
    (SMALL, 3.0, 1e4): ('dead-leaves 4', 'mixed 101'),
}
"""Objects for each probe, step and dose; dense scans take long, and look alike."""

FIT_PIXELS = 2000
"""Pixels of each scan, evenly spread, that take part in the fit."""

FIT_ROUNDS = 40


@dataclass(frozen=True)
class Found:
    """An image with its true error and what was stated of it, (H, W) inside the scanned box."""

    truth: npt.NDArray[np.complexfloating]
    image: npt.NDArray[np.complexfloating]
    stated: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float64]
    """(4, H, W) in units of the image."""
    with_prior: bool

    @property
    def error(self) -> npt.NDArray[np.float64]:
        """(H, W) modulus."""
        return np.abs(self.image - self.truth)

    @property
    def local_error(self) -> npt.NDArray[np.float64]:
        """(H, W) averaged."""
        return np.sqrt(gaussian_filter(self.error**2, ERROR_PX))

    @property
    def size(self) -> float:
        """Stated uncertainty relative to the true error."""
        return float(np.sqrt(np.mean(self.stated**2) / np.mean(self.error**2)))

    @property
    def correlation(self) -> float:
        """Of the uncertainty with the averaged error."""
        return float(np.corrcoef(self.stated.ravel(), self.local_error.ravel())[0, 1])

    @property
    def nrmse(self) -> float:
        """Of the image."""
        return float(np.sqrt(np.mean(self.error**2) / np.mean(np.abs(self.truth) ** 2)))


def photograph(name: str) -> npt.NDArray[np.float64]:
    """Return a photograph (SIDE, SIDE) between 0 and 1."""
    image = getattr(data, name)()
    image = rgb2gray(image) if image.ndim == 3 else image / 255
    side = min(image.shape)
    return np.asarray(resize(image[:side, :side] / image.max(), (SIDE, SIDE), anti_aliasing=True))


def leaves(seed: int) -> npt.NDArray[np.complex64]:
    """Return opaque discs (SIDE, SIDE), their radii drawn from a power law, the last in front."""
    rng = np.random.default_rng([23, seed])
    y, x = np.mgrid[:SIDE, :SIDE]
    obj = np.ones((SIDE, SIDE), complex)
    for _ in range(1500):
        radius = 3 / np.sqrt(rng.uniform(0.006, 1))
        inside = (y - rng.uniform(0, SIDE)) ** 2 + (x - rng.uniform(0, SIDE)) ** 2 < radius**2
        obj[inside] = rng.uniform(0.6, 1) * np.exp(1j * rng.uniform(-0.6, 0.6))
    return np.asarray(gaussian_filter(obj, 0.7), dtype=np.complex64)


def named_object(name: str) -> npt.NDArray[np.complex64]:
    """Return an object (SIDE, SIDE)."""
    if name in TEXTURES:
        return benchmark_object(TEXTURES[name])
    if ' on ' in name:
        amplitude, phase = map(photograph, name.split(' on '))
        return np.asarray((0.5 + 0.5 * amplitude) * np.exp(1j * (phase - phase.mean())), np.complex64)
    kind, number = name.split()
    if kind == 'mixed':
        return benchmark_object(Texture(int(number), 0.35, 0.45))
    if kind == 'leaves':
        return leaves(int(number))
    draw = draw_structure if kind in STRUCTURES else make_object
    rng = np.random.default_rng([5, int(number)])
    return draw(kind, (SIDE, SIDE), rng, absorption=0.4, phase=0.8)


def probe_of(name: str) -> npt.NDArray[np.complex64]:
    """Return a probe (1, N, N)."""
    if name == ANNULAR:
        return benchmark_probe()
    rng = np.random.default_rng(8)
    if name == SMALL:
        return defocused_probe(32, rng, width_px=9.0)
    return defocused_probe(64, rng, width_px=22.0, defocus_rad=5.0, central_stop=0.0, roughness=0.15)


def scan_of(name: str, probe: str, step: float, photons: float) -> Scan:
    """Simulate a raster over the middle of an object."""
    field = FIELD_PX // 3 if probe == SMALL else FIELD_PX
    points = max(int(field / step), 2)
    rng = np.random.default_rng([17, round(step), round(10 * np.log10(photons)), len(name)])
    x, y = raster_positions(points, points, step, rng)
    middle = (SIDE - 1) / 2
    return Scan.from_raw(
        simulate_scan(named_object(name), probe_of(probe), x + middle, y + middle, photons=photons, rng=rng)
    )


def reconstructed(scan: Scan, model: str | None, backend: str) -> Found:
    """Reconstruct a scan and compare what it states with the truth."""
    kept: list[tuple[npt.NDArray[np.float64], Shares, npt.NDArray[np.float32]]] = []
    state = solve_module.stated_uncertainty

    def keep(parts: npt.NDArray[np.float64], shares: Shares) -> npt.NDArray[np.float32]:
        kept.append((parts, shares, state(parts, shares)))
        return kept[-1][2]

    config, execution = InferenceConfig(backend=backend), PyTorchExecutionConfig(accelerator='cpu')
    with mock.patch.object(solve_module, 'stated_uncertainty', keep):
        for event in reconstruct(scan, load_model(model), config, execution=execution):
            if isinstance(event, Reconstructed):
                result = event.reconstruction
    [(parts, shares, stated)] = kept
    raw = scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, scan.grid.shape)
    aligned = align(raw.objectGuess, result.object_array, box)
    unit = float(np.nanmedian(result.uncertainty / stated))
    unit_parts = unit**2 * parts[(slice(None), *box)]
    return Found(aligned.truth, aligned.result, result.uncertainty[box], unit_parts, shares is WITH_PRIOR)


def fit(found: Sequence[Found], template: Shares) -> Shares:
    """Return the shares, none negative, under which the errors are most likely.

    The square of an error, averaged over a few pixels, is taken to be gamma distributed about its
    expectation, which is linear in the shares.
    """
    squares, errors = [], []
    for one in found:
        chosen = np.linspace(0, one.stated.size - 1, FIT_PIXELS).astype(int)
        squares.append(one.parts.reshape(len(one.parts), -1)[:, chosen])
        errors.append(gaussian_filter(one.error**2, ERROR_PX / 2).ravel()[chosen])
    parts, error = np.concatenate(squares, axis=1).T, np.concatenate(errors)
    shares = np.array(astuple(template)) + 1e-3
    for _ in range(FIT_ROUNDS):
        scale = 1 / (parts @ shares)
        following, _ = nnls(parts * scale[:, None], error * scale)
        shares = (shares + following) / 2
    return Shares(*(float(f'{share:.3g}') for share in shares))


def fitted_scans(model: str | None, backend: str) -> Iterator[Found]:
    """Reconstruct the scans for the fit."""
    for (probe, step, photons), names in FIT_SCANS.items():
        for name in names:
            yield reconstructed(scan_of(name, probe, step, photons), model, backend)


def picture(path: Path, found: Found, plain: Found) -> None:
    """Draw truth, image by physics alone, image with the prior, and error and uncertainty of the latter."""
    figure = Figure(figsize=(11.5, 5.6), layout='constrained')
    axes = figure.subplots(2, 4)
    top = float(np.quantile(found.local_error, 0.999))
    turn = np.conj(found.truth.mean())
    for row, part, kind in zip(axes, (np.abs, np.angle), ('amplitude', 'phase'), strict=True):
        images = [
            part(image * turn) / (abs(turn) if part is np.abs else 1)
            for image in (found.truth, plain.image, found.image)
        ]
        low, high = np.quantile(images[0], (0.002, 0.998))
        titles = 'truth', f'physics alone, NRMSE {plain.nrmse:.3f}', f'prior, NRMSE {found.nrmse:.3f}'
        for axis, image, title in zip(row, images, titles, strict=False):
            axis.imshow(image, cmap='gray', vmin=low, vmax=high)
            axis.set_title(title, fontsize=10)
        row[0].set_ylabel(kind)
    for axis, image, title in (
        (axes[0, 3], found.local_error, f'error with the prior, over {ERROR_PX:g} px'),
        (axes[1, 3], found.stated, 'stated uncertainty'),
    ):
        drawn = axis.imshow(image, cmap='magma', vmin=0, vmax=top)
        axis.set_title(title, fontsize=10)
        figure.colorbar(drawn, ax=axis)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    with Image.open(path) as drawn_picture:
        # Fewer colours make the file a quarter as large.
        small = drawn_picture.convert('RGB').quantize(96, Image.Quantize.FASTOCTREE)
    small.save(path, optimize=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, or the shares that fit best, or draw a picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--steps', type=float, nargs='+', default=[6, 12, 18, 24])
    parser.add_argument('--photons', type=float, nargs='+', default=[1e4, 1e5])
    parser.add_argument('--objects', nargs='+', default=JUDGED)
    parser.add_argument('--probe', choices=(ANNULAR, SOFT, SMALL), default=ANNULAR)
    parser.add_argument('--model', choices=(NO_MODEL,), help='physics alone')
    parser.add_argument('--backend', choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument('--fit', action='store_true', help='print the shares that fit best')
    parser.add_argument('--picture', type=Path, help='draw the first object at the first step and dose')
    options = parser.parse_args(words)
    if options.fit:
        for model, kind, template in ((None, True, WITH_PRIOR), (NO_MODEL, False, PHYSICS_ALONE)):
            found = [one for one in fitted_scans(model, options.backend) if one.with_prior == kind]
            print(f'{"WITH_PRIOR" if kind else "PHYSICS_ALONE"} = {fit(found, template)}', flush=True)
        return
    if not options.picture:
        print('| scan | NRMSE | size | correlation | parts |\n|---|---|---|---|---|')
    for step in options.steps:
        for photons in options.photons:
            for name in options.objects:
                found = reconstructed(
                    scan_of(name, options.probe, step, photons), options.model, options.backend
                )
                title = f'{name}, {step:g} px, {photons:.0e}'
                if options.picture:
                    scan = scan_of(name, options.probe, step, photons)
                    plain = reconstructed(scan, NO_MODEL, options.backend)
                    picture(options.picture, found, plain)
                    print(
                        f'{title}: NRMSE {plain.nrmse:.3f} by physics alone, {found.nrmse:.3f} with the '
                        f'prior; the uncertainty is {found.size:.2f} of the error, correlation '
                        f'{found.correlation:.2f}'
                    )
                    return
                shares = astuple(WITH_PRIOR if found.with_prior else PHYSICS_ALONE)
                power = np.array(shares) * found.parts.mean(axis=(1, 2))
                named = ', '.join(
                    f'{field.name} {part:.2f}'
                    for field, part in zip(fields(Shares), power / power.sum(), strict=True)
                    if part > 0
                )
                print(
                    f'| {title} | {found.nrmse:.4f} | {found.size:.2f} | {found.correlation:.2f} | {named} |',
                    flush=True,
                )


if __name__ == '__main__':
    main()
