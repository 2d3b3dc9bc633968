"""Scores of an object against a known truth (conventions in ``specs/physics.md``, QUALITY-*).

What only scores need of SciPy and scikit-image is imported where it is used, for most runs score nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import fourier_shift

from ..errors import DataValueError
from ..scan.scan import Scan

__all__ = [
    'Alignment',
    'Scores',
    'align',
    'fourier_ring_correlation',
    'frc50',
    'require_comparable',
    'ring_numbers',
    'scan_box',
    'scanned_box',
    'score',
    'score_aligned',
]

ComplexImage = npt.NDArray[np.complexfloating[Any, Any]]
MARGIN = 16
TAPER = 0.25
"""Part of the width over which edges are tapered before a Fourier transform."""


@dataclass(frozen=True)
class Scores:
    """How close an object is to the truth, inside the bounding box of the scan positions."""

    nrmse: float
    """Complex root mean square error relative to the truth's root mean square."""
    amplitude_ssim: float
    phase_ssim: float
    amplitude_psnr: float
    """dB, the peak being the truth's range."""
    phase_psnr: float
    """dB, the peak being the truth's range."""
    frc50: float
    """Spatial frequency in cycles per pixel where the Fourier ring correlation falls below 0.5."""
    shift_x_px: float
    """Shift in pixels that registration removed."""
    shift_y_px: float

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Alignment:
    """An object brought onto the truth, both cut to the scored region."""

    truth: ComplexImage
    result: ComplexImage
    shift: tuple[float, float]
    """(dy, dx) in pixels by which the result had to be moved."""


