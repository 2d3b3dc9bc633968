"""What the numbers of a pattern file are: counts, their square roots, either times a factor, or neither."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blocks import first_to_last
from ..config.choices import DOMAINS, MeasurementDomain
from ..errors import DataValueError
from .detector_mask import Survey
from .frame_stack import StoredStack
from .lattice import Lattice, find_lattice, find_pixel_lattice
from .pedestal import find_pedestal
from .photon_scatter import scatters_as_photons
from .single_hits import SingleHits, looked_at

__all__ = ['Units', 'decide_units', 'domain_named']

logger = logging.getLogger('ptychopinn.data')

CONTRACTS = {'ci_intensity_v2': 'count_intensity', 'legacy_v1': 'normalized_amplitude'}
"""The original's ``scale_contract_version``, and the domain that each goes with."""

EXPORTED = frozenset(
    (
        *('xcoords', 'ycoords', 'xcoords_start', 'ycoords_start'),
        *('diff3d', 'probeGuess', 'objectGuess', 'scan_index'),
    )
)
"""Arrays of the training data that Ptychodus 1.4 to 1.6 export; 1.7 adds ``bad_pixels``."""

LOOKED_AT, VALUES = 64, 1 << 20
"""Frames, and values of them, looked at where only the values can tell."""

FEWEST, SMALLEST = 200, 1e-37
"""Positive values that are needed to tell, and the least: smaller ones have a lattice of their own."""

DIM_PIXELS = 4096
"""Pixels looked at one by one."""

SAME = 0.01
"""Part by which a factor may differ from 1 and still be 1: half precision knows no better."""

CONTRADICTS = 0.1
"""Part by which two numbers of photons must differ to be worth a word."""

ALIKE, UNLIKE = 2.0, 5.0
"""Factors within which the probe's power is that of the patterns, and beyond which it is not."""


@dataclass(frozen=True)
class Units:
    """How stored numbers become the square roots of counts."""

    domain: MeasurementDomain
    factor: float = 1.0
    """Of the amplitudes, once roots are taken of counts."""
    pedestal: float = 0.0
    """What the numbers of counts lie above without any light."""
    counted: bool = True
    """False where the numbers are no counts any more, so that their noise is not that of photons."""
    told: tuple[str, ...] = ()
    """What was taken for granted, in sentences."""
    hits: SingleHits | None = None
    """What is no light, in the numbers above the pedestal; None where nothing tells."""


def domain_named(word: Any, source: str) -> MeasurementDomain:
    """Return the domain that a file or a caller names.

    Raises
    ------
    DataValueError
        If there is no such domain.
    """
    if isinstance(word, str) and word in DOMAINS:
        return DOMAINS[word]
    raise DataValueError(
        f'{source}: measurement_domain is {word!r}; expected {", ".join(repr(known) for known in DOMAINS)}.'
    )


