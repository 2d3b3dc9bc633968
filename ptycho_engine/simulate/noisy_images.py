"""What the learned prior is trained on: crops of simulated objects, and the same with noise.

No scan, no probe and no physics: the prior is to hold for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..config.choices import OBJECT_FAMILIES
from .objects import make_object
from .structures import STRUCTURES, draw_structure

__all__ = ['NoisyBatch', 'NoisyImages', 'draw_object']

OBJECT_SIDE = 256
KEPT_OBJECTS, BATCHES_EACH = 48, 4
"""Objects that crops are taken from; after so many batches one of them is replaced."""

CROPS = ((64, 8), (128, 2))
"""Side and number of the crops of a batch, in turn: the same number of pixels, at two ranges of sight."""

NOISE = 0.005, 0.5
"""Range of the standard deviation of the noise, relative to an amplitude of 1."""

FLAT_NOISE, LATTICE_NOISE = 0.35, 0.4
"""Part of the crops whose noise is the same everywhere, and whose noise follows a lattice of spots, as the
light of a scan does; in the others it varies smoothly."""

CORRELATED_NOISE = 0.4
"""Part of the crops in which some of the noise is correlated over pixels, as the error of a solver is."""

COARSE = 0.35
"""Part of the crops that are means over 2×2 pixels of an object: structures of half the size."""


@dataclass(frozen=True)
class NoisyBatch:
    """B crops of objects."""

    clean: npt.NDArray[np.complex64]
    """(B, H, W)."""
    noisy: npt.NDArray[np.complex64]
    """(B, H, W)."""
    deviation: npt.NDArray[np.float32]
    """(B, H, W) standard deviation of the noise: the root of the mean squared modulus."""


def draw_object(rng: np.random.Generator, side: int = OBJECT_SIDE) -> npt.NDArray[np.complex64]:
    """Draw an object (side, side) of any kind and contrast, from hardly visible to 2.5 rad."""
    kinds = (*OBJECT_FAMILIES, *STRUCTURES)
    kind = kinds[rng.integers(len(kinds))]
    absorption = float(np.exp(rng.uniform(np.log(0.03), np.log(1.2))))
    phase = float(np.exp(rng.uniform(np.log(0.05), np.log(2.5))))
    only = rng.random()
    if only < 0.08:
        absorption = 0.0
    elif only < 0.14:
        phase = 0.0
    if kind in STRUCTURES:
        return draw_structure(kind, (side, side), rng, absorption=absorption, phase=phase)
    return make_object(kind, (side, side), rng, absorption=absorption, phase=phase)


class NoisyImages:
    """Batches of crops, each the same for the same seed, whichever came before it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._objects: dict[int, npt.NDArray[np.complex64]] = {}

    def batch(self, number: int) -> NoisyBatch:
        """Return a batch of crops; quick where the one before came last, for most objects are kept."""
        first = number // BATCHES_EACH
        taken = range(first, first + KEPT_OBJECTS)
        self._objects = {
            index: self._objects[index]
            if index in self._objects
            else draw_object(np.random.default_rng([self._seed, 0, index]))
            for index in taken
        }
        rng = np.random.default_rng([self._seed, 1, number])
        side, count = CROPS[number % len(CROPS)]
        shape = side, side
        clean = np.stack([_crop(self._objects[int(rng.choice(taken))], side, rng) for _ in range(count)])
        deviation = np.stack([_deviation(shape, rng) for _ in range(count)])
        noise = np.stack([_noise(shape, rng) for _ in range(count)])
        noisy = (clean + deviation * noise).astype(np.complex64)
        return NoisyBatch(clean, noisy, deviation.astype(np.float32))


def _crop(obj: npt.NDArray[np.complex64], side: int, rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    """Cut a square from an object; mirror, turn and conjugate it, each by chance."""
    coarse = rng.random() < COARSE
    taken = min(2 * side, obj.shape[0]) if coarse else side
    row, column = rng.integers(0, obj.shape[0] - taken + 1), rng.integers(0, obj.shape[1] - taken + 1)
    crop = obj[row : row + taken, column : column + taken]
    if coarse:
        crop = crop.reshape(taken // 2, 2, taken // 2, 2).mean(axis=(1, 3))
        crop = crop[:side, :side]
    crop = np.rot90(crop, int(rng.integers(4)))
    crop = crop[::-1] if rng.random() < 0.5 else crop
    crop = crop.conj() if rng.random() < 0.5 else crop
    # Where nothing absorbs, a solver's object is 1; in the midst of a sample it may be anything.
    turn = rng.normal(0, 0.4) if rng.random() < 0.5 else 0.0
    return np.asarray(crop * np.exp(1j * turn), dtype=np.complex64)


def _deviation(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the standard deviation of the noise of each pixel (H, W)."""
    typical = np.exp(rng.uniform(*np.log(NOISE)))
    kind = rng.random()
    if kind < FLAT_NOISE:
        return np.full(shape, typical)
    if kind < FLAT_NOISE + LATTICE_NOISE:
        light = _lattice(shape, rng)
        darkest = np.exp(rng.uniform(np.log(0.005), np.log(0.5)))
        relative = ((light + darkest) / (1 + darkest)) ** -0.5
    else:
        field = gaussian_filter(rng.standard_normal(shape), rng.uniform(4, 16))
        relative = np.exp(rng.uniform(0.2, 0.8) * field / max(field.std(), 1e-9))
    return np.asarray(np.clip(typical * relative, NOISE[0], 2 * NOISE[1]), dtype=np.float64)


def _lattice(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the light (H, W) of spots on a jittered lattice, at most 1."""
    step = np.exp(rng.uniform(np.log(8), np.log(40)))
    width = step * rng.uniform(0.2, 0.6)
    spots = np.zeros(shape)
    phase = rng.uniform(0, step, 2)
    for y in np.arange(-step, shape[0] + step, step):
        for x in np.arange(-step, shape[1] + step, step):
            row, column = np.rint(np.array([y, x]) + phase + rng.normal(0, 0.15 * step, 2)).astype(int)
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                spots[row, column] += 1
    light = gaussian_filter(spots, width, mode='reflect')
    return np.asarray(light / max(light.max(), 1e-9))


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Return complex noise (H, W) whose mean squared modulus is 1, white or in part correlated."""

    def white() -> npt.NDArray[np.complex128]:
        parts = rng.standard_normal(shape), rng.standard_normal(shape)
        return np.asarray((parts[0] + 1j * parts[1]) / np.sqrt(2), dtype=np.complex128)

    noise = white()
    if rng.random() >= CORRELATED_NOISE:
        return noise
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in shape), indexing='ij'))
    spectrum = 1 / (frequency + rng.uniform(0.02, 0.15)) ** rng.uniform(0.5, 2)
    correlated = np.fft.ifft2(np.fft.fft2(white()) * spectrum)
    correlated /= np.sqrt(np.mean(np.abs(correlated) ** 2))
    share = rng.uniform(0.1, 0.7)
    return np.asarray(np.sqrt(1 - share) * noise + np.sqrt(share) * correlated)
