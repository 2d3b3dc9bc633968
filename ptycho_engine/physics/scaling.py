"""The gauge: one record that ties network units, probe and counts together.

Ptychography fixes probe and object only up to a factor. The engine multiplies the probe by ``q`` so that
the flat object of amplitude 1 predicts the mean measured counts; the object's amplitude is then about 1.
A result is returned in the gauge of the given probe, object times ``q``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blocks import Frames, block_length, blocks
from ..errors import DataValueError

__all__ = ['ScaleRecord', 'measure_scale']


@dataclass(frozen=True)
class ScaleRecord:
    """Scales measured on one scan."""

    probe_scale: float
    """``q``: the given probe times q predicts the measured counts with an object of amplitude 1."""
    mean_counts: float
    """Mean over patterns of the counts in good pixels."""
    input_scale: float
    """``sqrt((N/2)^2 / mean sum A^2)``: factor from measured amplitude to network input."""

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScaleRecord:
        """Rebuild a record from :meth:`to_dict`."""
        return cls(
            probe_scale=float(values['probe_scale']),
            mean_counts=float(values['mean_counts']),
            input_scale=float(values['input_scale']),
        )


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
        If the good pixels hold no counts, or the probe sends no light to them.
    """
    good = np.ones(amplitude.shape[-2:], bool) if bad_pixels is None else ~bad_pixels
    total = 0.0
    for part in blocks(len(amplitude), block_length(amplitude.shape[-1])):
        block = np.asarray(amplitude[part])[:, good]
        total += float(np.einsum('ij,ij->', block, block, dtype=np.float64))
    mean_counts = total / max(len(amplitude), 1)
    far_field = np.fft.fftshift(np.fft.fft2(probe, norm='ortho'), axes=(-2, -1))
    predicted = float((np.abs(far_field) ** 2).sum(axis=0)[good].sum())
    if not mean_counts > 0:
        raise DataValueError(
            'The diffraction patterns hold no counts in their good pixels; check the data and the '
            'bad-pixel mask.'
        )
    if not predicted > 0:
        raise DataValueError(
            'The probe sends no light to the good pixels; check the probe and the bad-pixel mask.'
        )
    n = amplitude.shape[-1]
    return ScaleRecord(
        probe_scale=float(np.sqrt(mean_counts / predicted)),
        mean_counts=mean_counts,
        input_scale=float((n / 2) / np.sqrt(mean_counts)),
    )
