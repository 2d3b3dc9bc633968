"""Patterns and the positions of a product, matched by their indexes as Ptychodus does (DIR-*)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataValueError
from ..formats.diffraction_file import AssembledPatterns
from ..formats.product import ProductData
from ..patterns.detector_mask import Survey, survey
from ..patterns.frame_stack import StoredStack
from ..patterns.matching import Match, match_frames, numbered_alike

__all__ = ['MatchedPair', 'match_pair']

logger = logging.getLogger('ptychopinn.data')


@dataclass(frozen=True)
class MatchedPair:
    """Patterns and a product whose positions are those of the patterns, one by one."""

    stack: StoredStack
    """(n, h, w) the patterns."""
    found: Survey
    """Of the stack."""
    product: ProductData
    told: tuple[str, ...]
    """What was taken for granted of which belong together, in sentences."""
    source: str
    """For messages."""


def match_pair(patterns: AssembledPatterns, product: ProductData, source: str) -> MatchedPair:
    """Match patterns to the positions of a product by their indexes, as Ptychodus does (DIR-*).

    Raises
    ------
    DataValueError
        If none belong together, or patterns cannot be read.
    """
    indexes, told = patterns.indexes, []
    if numbered_alike(indexes, product.position_indexes):
        indexes = product.position_indexes
        told.append('patterns and positions are counted from 0 and from 1; the first belongs to the first.')
    product, chosen = _join(product, indexes, source)
    assert isinstance(patterns.counts, StoredStack)
    stack = patterns.counts.select(chosen)
    found = survey(patterns.bad_pixels if patterns.bad_pixels.any() else None, stack, source)
    match = match_frames(len(stack), len(stack), None, found.dark_end, source)
    told += match.told
    for line in told:
        logger.info('%s: %s', source, line)
    if len(match.frames) < len(stack):
        stack, found, product = stack.select(match.frames), found.select(match.frames), _part(product, match)
    return MatchedPair(stack, found, product, tuple(told), source)


def _part(product: ProductData, match: Match) -> ProductData:
    """Return the product of some of its positions."""
    chosen = match.positions

    def taken(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        return None if values is None else values[chosen]

    return replace(
        product,
        position_indexes=product.position_indexes[chosen],
        position_x_m=product.position_x_m[chosen],
        position_y_m=product.position_y_m[chosen],
        position_photon_counts=taken(product.position_photon_counts),
        opr_weights=taken(product.opr_weights),
    )


def _join(product: ProductData, pattern_indexes: np.ndarray, source: str) -> tuple[ProductData, np.ndarray]:
    """Match patterns to positions by scan index, as Ptychodus does.

    Pattern indexes rule; positions with the same index are averaged; gaps inside the range are interpolated;
    patterns outside it are dropped.
    """
    known, inverse = np.unique(product.position_indexes, return_inverse=True)
    if len(known) == 0 or len(pattern_indexes) == 0:
        raise DataValueError(f'{source}: the scan has no positions or no patterns.')
    count = np.bincount(inverse)
    inside = (pattern_indexes >= known[0]) & (pattern_indexes <= known[-1])
    chosen = np.flatnonzero(inside)
    if len(chosen) == 0:
        raise DataValueError(
            f'{source}: pattern indexes {pattern_indexes.min()}–{pattern_indexes.max()} and position '
            f'indexes {known[0]}–{known[-1]} do not overlap; are the positions those of another scan?'
        )
    if len(chosen) < len(pattern_indexes):
        logger.warning(
            '%s: %d patterns have no position and are left out.',
            source,
            len(pattern_indexes) - len(chosen),
        )
    wanted = pattern_indexes[chosen]

    def at_patterns(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(wanted, known, np.bincount(inverse, weights=values) / count))

    # A row of OPR weights belongs to a position as it was listed; it is neither averaged nor interpolated.
    weights = None
    if product.opr_weights is not None and (count == 1).all() and np.isin(wanted, known).all():
        listed = np.argsort(product.position_indexes, kind='stable')
        weights = product.opr_weights[listed[np.searchsorted(known, wanted)]]
    return (
        replace(
            product,
            position_indexes=wanted,
            position_x_m=at_patterns(product.position_x_m),
            position_y_m=at_patterns(product.position_y_m),
            position_photon_counts=(
                None
                if product.position_photon_counts is None
                else at_patterns(product.position_photon_counts)
            ),
            opr_weights=weights,
        ),
        chosen,
    )
