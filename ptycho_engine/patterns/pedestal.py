"""What the units of a detector lie above where no light falls: its pedestal."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ['find_pedestal']

DARKEST, ABOVE, BEYOND = 0.05, 5.0, 20.0
"""Part of the pixels, the darkest, that show a pedestal: how many standard deviations of their values it must
be above 0, and how many the brightest value above it."""

ALIKE_DARK = 2.0
"""Standard errors that these pixels may scatter about one floor."""

ROUNDING, UNLIKE_PHOTONS = 0.29, 0.5
"""Standard deviation of rounding, and, relative to the floor, the largest variance of whole numbers about
it: that of photons is the floor itself."""

MEDIAN_OF_NORMAL = 0.6745
"""Standard deviations that half of normal values lie within."""


def find_pedestal(values: npt.NDArray[np.float64], *, whole: bool = False) -> float:
    """Return what detector units (k, m) of k frames lie above without light; 0 where nothing tells.

    Far from the beam pixels are dark, and then all read the same but for the noise of the readout. Roots of
    counts are 0 there, and an even background of photons, which whole numbers may be, scatters as they do.
    """
    # The darkest of one half by chance are not so in the other.
    if len(values) < 2 or not values.size:
        return 0.0
    with np.errstate(over='ignore'):
        mean = values[::2].mean(axis=0)
        dark = values[1::2, mean <= np.quantile(mean, DARKEST)]
        floor = float(np.median(dark))
        noise = float(np.median(np.abs(dark - floor))) / MEDIAN_OF_NORMAL
        if whole:
            noise = max(noise, ROUNDING)
            if noise**2 > UNLIKE_PHOTONS * floor:
                return 0.0
        # Hits of cosmic rays move means, and few medians.
        alike = np.median(dark, axis=0).std() <= ALIKE_DARK * noise * math.sqrt(math.pi / 2 / len(dark))
    found = alike and floor > ABOVE * noise and values.max() > floor + BEYOND * noise
    return floor if found else 0.0