def scan_box(x: npt.ArrayLike, y: npt.ArrayLike, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return (rows, columns) of the bounding box of positions in pixels, cut to the image.

    Where they lie between two pixels along an axis it is the nearer one.
    """
    rows, columns = (_span(np.asarray(axis), side) for axis, side in zip((y, x), shape, strict=True))
    return rows, columns


def scanned_box(scan: Scan) -> tuple[slice, slice]:
    """Return (rows, columns) of the bounding box of the positions of a scan on its grid."""
    raw, grid = scan.raw, scan.grid
    return scan_box(raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y, grid.shape)


def _span(positions: npt.NDArray[np.floating[Any]], side: int) -> slice:
    """Return the pixels of an axis between the outermost positions; none where these lie off the image."""
    first, last = int(np.ceil(positions.min())), int(np.floor(positions.max()))
    if last < first:
        first = last = int(np.rint(positions.mean()))
    first, stop = max(first, 0), min(last + 1, side)
    return slice(first, max(stop, first))


def require_comparable(truth: tuple[int, ...], result: tuple[int, ...], box: tuple[slice, slice]) -> None:
    """Check that objects of the shapes of `truth` and `result` can be compared inside `box`.

    Raises
    ------
    DataValueError
        If the shapes differ or the region is too small to score.
    """
    if truth != result:
        raise DataValueError(
            f'The object has shape {result} but the truth has {truth}; compare objects on the same grid.'
        )
    rows, columns = box
    if rows.stop - rows.start < 16 or columns.stop - columns.start < 16:
        raise DataValueError('The scanned region is smaller than 16×16 pixels; too small to score.')


def align(truth: ComplexImage, result: ComplexImage, box: tuple[slice, slice]) -> Alignment:
    """Remove from `result` a sub-pixel shift, a complex factor and a linear phase ramp.

    Raises
    ------
    DataValueError
        If the shapes differ or the region is too small to score.
    """
    from scipy.optimize import minimize

    require_comparable(truth.shape, result.shape, box)
    rows, columns = box
    target = truth[box].astype(np.complex128)
    # Shift with a margin around the box, so that the wrap-around of the Fourier shift stays outside.
    top, left = max(rows.start - MARGIN, 0), max(columns.start - MARGIN, 0)
    spectrum = np.fft.fft2(result[top : rows.stop + MARGIN, left : columns.stop + MARGIN])
    inside = (
        slice(rows.start - top, rows.start - top + target.shape[0]),
        slice(columns.start - left, columns.start - left + target.shape[1]),
    )

    def moved(parameters: npt.NDArray[np.float64]) -> ComplexImage:
        image = np.fft.ifft2(fourier_shift(spectrum, parameters[:2]))[inside]
        return np.asarray(image * _ramp(target.shape, parameters[2:]))

    def misfit(parameters: npt.NDArray[np.float64]) -> float:
        image = moved(parameters)
        power = float((np.abs(image) ** 2).sum())
        return -float(np.abs(np.vdot(image, target)) / max(np.sqrt(power), 1e-30))

    # Registration finds large shifts; the joint fit then settles shift and ramp, which trade off.
    starts = [np.zeros(4), np.array([*_register(target, result[box].astype(np.complex128)), 0, 0])]
    steps = np.array([[0.3, 0, 0, 0], [0, 0.3, 0, 0], [0, 0, 0.3, 0], [0, 0, 0, 0.3]])
    start = min(starts, key=misfit)
    fit = minimize(
        misfit,
        start,
        method='Nelder-Mead',
        options={
            'initial_simplex': np.vstack([start, start + steps]),
            'xatol': 1e-3,
            'fatol': 1e-9,
            'maxfev': 600,
        },
    )
    image = moved(fit.x)
    power = float((np.abs(image) ** 2).sum())
    factor = np.vdot(image, target) / power if power > 0 else 1.0
    return Alignment(target, image * factor, (float(fit.x[0]), float(fit.x[1])))


def _ramp(shape: tuple[int, ...], slope: npt.NDArray[np.float64]) -> ComplexImage:
    """Return ``exp(i (slope_y y / H + slope_x x / W))``: radians over the height and the width."""
    height, width = shape
    y = (np.arange(height) - (height - 1) / 2)[:, None] / height
    x = (np.arange(width) - (width - 1) / 2)[None, :] / width
    return np.asarray(np.exp(1j * (slope[0] * y + slope[1] * x)))


def _register(target: ComplexImage, image: ComplexImage) -> tuple[float, float]:
    """Find the shift that brings `image` onto `target`, insensitive to its overall phase."""
    from scipy.signal.windows import tukey
    from skimage.registration import phase_cross_correlation

    taper = np.outer(tukey(target.shape[0], 0.3), tukey(target.shape[1], 0.3))
    a, b = (target - target.mean()) * taper, (image - image.mean()) * taper
    if not np.any(np.abs(b) > 1e-9 * max(float(np.abs(image).max()), 1e-30)):
        return 0.0, 0.0
    shift, _, _ = phase_cross_correlation(a, b, upsample_factor=100, normalization=None)
    dy, dx = (float(v) for v in shift)
    # A registration further than a probe's width is a failure, not a finding.
    return (dy, dx) if max(abs(dy), abs(dx)) <= MARGIN else (0.0, 0.0)


def fourier_ring_correlation(
    a: ComplexImage, b: ComplexImage
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fourier ring correlation of two complex images of one shape.

    Returns ring frequencies (cycles per pixel) and correlations. Means are removed and edges tapered
    (van Heel & Schatz, J. Struct. Biol. 151, 250, 2005).
    """
    from scipy.signal.windows import tukey

    height, width = a.shape
    taper = np.outer(tukey(height, TAPER), tukey(width, TAPER))
    fa = np.fft.fft2((a - a.mean()) * taper)
    fb = np.fft.fft2((b - b.mean()) * taper)
    ring, n_rings = _rings(a.shape)

    def total(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        sums = np.bincount(ring, weights=values.ravel(), minlength=n_rings + 2)
        return np.asarray(sums[1 : n_rings + 1], dtype=np.float64)

    cross = total(np.real(fa * np.conj(fb)))
    norm = np.sqrt(total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2))
    return np.arange(1, n_rings + 1) / (2 * n_rings), cross / np.maximum(norm, 1e-30)


def ring_numbers(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return how many pixels (m,) the rings of :func:`fourier_ring_correlation` have."""
    ring, n_rings = _rings(shape)
    return np.asarray(np.bincount(ring, minlength=n_rings + 2)[1 : n_rings + 1], dtype=np.float64)


def _rings(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """Return the ring of each pixel of a spectrum, and how many there are."""
    height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    n_rings = min(height, width) // 2
    return np.minimum((frequency * 2 * n_rings).round().astype(int), n_rings + 1).ravel(), n_rings


def frc50(frequency: npt.NDArray[np.float64], correlation: npt.NDArray[np.float64]) -> float:
    """Return the frequency in cycles per pixel where the smoothed correlation falls below one half."""
    smooth = np.convolve(np.pad(correlation, 1, mode='edge'), [0.25, 0.5, 0.25], mode='valid')
    below = np.flatnonzero(smooth < 0.5)
    return float(frequency[below[0]]) if below.size else float(frequency[-1])


def score(truth: ComplexImage, result: ComplexImage, box: tuple[slice, slice]) -> Scores:
    """Score `result` against `truth` inside `box`; see :class:`Scores`."""
    return score_aligned(align(truth, result, box))


def score_aligned(aligned: Alignment) -> Scores:
    """Score what :func:`align` has brought together."""
    t, r = aligned.truth, aligned.result
    true_phase = np.angle(t * np.conj(t.mean() or 1))
    phase = true_phase + np.angle(r * np.conj(t))
    frequency, correlation = fourier_ring_correlation(t, r)
    return Scores(
        nrmse=float(np.sqrt((np.abs(r - t) ** 2).sum() / (np.abs(t) ** 2).sum())),
        amplitude_ssim=_ssim(np.abs(t), np.abs(r)),
        phase_ssim=_ssim(true_phase, phase),
        amplitude_psnr=_psnr(np.abs(t), np.abs(r)),
        phase_psnr=_psnr(true_phase, phase),
        frc50=frc50(frequency, correlation),
        shift_x_px=aligned.shift[1],
        shift_y_px=aligned.shift[0],
    )


def _ssim(truth: npt.NDArray[Any], image: npt.NDArray[Any]) -> float:
    from skimage.metrics import structural_similarity

    data_range = float(np.ptp(truth)) or 1.0
    return float(structural_similarity(truth, image, data_range=data_range))


def _psnr(truth: npt.NDArray[Any], image: npt.NDArray[Any]) -> float:
    error = float(((truth - image) ** 2).mean())
    data_range = float(np.ptp(truth)) or 1.0
    return float(10 * np.log10(data_range**2 / max(error, 1e-30)))
