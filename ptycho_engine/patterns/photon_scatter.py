"""Whether numbers on a lattice scatter as photons do, or were spread over neighbouring pixels.

Counts that were interpolated, binned by weights or smoothed still lie on a lattice, of a smaller step: every
pixel then seems to have seen many times the photons that it did. But a photon hits one pixel, independently
of all others (NPZ-21).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.special import gammaincinv

from .lattice import Lattice

__all__ = ['scatters_as_photons']

SAME_FRAME = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])
"""Pixels that touch, corners included, in one frame."""

ISLAND, ISLANDS = 64, 30
"""Pixels of the largest group that stands apart in the dark, and groups that are needed to tell."""

ALONE = 0.15
"""Part of these groups that must be one pixel of one step: of independent counts a third and more are, even
over a background, of counts that were spread next to none."""

QUIET, TOO_QUIET = 0.05, 0.6
"""Part of the Fourier coefficients, the least, that must have so much of the power of photon noise."""

FEWEST_FRAMES = 4
"""Frames from which on the power of their noise tells something."""


def scatters_as_photons(
    frames: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], lattice: Lattice
) -> bool:
    """Return whether numbers may be counts times the step of their lattice; True where nothing tells.

    Parameters
    ----------
    frames : ndarray
        (n, h, w) values on the lattice.
    valid : ndarray
        (h, w) valid pixels.
    lattice : Lattice
        Of the values.
    """
    steps = np.rint((frames - lattice.offset) / lattice.step) * valid
    return _hits_single_pixels(steps) and _is_noisy(np.where(steps > 0, frames, 0), valid, lattice.step)


def _hits_single_pixels(steps: npt.NDArray[np.float64]) -> bool:
    """Return whether, where it is dark, most of what stands apart (n, h, w) is one pixel of one step."""
    # Integers, which most patterns are, do without it.
    from scipy import ndimage

    groups, count = ndimage.label(steps > 0, SAME_FRAME)
    size = np.bincount(groups.ravel(), minlength=count + 1)
    apart = int((size[1:] <= ISLAND).sum())
    if apart < ISLANDS:
        return True
    single = (groups > 0) & (size[groups] == 1) & (steps == 1)
    return bool(np.count_nonzero(single) >= ALONE * apart)


def _is_noisy(frames: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], step: float) -> bool:
    """Return whether frames (n, h, w) have at all frequencies the power that photon noise has.

    The expected power of independent counts times s is ``s * sum(I)`` at each frequency beside that of the
    image, whatever the image, and whatever pixels are left out.
    """
    # Saturated pixels and stuck ones have no noise.
    seen = valid & (frames.max(axis=0) < frames.max(initial=0.0)) & (np.ptp(frames, axis=0) > 0)
    if len(frames) < FEWEST_FRAMES or not seen.any():
        return True
    power = np.zeros(valid.shape)
    for frame in frames:
        power += np.square(np.abs(fft.fft2(frame * seen)))
    photons = step * float(frames[:, seen].sum())
    # The power of a coefficient follows a gamma distribution, here of as many frames.
    least = float(gammaincinv(len(frames), QUIET)) / len(frames)
    return bool(np.quantile(power, QUIET) >= TOO_QUIET * least * photons)
