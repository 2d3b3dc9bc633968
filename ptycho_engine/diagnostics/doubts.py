"""What makes an image of a scan mean hardly anything, though nothing is wrong with its numbers as such.

Training and reconstruction warn of it, and `doctor` names it before.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last
from ..physics.scaling import MOST_COUNTS, PRESUMED_COUNTS, ScaleRecord
from ..scan.fix_command import fix_command
from ..scan.scan import Scan
from ..whole_scan.scan_model import ScanModel
from .probe_place import cornered_probe

__all__ = ['find_doubts', 'light_is_scarce', 'positions_off', 'warn_of_doubts']

logger = logging.getLogger('ptychopinn.data')

SCARCE_COUNTS = 30.0
"""Mean counts of a pattern below which it says next to nothing."""

FEWEST_PLACES = 4
"""Different places, half a pixel and more apart, that a scan needs for its patterns to hold each other."""

LOOKED_AT = 32
"""Patterns looked at, spread evenly over the scan."""

EMPTY = 0.01
"""A pattern with less than this part of the mean counts is empty."""

ONE_PIXEL = 0.999
"""Part of the light of a pattern in its brightest pixel from which on all of it is there."""


def light_is_scarce(scale: ScaleRecord) -> bool:
    """Return whether a pattern holds next to no photons."""
    return scale.unit == 1 and scale.mean_counts < SCARCE_COUNTS


def warn_of_doubts(prepared: ScanModel) -> None:
    """Log one line for each doubt about a scan.

    Raises
    ------
    DataValueError
        If the scan holds no counts, or the probe has no intensity on its valid pixels.
    """
    for text in find_doubts(prepared).values():
        logger.warning('%s: %s', prepared.scan.raw.source, text)


def find_doubts(prepared: ScanModel) -> dict[str, str]:
    """Return a sentence for each doubt about a scan, by what it is about: light, patterns, places,
    probe, positions.

    Raises
    ------
    DataValueError
        If the scan holds no counts, or the probe has no intensity on its valid pixels.
    """
    scan, scale = prepared.scan, prepared.scale
    outside, off = positions_off(scan)
    corner = cornered_probe(scan.raw)
    found = {
        'dose': _of_light(scale) if scan.raw.counted else '',
        'sameness': '' if light_is_scarce(scale) else _of_patterns(prepared),
        'places': _of_places(scan),
        'probe': f'{corner.sentence} ({fix_command(scan.raw)} does it).' if corner else '',
        'positions': off if outside > len(scan.raw) / 2 else '',
    }
    return {topic: text for topic, text in found.items() if text}


def _of_light(scale: ScaleRecord) -> str:
    mean = f'{scale.mean_counts:.3g} counts in a pattern on average'
    if scale.unit > 1:
        return (
            f'there are {mean}, more than any detector counts; they are taken for relative numbers, as if '
            f'there were {MOST_COUNTS:.0e}, and deviances are those of so many.'
        )
    if scale.unit < 1:
        return (
            f'there are {mean} and less than half a count in every pixel, so that these are no counts; they '
            f'are taken for relative numbers, as if there were {PRESUMED_COUNTS:.0e}, and deviances say '
            "nothing of photon noise. If you know how many there were, give domain 'normalised' and nphotons "
            '(ptychopinn prepare --domain normalised --nphotons X).'
        )
    if light_is_scarce(scale):
        return f'there are only {mean}; an image of so little light means hardly anything.'
    return ''


def _of_patterns(prepared: ScanModel) -> str:
    raw = prepared.scan.raw
    chosen = first_to_last(len(raw), LOOKED_AT)
    values = prepared.amplitude(chosen)[:, prepared.valid]
    counts = np.square(values, dtype=np.float64)
    totals = counts.sum(axis=1)
    lit = totals > EMPTY * totals.mean()
    looked_at = f'of the {len(chosen)} patterns looked at'
    if lit.sum() <= len(chosen) / 2:
        return f'only {lit.sum()} {looked_at} hold light; an image of the others means nothing.'
    if values.shape[1] > 1 and (values[lit] == values[lit][:, :1]).all():
        return f'each {looked_at} has one number in all its pixels, so that they show nothing.'
    if values.shape[1] > 1 and np.median(counts[lit].max(axis=1) / totals[lit]) > ONE_PIXEL:
        return (
            f'nearly all light {looked_at} is in one pixel of each, so that they show nothing; if it is a '
            'hot one, mark it in bad_pixels.'
        )
    if len(chosen) > 1 and (values == values[0]).all():
        return f'all {looked_at[3:]} are the same, so that they tell nothing of what differs along the scan.'
    return ''


def _of_places(scan: Scan) -> str:
    raw = scan.raw
    if len(raw) == 1:
        return 'there is one pattern only, so nothing overlaps; a reconstruction of it is hardly determined.'
    places = len(np.unique(np.rint(2 * np.stack([raw.xcoords, raw.ycoords])), axis=1).T)
    if places >= FEWEST_PLACES:
        return ''
    if places == len(raw):
        return f'there are {places} patterns only; a reconstruction of so few is hardly determined.'
    where = 'one place' if places == 1 else f'{places} places'
    return (
        f'all {len(raw)} positions are within half a pixel of {where}, so that a reconstruction is hardly '
        'determined; check the positions and their unit (object pixels).'
    )


def positions_off(scan: Scan) -> tuple[int, str]:
    """Return how many positions lie off the object of a scan, and a sentence on it."""
    raw, grid = scan.raw, scan.grid
    x, y = raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y

    def off(columns: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]) -> int:
        return int(((columns < 0) | (columns > grid.width - 1) | (rows < 0) | (rows > grid.height - 1)).sum())

    outside = off(x, y)
    hint = (
        'with x and y swapped all would lie on it; exchange xcoords and ycoords'
        if off(y, x) == 0
        else 'check the unit (object pixels) and the origin (the first pixel of objectGuess)'
    )
    return outside, (
        f'{outside} of {len(raw)} positions lie off the object of {grid.height}×{grid.width} pixels: x from '
        f'{x.min():.4g} to {x.max():.4g}, y from {y.min():.4g} to {y.max():.4g}; {hint}.'
    )
