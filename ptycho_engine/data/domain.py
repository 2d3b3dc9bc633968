"""What the numbers of a pattern file are: amplitude, counts, or amplitude in unknown units."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last
from ..errors import DataValueError
from .stored import StoredStack

__all__ = ['MeasurementDomain', 'decide_domain', 'stated_photons']

logger = logging.getLogger('ptychopinn.data')

MeasurementDomain = Literal['amplitude', 'counts', 'normalised']
"""The square root of counts; counts; or amplitude times an unknown factor, of which only the mean number of
photons in a pattern is known."""

EXPORTED = frozenset(
    (
        *('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start'),
        *('diff3d', 'probeGuess', 'objectGuess', 'scan_index'),
    )
)
"""Arrays of the training data that Ptychodus 1.4 to 1.6 export; 1.7 adds ``bad_pixels``."""

LOOKED_AT = 8
"""Frames looked at where only the values can tell."""


def decide_domain(
    stack: StoredStack,
    names: Collection[str],
    metadata: dict[str, Any],
    said: MeasurementDomain | None,
    bad_pixels: npt.NDArray[np.bool_] | None,
) -> MeasurementDomain:
    """Decide what the patterns of an NPZ file are (NPZ-04).

    The caller rules, then the file's ``measurement_domain``. Otherwise integers are counts, and so are the
    training data that Ptychodus exports, which are told by the names of their arrays. What PtychoPINN itself
    wrote in the past has the names of an export of Ptychodus 1.4 to 1.6 but amplitudes; whole numbers tell
    them apart. All other floats are amplitude.

    Parameters
    ----------
    stack : StoredStack
        (n, h, w) the patterns.
    names : collection of str
        All arrays of the file.
    metadata : dict
        Of the file.
    said : str, optional
        What the caller says.
    bad_pixels : (h, w) bool, optional
        Pixels whose values tell nothing.

    Raises
    ------
    DataValueError
        If the file names a domain that does not exist.
    """
    source = stack.source
    stated = metadata.get('measurement_domain') if said is None else said
    if stated is not None:
        for known in get_args(MeasurementDomain):
            if stated == known:
                return stated
        raise DataValueError(
            f'{source}: measurement_domain is {stated!r}; expected '
            f'{", ".join(repr(known) for known in get_args(MeasurementDomain))}.'
        )
    if stack.dtype.kind in 'iu':
        logger.info('%s: integers (%s) are counts; taking square roots.', source, stack.dtype)
        return 'counts'
    exported = set(names) - {'bad_pixels'} == EXPORTED
    if exported and 'bad_pixels' in names:
        logger.info('%s: training data exported by Ptychodus are counts; taking square roots.', source)
        return 'counts'
    whole = _whole_numbers(stack, bad_pixels)
    if exported and whole:
        logger.info(
            '%s: whole numbers in training data exported by Ptychodus are counts; taking square roots. '
            "Pass domain='amplitude' if that is wrong.",
            source,
        )
        return 'counts'
    if whole:
        logger.warning(
            '%s: floats are taken as amplitude, but these are all whole numbers, as counts are. Pass '
            "domain='counts' (ptychopinn prepare --domain counts) if they are counts.",
            source,
        )
    return 'amplitude'


def _whole_numbers(stack: StoredStack, bad_pixels: npt.NDArray[np.bool_] | None) -> bool:
    """Return whether some frames hold whole numbers only, and not just 0 and 1, which are their own roots."""
    frames = stack[first_to_last(len(stack), LOOKED_AT)]
    values = frames if bad_pixels is None else frames[:, ~bad_pixels]
    return bool(values.size) and bool((values == np.rint(values)).all()) and float(values.max()) > 1


def stated_photons(metadata: dict[str, Any], said: float | None, source: str) -> float:
    """Return the mean counts per pattern of a scan in the domain 'normalised' (NPZ-10).

    Raises
    ------
    DataValueError
        If nobody says how many photons there were.
    """
    physics = metadata.get('physics_parameters')
    inner = physics.get('nphotons') if isinstance(physics, dict) else None
    value = said if said is not None else metadata.get('nphotons', inner)
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise DataValueError(
            f'{source}: the amplitudes are normalised, and nphotons is {value!r}; pass the mean number of '
            'photons in a pattern as nphotons, or write it into _metadata.'
        )
    return float(value)