def decide_units(
    stack: StoredStack,
    found: Survey,
    *,
    names: Collection[str] = (),
    metadata: dict[str, Any] | None = None,
    said: str | None = None,
    nphotons: float | None = None,
    probe_power: float | None = None,
) -> Units:
    """Decide what the patterns of a file are (NPZ-04, NPZ-10, NPZ-14).

    The caller rules, then the file's ``measurement_domain``. Otherwise integers are counts, and so are the
    training data that Ptychodus 1.7 exports, told by the names of their arrays; of all other floats it is
    decided by their values. What they leave open is told by the stated number of photons.

    Parameters
    ----------
    stack : StoredStack
        (n, h, w) the patterns.
    found : Survey
        Of the stack.
    names : collection of str
        All arrays of the file.
    metadata : dict, optional
        Of the file.
    said : str, optional
        The domain, by the caller.
    nphotons : float, optional
        Mean counts per pattern, by the caller.
    probe_power : float, optional
        Sum of the squared probe, which in scans of Ptychodus is a number of photons.

    Raises
    ------
    DataValueError
        If the file or the caller name a domain that does not exist, or photons that cannot be.
    """
    metadata = metadata or {}
    source = stack.source
    stated = said if said is not None else metadata.get('measurement_domain', _of_contract(metadata))
    domain = None if stated is None else domain_named(stated, source)
    if nphotons is not None:
        _require_photons(nphotons, source)
    if stack.dtype.kind not in 'f' and domain in (None, 'counts'):
        units = (_raw_frames(*_sample(stack, found)) if domain is None else None) or Units('counts')
        lattices = _Lattices()
        if domain is None and not units.pedestal:
            logger.info('%s: integers (%s) are counts; taking square roots.', source, stack.dtype)
    else:
        frames, valid = _sample(stack, found)
        exported = set(names) - {'bad_pixels', 'dataset_index'} == EXPORTED
        if domain is None and exported and 'bad_pixels' in names:
            domain = 'counts'
        raw = _raw_frames(frames, valid) if domain is None else None
        lattices = _Lattices() if raw else _lattices(frames, valid, domain)
        if raw is None and lattices == _Lattices() and domain in (None, 'counts'):
            raw = _above_pedestal(find_pedestal(frames[:, valid]), 'and no count is a whole number')
        units = raw or _decided(domain, lattices, found, metadata, probe_power, source)
        if not units.counted and np.count_nonzero(frames > 0) < FEWEST:
            units = Units(units.domain, pedestal=units.pedestal)
    if units.pedestal:
        pixels = math.prod(stack.shape[1:]) - (0 if found.bad is None else np.count_nonzero(found.bad))
        found = replace(found, totals=np.maximum(found.totals - units.pedestal * pixels, 0))
    if nphotons is not None:
        units = _scaled_to(units, nphotons, found, 'as stated')
    if stack.dtype.kind != 'f' or lattices.one or units.pedestal:
        units = _with_hits(units, stack, found, lattices.one)
    for line in units.told:
        logger.info('%s: %s', source, line)
    return units


def _decided(
    domain: MeasurementDomain | None,
    lattices: _Lattices,
    found: Survey,
    metadata: dict[str, Any],
    probe_power: float | None,
    source: str,
) -> Units:
    """Return the units of floats, given the lattices of them and of their squares."""
    counts, roots, spread = lattices.counts, lattices.roots, lattices.spread
    if counts is not None and domain in (None, 'counts'):
        return _as_counts(counts)
    if spread is not None and domain in (None, spread):
        return _no_counts(spread, found, 'counts were spread over neighbouring pixels')
    if domain == 'counts':
        return _no_counts('counts', found, 'the values are stated to be counts, but are no whole numbers')
    if domain == 'amplitude':
        if roots is not None and abs(roots.step - 1) > SAME:
            logger.warning(
                '%s: the amplitudes are stated to be the square root of counts, but seem to be that times '
                "%.4g; the statement rules. Pass domain='normalised' (--domain normalised) if it is wrong.",
                source,
                math.sqrt(roots.step),
            )
        return Units('amplitude')
    photons = _photons_of(metadata)
    if roots is not None:
        units = _as_roots(roots, found)
        if domain is not None:
            units = replace(units, domain=domain)
        if photons is not None and _contradict(units, photons, found, source, stated=domain is not None):
            return _scaled_to(Units('normalised'), photons, found, 'as the file states')
        return units
    if photons is not None and not found.negative:
        return _scaled_to(Units('normalised'), photons, found, 'as the file states')
    if found.negative:
        return _no_counts('counts', found, 'negative values are left of a background that was taken off')
    return _no_counts(_by_power(found, probe_power), found, 'the values are no counts, nor roots of counts')


def _as_counts(lattice: Lattice) -> Units:
    """Return the units of counts that lie on a lattice."""
    step = lattice.step
    if not lattice.shared or lattice.offset:
        what = 'the values are counts after the correction of a dark or flat field'
    elif abs(step - 1) <= SAME:
        return Units('counts', told=('whole numbers are counts; square roots are taken.',))
    else:
        what = 'the values are counts times a factor'
    if abs(step - 1) <= SAME or (not lattice.shared and abs(step - 1) < CONTRADICTS):
        return Units('counts', told=(f'{what}; square roots are taken.',))
    return Units('counts', 1 / math.sqrt(step), told=(f'{what}, {step:.4g}; they are divided by it.',))


