"""The scale: one record that ties network units, probe and counts together.

Ptychography fixes probe and object only up to a factor. The engine multiplies the probe by ``q`` so that
the flat object of amplitude 1 predicts the mean measured counts; the object's amplitude is then about 1.
A result is returned in the scale of the given probe, object times ``q``.

Numbers that no detector counts are taken for relative ones: divided by a unit before anything is computed of
them, so that their squares stay within single precision. The object does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..blocks import Frames, block_length, blocks
from ..errors import DataValueError
from .noise import presumed_count

__all__ = ['MOST_COUNTS', 'PRESUMED_COUNTS', 'ScaleRecord', 'estimated_unit', 'measure_scale']

MOST_COUNTS = 1e14
"""Mean counts of a pattern beyond which they are taken for relative numbers. Single precision knows a pixel's
share of so many no better than photon noise would let it, and squares of them still fit in."""

FAINTEST_PIXEL = 0.5
"""Counts that the brightest pixel of a scan must hold; where a photon was counted there is one with 1."""

PRESUMED_COUNTS = 1e6
"""Mean counts of a pattern that are presumed where the numbers are no counts, as their noise is not known."""

LARGEST_FACTOR = 1e35
"""Largest amplitude of the object in the units of the given probe, and least of its inverse: both must stay
well within single precision."""


@dataclass(frozen=True)
class ScaleRecord:
    """Scales measured on one scan."""

    KEPT: ClassVar[tuple[str, ...]] = ('probe_scale', 'mean_counts', 'input_scale')
    """What a model keeps of it."""

    probe_scale: float
    """``q``: the given probe times q predicts the measured counts with an object of amplitude 1."""
    mean_counts: float
    """Mean over patterns of the counts in valid pixels."""
    input_scale: float
    """``sqrt((N/2)^2 / mean sum A^2)``: factor from measured amplitude to network input."""
    unit: float = 1.0
    """Measured amplitude that the engine counts as 1: not 1 where the numbers are relative ones. It follows
    from the scan and is kept nowhere."""

    @property
    def probe_factor(self) -> float:
        """Factor from the given probe to that of the engine."""
        return self.probe_scale / self.unit

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers for JSON."""
        return {name: getattr(self, name) for name in self.KEPT}


def measure_scale(
    amplitude: Frames,
    probe: npt.NDArray[np.complex64],
    bad_pixels: npt.NDArray[np.bool_] | None = None,
) -> ScaleRecord:
    """Measure the scales of a scan; training and inference call this same function.

    Parameters
    ----------
    amplitude : (n, N, N) float32
        Measured amplitudes, the square root of counts, zero frequency at index N//2; read in blocks.
    probe : (P, N, N) complex64
        Incoherent probe modes.
    bad_pixels : (N, N) bool, optional
        True where the detector is not to be trusted; left out on both sides of the comparison.

    Raises
    ------
    DataValueError
        If the valid pixels hold no counts, the probe has no intensity on them, or the object would not be
        within single precision in the units of the probe.
    """
    valid = np.ones(amplitude.shape[-2:], bool) if bad_pixels is None else ~bad_pixels
    total = brightest = 0.0
    for part in blocks(len(amplitude), block_length(amplitude.shape[-1])):
        block = np.asarray(amplitude[part])[:, valid]
        total += float(np.einsum('ij,ij->', block, block, dtype=np.float64))
        brightest = max(brightest, float(block.max(initial=0)) ** 2)
    mean_counts = total / max(len(amplitude), 1)
    # Squares of a probe in the smallest or the largest numbers of single precision need double.
    waves = probe.astype(np.complex128)
    far_field = np.fft.fftshift(np.fft.fft2(waves, norm='ortho'), axes=(-2, -1))
    predicted = float((np.abs(far_field) ** 2).sum(axis=0)[valid].sum())
    if not mean_counts > 0:
        raise DataValueError(
            'The diffraction patterns hold no counts in their valid pixels; check the data and the '
            'bad-pixel mask.'
        )
    if not predicted > 0:
        raise DataValueError(
            'The probe has no intensity on the valid detector pixels; check the probe and the bad-pixel mask.'
        )
    n = amplitude.shape[-1]
    probe_scale = float(np.sqrt(mean_counts / predicted))
    if not 1 / LARGEST_FACTOR <= probe_scale <= LARGEST_FACTOR:
        raise DataValueError(
            f'The probe must be multiplied by {probe_scale:.3g} to predict the measured counts, and so much '
            'would be the object, beyond single precision; give probe and patterns in more alike units.'
        )
    return ScaleRecord(
        probe_scale=probe_scale,
        mean_counts=mean_counts,
        input_scale=float((n / 2) / np.sqrt(mean_counts)),
        unit=_unit(mean_counts, brightest),
    )


def estimated_unit(scale: ScaleRecord, amplitude: npt.NDArray[np.float32]) -> ScaleRecord:
    """Return the scales of a scan of no counts, whose unit the noise of some patterns (n, N, N) tells.

    The amplitudes are filled in bad pixels.
    """
    count = presumed_count(np.square(amplitude, dtype=np.float64))
    return replace(scale, unit=float(np.sqrt(max(count, scale.mean_counts / MOST_COUNTS))))


def _unit(mean_counts: float, brightest: float) -> float:
    """Return the measured amplitude that is to count as 1 (GAU-05)."""
    if mean_counts > MOST_COUNTS:
        return float(np.sqrt(mean_counts / MOST_COUNTS))
    if brightest < FAINTEST_PIXEL:
        return float(np.sqrt(mean_counts / PRESUMED_COUNTS))
    return 1.0
