"""A first probe for a scan without one: from the mean pattern, with the focus that held-out pixels choose."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..patterns.inpainting import filled_counts
from ..physics.probe_estimate import estimate_probe, likely_curvatures
from ..scan.centring import mean_counts
from ..scan.pretreatment import crop_scan
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from .changes import changed, fftshifted_patterns
from .trial_fit import TrialFit
from .trials import Reading, compact_part, median_step, probe_width

__all__ = ['FoundProbe', 'search_probe', 'uncornered']

logger = logging.getLogger('ptychopinn.formats')

SEARCHED_SIZE = 128
"""Pixels of a side of the patterns, or of their middle, with which the focus is looked for."""
PATTERNS = 36
"""Neighbouring patterns that are fitted."""
QUICK, EARNEST = 16, 40
"""Iterations in which all are tried, and the best ones in earnest."""
FINALISTS = 5
WIDTH = 2.0
"""Steps of the scan that the beam is wide: half of it overlaps with the next."""
CORNER = 1 / 8
"""Parts of a side, from a corner, within which a mean pattern whose edges are joined has its middle there."""
LARGEST_REFINED, REFINING = 256, 100
"""Pixels of a side up to which the probe found is refined with the whole patterns, and in how many
iterations."""
STEPS = (1.18, 1.06)
"""Factors by which the best one is changed, up and down, as long as that is better."""


class FoundProbe:
    """A probe that was looked for, and how it fits."""

    def __init__(self, modes: npt.NDArray[np.complex64], curvature_rad: float, ratio: float) -> None:
        self.modes = modes
        """(1, N, N)"""
        self.curvature_rad = curvature_rad
        """Phase at the middle of the edge of the patterns, N/2 pixels from their middle."""
        self.ratio = ratio
        """Held-out deviance of a quick reconstruction, relative to photon noise."""

    @property
    def sentence(self) -> str:
        """What was done, for log and comments."""
        return (
            'the probe is estimated from the mean pattern, with a curvature of '
            f'{self.curvature_rad:.3g} rad at its edge (held-out deviance {self.ratio:.3g} times photon '
            'noise)'
        )


def search_probe(scan: Scan) -> FoundProbe:
    """Look for the probe of a scan (PROBE-*).

    The square root of the mean pattern is the modulus of the pupil. Which spherical phase it has, that is,
    how far the sample is out of focus, is tried: each by a quick reconstruction of a small part of the scan,
    in which the probe is free, and pixels that were not shown to it judge.

    Raises
    ------
    DataValueError
        If the patterns are dark.
    """
    light = filled_counts(mean_counts(scan.raw), scan.raw.bad_pixels)
    size = scan.raw.N
    small = _searched(scan)
    growth = (size / small.N) ** 2
    mean = filled_counts(mean_counts(small), small.bad_pixels)
    part = compact_part(small, PATTERNS)
    judged: dict[float, float] = {}

    def quick(curvature: float) -> float:
        return _judge(part, mean, curvature, QUICK)

    def earnest(curvature: float) -> float:
        if curvature not in judged:
            judged[curvature] = _judge(part, mean, curvature, EARNEST)
        return judged[curvature]

    first = sorted(_overlapping(likely_curvatures(mean), mean, part), key=quick)
    best = min(first[:FINALISTS], key=earnest)
    for step in STEPS:
        for factor in (step, 1 / step):
            while earnest(best * factor) < earnest(best):
                best *= factor
    found = FoundProbe(estimate_probe(light, best * growth), best * growth, earnest(best))
    if size <= LARGEST_REFINED:
        found = _refined(found, scan.raw)
    logger.info('%s: %s.', scan.raw.source, found.sentence)
    return found


def uncornered(scan: Scan) -> Scan:
    """Return a scan whose patterns have their middle in the middle, if they had it in their corners.

    Of files of other programs the patterns tell: it is where the centre of mass of their mean, their edges
    joined, lies.
    """
    mean = filled_counts(mean_counts(scan.raw), scan.raw.bad_pixels)
    size = scan.raw.N
    turn = np.exp(2j * np.pi * np.arange(size) / size)
    centres = [np.angle((mean.sum(axis=axis) * turn).sum()) / (2 * np.pi) for axis in (1, 0)]
    if max(map(abs, centres)) > CORNER:
        return scan
    raw = changed(scan.raw, [fftshifted_patterns(size)])
    line = 'the middle of the patterns was in their corners; they are shifted (fftshift).'
    logger.info('%s: %s', raw.source, line)
    return replace(scan, raw=replace(raw, path=scan.raw.path, assumed=(*raw.assumed, line)))


def _overlapping(
    curvatures: Sequence[float], mean: npt.NDArray[np.float64], part: RawData
) -> Sequence[float]:
    """Return those with which the beam is wide enough for the steps of the scan; all where none is.

    Patterns that do not overlap are explained one by one, whatever the probe.
    """
    step = median_step(part)
    wide = [
        curvature
        for curvature in curvatures
        if probe_width(replace(part, probeGuess=estimate_probe(mean, curvature))) > WIDTH * step
    ]
    return wide or curvatures


def _searched(scan: Scan) -> RawData:
    """Return the scan with the middle of its patterns, where these are large, and a flat object."""
    bare = Scan(replace(scan.raw, objectGuess=None, Y=None), scan.grid)
    if scan.raw.N <= SEARCHED_SIZE:
        return bare.raw
    return crop_scan(bare, SEARCHED_SIZE).raw


def _refined(found: FoundProbe, raw: RawData) -> FoundProbe:
    """Return the probe that a longer fit to the same patterns, of their whole size, has made of it."""
    other = replace(raw, probeGuess=found.modes, coherent=None, objectGuess=None, Y=None)
    part = compact_part(other, PATTERNS)
    fit = TrialFit(part, Reading().freeing('probe').free).run(REFINING)
    return FoundProbe(fit.probe, found.curvature_rad, fit.judge().ratio)


def _judge(part: RawData, mean: npt.NDArray[np.float64], curvature: float, iterations: int) -> float:
    """Return the held-out deviance relative to noise of a fit with this curvature."""
    trial = replace(part, probeGuess=estimate_probe(mean, curvature))
    return TrialFit(trial, Reading().freeing('probe').free).run(iterations).judge().ratio