def _as_roots(lattice: Lattice, found: Survey) -> Units:
    """Return the units of square roots of counts that lie on a lattice."""
    if lattice.shared and abs(lattice.step - 1) <= SAME:
        return Units('amplitude')
    mean = _mean(found.squares) / lattice.step
    line = (
        f'the amplitudes are normalised: roots of counts times {math.sqrt(lattice.step):.4g}, from which a '
        f'pattern has {mean:.4g} counts on average; they are divided by it.'
    )
    return Units('normalised', 1 / math.sqrt(lattice.step), told=(line,))


def _no_counts(domain: MeasurementDomain, found: Survey, why: str) -> Units:
    """Return the units of numbers whose noise is unknown."""
    negative = '; negative ones are taken as 0' if found.negative else ''
    line = (
        f'{why} (interpolated, corrected or smoothed?){negative}; they are taken as {domain}, and their '
        'noise is estimated, so that nothing is known in photons. If that is wrong, give --domain and '
        '--nphotons.'
    )
    return Units(domain, counted=False, told=(line,))


def _raw_frames(frames: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> Units | None:
    """Return the units of whole numbers (k, h, w) above a pedestal; None where they have none."""
    values = frames[:, valid]
    pedestal = find_pedestal(values, whole=True) if bool((values == np.rint(values)).all()) else 0.0
    if pedestal and values.min() >= pedestal:
        # Without noise of the readout the counts are there, times a gain.
        above = np.where(valid, frames - pedestal, 0)
        counts = _lattice(above, valid)
        if counts is not None and scatters_as_photons(above, valid, counts):
            told = (
                f'no pixel shows less than {pedestal:.4g}, as in units of a detector with a pedestal; it is '
                'taken off.'
            )
            units = _as_counts(counts)
            return replace(units, pedestal=pedestal, told=(told, *units.told))
    return _above_pedestal(pedestal, 'and scatter about it less than photons would')


def _above_pedestal(pedestal: float, how: str) -> Units | None:
    """Return the units of numbers of a detector with a pedestal; None where that is 0."""
    if not pedestal:
        return None
    floor = (
        f'dark pixels show {pedestal:.4g} {how}, as in units of a detector with a pedestal; it is taken off.'
    )
    rest = (
        'the rest is taken as counts whose noise is estimated, so that nothing is known in photons. If that '
        'is wrong, give --domain and --nphotons.'
    )
    return Units('counts', pedestal=pedestal, counted=False, told=(floor, rest))


def _by_power(found: Survey, probe_power: float | None) -> MeasurementDomain:
    """Return whether values are counts or amplitudes, by a probe that is known in photons."""
    if probe_power is None or not probe_power > 0:
        return 'amplitude'

    def factor(sums: npt.NDArray[np.float64]) -> float:
        return float(np.exp(abs(np.log(max(_mean(sums), 1e-300) / probe_power))))

    counts = factor(found.totals) < ALIKE and factor(found.squares) > UNLIKE
    return 'counts' if counts else 'amplitude'


def _scaled_to(units: Units, photons: float, found: Survey, whose: str) -> Units:
    """Return units in which the mean pattern has so many counts."""
    mean = _mean(found.totals if units.domain == 'counts' else found.squares)
    if not mean > 0:
        return units
    factor = math.sqrt(photons / mean)
    if units.counted and abs((factor / units.factor) ** 2 - 1) > CONTRADICTS and units.told:
        logger.warning(
            'The patterns have %.4g counts on average by their values, but %.4g are stated (%s); the '
            'stated number is taken.',
            mean * units.factor**2,
            photons,
            whose,
        )
    line = f'a pattern is taken to have {photons:.4g} counts on average, {whose}.'
    domain: MeasurementDomain = 'counts' if units.domain == 'counts' else 'normalised'
    taken_off = units.told[:1] if units.pedestal else ()
    return Units(domain, factor, units.pedestal, told=(*taken_off, line))


def _contradict(units: Units, photons: float, found: Survey, source: str, *, stated: bool) -> bool:
    """Warn where a file states photons that its patterns cannot have had; return whether its statement rules.

    It does where the file says of itself that it is normalised; else the number may be a mere default.
    """
    mean = _mean(found.squares) * units.factor**2
    if 1 / ALIKE < photons / mean < ALIKE:
        return False
    logger.warning(
        '%s: nphotons of the file is %.4g, but the patterns themselves say %.4g counts on average; the %s is '
        'taken. Pass --nphotons if that is wrong.',
        source,
        photons,
        mean,
        'first' if stated else 'second',
    )
    return stated


def _mean(sums: npt.NDArray[np.float64]) -> float:
    return float(sums.mean()) if len(sums) else 0.0


def _sample(stack: StoredStack, found: Survey) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return some lit frames (k, h, w), 0 where nothing can be told, and which pixels (h, w) are good."""
    lit = np.flatnonzero(found.lit)
    height, width = stack.shape[1:]
    chosen = lit[first_to_last(len(lit), min(LOOKED_AT, max(VALUES // (height * width), 8)))]
    frames = stack[chosen].astype(np.float64)
    valid = np.ones((height, width), bool) if found.bad is None else ~found.bad
    # Below it the numbers of a float type lie on a lattice of their own.
    lowest = np.finfo(stack.dtype).tiny if stack.dtype.kind == 'f' else 0
    return np.where(valid & np.isfinite(frames) & ((frames < 0) | (frames >= lowest)), frames, 0), valid


@dataclass(frozen=True)
class _Lattices:
    """On what values lie, or else their squares."""

    counts: Lattice | None = None
    roots: Lattice | None = None
    spread: MeasurementDomain | None = None
    """What is on a lattice but does not scatter as photons do: the values, or their squares."""

    @property
    def one(self) -> float:
        """The number that stands for one count; 0 where they are neither counts nor roots of counts."""
        if self.counts is not None:
            return self.counts.step
        return 0.0 if self.roots is None else math.sqrt(self.roots.step)


def _lattices(
    frames: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], domain: MeasurementDomain | None
) -> _Lattices:
    """Return the lattices of some frames (k, h, w), whose pixels (h, w) are good."""
    spread: MeasurementDomain | None = None
    if domain in (None, 'counts'):
        counts = _lattice(frames, valid)
        if counts is not None and scatters_as_photons(frames, valid, counts):
            return _Lattices(counts=counts)
        spread = None if counts is None else 'counts'
        if domain == 'counts':
            return _Lattices(spread=spread)
    with np.errstate(over='ignore'):
        squares = np.square(frames)
    roots = _lattice(squares, valid) if np.isfinite(squares).all() else None
    if roots is not None and scatters_as_photons(squares, valid, roots):
        return _Lattices(roots=roots)
    return _Lattices(spread=spread or (None if roots is None else 'amplitude'))


def _lattice(frames: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> Lattice | None:
    """Return the lattice on which values of frames (k, h, w) lie, or those of each dim pixel."""
    values = frames[:, valid]
    every = values.ravel()[:: max(-(-values.size // VALUES), 1)]
    positive = every[every > 0]
    if len(positive) < FEWEST or positive.min() < SMALLEST:
        return None
    return find_lattice(positive) or find_pixel_lattice(
        values[:, :: max(-(-values.shape[1] // DIM_PIXELS), 1)]
    )


def _with_hits(units: Units, stack: StoredStack, found: Survey, one: float) -> Units:
    """Return units that know of hits of single pixels, and tell of those in the frames that are looked at."""
    lit = np.flatnonzero(found.lit)
    chosen = lit[looked_at(len(lit), max(stack.shape[1:]))]
    frames = np.maximum(stack[chosen].astype(np.float32) - np.float32(units.pedestal), 0)
    bad = np.zeros(stack.shape[1:], bool) if found.bad is None else found.bad
    hits = SingleHits.of(frames, bad, roots=units.domain != 'counts', one=one)
    if hits is None:
        return units
    return replace(units, hits=hits, told=(*units.told, *hits.told(frames)))


def _of_contract(metadata: dict[str, Any]) -> str | None:
    version = metadata.get('scale_contract_version')
    return CONTRACTS.get(version) if isinstance(version, str) else None


def _photons_of(metadata: dict[str, Any]) -> float | None:
    """Return the photons in a pattern that a file states, if it states a number that can be."""
    physics = metadata.get('physics_parameters')
    inner = physics.get('nphotons') if isinstance(physics, dict) else None
    value = metadata.get('nphotons', inner)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    return None


def _require_photons(value: float, source: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise DataValueError(f'{source}: nphotons is {value!r}; expected a positive number of counts.')
