"""Looking at a scan: units, light, geometry, overlap, probe and object."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..blocks import block_length, blocks, first_to_last
from ..errors import EngineError
from ..patterns.known_patches import KnownPatches
from ..physics.geometry import place_patches
from ..physics.probe import relative_intensity
from ..scan.neighbours import nearest_distances
from ..scan.raw_data import RawData
from ..scan.scan import Scan, find_training_scans, load_scan
from ..whole_scan.scan_model import ScanModel
from .agreement import agreement_findings
from .diagnosis import diagnose
from .doubts import find_doubts, light_is_scarce, positions_off
from .findings import Finding, Grade
from .probe_place import RIM_LIGHT, rim_light
from .trials import probe_width

__all__ = ['examine_path', 'examine_scan']

LOOKED_AT = 256
"""Patterns looked at, spread evenly over the scan."""
EMPTY = 0.01
"""A pattern with less than this part of the median counts is empty."""
TIED = 4
"""Pixels of one pattern that share the largest value of the scan, from which on they are saturated."""
SATURATION_COUNTS = 64
"""Largest counts below which equal values are nothing special."""
GOOD_OVERLAP = 0.5


def examine_path(
    path: Path | str,
    load: Callable[[Path], Scan] = load_scan,
    *,
    whole: bool = False,
    words: Callable[[Path], str] = lambda path: shlex.quote(str(path)),
) -> Iterator[tuple[str, Finding]]:
    """Yield (file, finding) for every scan that `path` names; a file that cannot be read is a finding too.

    Parameters
    ----------
    load : callable
        Loads one of them.
    whole : bool
        Whether `path` names one scan for `load`, whatever it is.
    words : callable
        Returns how a command line names a scan that is loaded so.
    """
    path = Path(path)
    scans = [path] if whole else find_training_scans(path)
    if not scans:
        what = 'holds no scan' if path.exists() else 'is not there'
        yield (
            str(path),
            Finding(
                Grade.STOP,
                'file',
                f'{path} {what}; give an NPZ file, a directory of them, or a Ptychodus directory with '
                'diffraction.h5 and product.h5.',
            ),
        )
    for item in scans:
        try:
            scan = load(item)
            for finding in examine_scan(scan, words(item)):
                yield str(item), finding
        except EngineError as error:
            yield str(item), Finding(Grade.STOP, 'file', str(error))


def examine_scan(scan: Scan, words: str = 'IN') -> Iterator[Finding]:
    """Yield what is found in a scan; everything is looked at, whatever was found before.

    `words` are how a command line names it.

    Raises
    ------
    DataValueError
        If the patterns hold NaN or negative values or no counts, or `Y` NaN, or the probe has no intensity on
        the valid pixels.
    """
    raw = scan.raw
    prepared = ScanModel(scan)
    chosen = first_to_last(len(raw), LOOKED_AT)
    amplitude = np.asarray(raw.diffraction[chosen])
    if isinstance(raw.Y, KnownPatches):
        # What lies in its file is checked where it is read.
        for part in blocks(len(raw), block_length(raw.N)):
            raw.Y[part]
    yield _content(scan)
    yield from _assumed(raw) if raw.assumed else _units(amplitude, raw.valid)
    yield from _light(prepared, amplitude)
    doubts = find_doubts(prepared)
    yield _probe(prepared, doubts.get('probe', ''))
    yield from _places(scan)
    yield from _overlap(raw)
    for topic, text in doubts.items():
        # Of the probe, and of single positions that lie off the object, there was a word already.
        if topic not in ('probe', 'positions'):
            yield Finding(Grade.CAUTION, topic, text)
    if not raw.counted:
        yield Finding(
            Grade.CAUTION,
            'agreement',
            'the numbers are no counts, so that nothing tells whether they are predicted near photon noise.',
        )
    elif not doubts.keys() & {'dose', 'sameness'}:
        yield from agreement_findings(diagnose(raw), words)


def _content(scan: Scan) -> Finding:
    raw = scan.raw
    modes = len(raw.probeGuess)
    extra = [
        f'{name} {value.shape}' if hasattr(value, 'shape') else name
        for name in ('objectGuess', 'bad_pixels', 'scan_index', 'Y')
        if (value := getattr(raw, name)) is not None
    ]
    also = f'; also {", ".join(extra)}' if extra else ''
    return Finding(
        Grade.FINE,
        'content',
        f'{len(raw)} patterns of {raw.N}×{raw.N} pixels with positions, probe of {modes} mode'
        f'{"s" if modes > 1 else ""}{also}.',
    )


def _assumed(raw: RawData) -> Iterator[Finding]:
    for line in raw.assumed:
        yield Finding(Grade.FINE if raw.counted else Grade.CAUTION, 'units', line)


def _units(amplitude: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    values = amplitude[:, valid]
    bright = values[values > 1.5]
    if bright.size and bool((bright == np.rint(bright)).all()):
        yield Finding(
            Grade.CAUTION,
            'units',
            'every value taken for an amplitude is a whole number, as counts are; save the patterns as '
            'integers, or put {"measurement_domain": "counts"} into _metadata.',
        )
        return
    # Of a file of counts too there are amplitudes by now: what they are the roots of says more.
    counts = np.square(bright, dtype=np.float64)
    if counts.size and bool((np.abs(counts - np.rint(counts)) < 1e-5 * counts).all()):
        yield Finding(Grade.FINE, 'units', 'the patterns are counts, whole numbers as detectors give them.')
    else:
        yield Finding(Grade.FINE, 'units', 'the values look like amplitudes, the square root of counts.')


def _light(prepared: ScanModel, amplitude: npt.NDArray[np.float32]) -> Iterator[Finding]:
    raw = prepared.scan.raw
    counts = np.square(amplitude, dtype=np.float64) * raw.valid
    totals = counts.sum(axis=(1, 2))
    median = float(np.median(totals))
    yield Finding(
        Grade.FINE,
        'light',
        f'{median:.3g} counts in a pattern (median; {totals.min():.3g} to {totals.max():.3g}), '
        f'{counts.max():.3g} in the brightest pixel.',
    )
    if not raw.valid.any():
        yield Finding(Grade.STOP, 'bad pixels', 'every pixel is marked as bad; correct bad_pixels.')
    # Raises where all are dark.
    scarce = light_is_scarce(prepared.scale)
    empty = int((totals <= EMPTY * median).sum())
    if empty and not scarce:
        yield Finding(
            Grade.CAUTION,
            'empty patterns',
            f'{empty} of {len(totals)} patterns looked at are empty; leave them out, with their positions.',
        )
    brightest = float(counts.max())
    tied = (counts >= brightest * (1 - 1e-6)).sum(axis=(1, 2))
    saturated = int((tied >= TIED).sum())
    if brightest > SATURATION_COUNTS and saturated and math.isinf(raw.ceiling):
        yield Finding(
            Grade.CAUTION,
            'saturation',
            f'{saturated} of {len(totals)} patterns looked at have {TIED} and more pixels at exactly the '
            f'largest value, {brightest:.10g} counts, as a saturated detector gives; expose shorter, or '
            'state that value as saturation_counts in _metadata.',
        )


def _probe(prepared: ScanModel, doubt: str) -> Finding:
    raw, scale = prepared.scan.raw, prepared.scale
    intensity = relative_intensity(raw.probeGuess)
    size = raw.N
    axis = np.arange(size) - (size - 1) / 2
    total = float(intensity.sum())
    dx = float((intensity.sum(axis=0) * axis).sum() / total)
    dy = float((intensity.sum(axis=1) * axis).sum() / total)
    at_rim = rim_light(intensity)
    text = (
        f'about {probe_width(raw):.0f} px wide; times {scale.probe_scale:.3g} it gives the measured counts.'
    )
    if doubt:
        return Finding(Grade.CAUTION, 'probe', f'{doubt} It is {text}')
    if np.hypot(dx, dy) > size / 8:
        off = f'it lies {np.hypot(dx, dy):.0f} px off the middle of its frame; move it there.'
        return Finding(Grade.CAUTION, 'probe', f'{off} It is {text}')
    if at_rim > RIM_LIGHT:
        small = (
            f'{100 * at_rim:.0f} % of its light is at the rim, so its frame is too small for it; use '
            'patterns of more pixels.'
        )
        return Finding(Grade.CAUTION, 'probe', f'{small} It is {text}')
    return Finding(Grade.FINE, 'probe', text)


def _places(scan: Scan) -> Iterator[Finding]:
    raw, grid = scan.raw, scan.grid
    x, y = raw.xcoords - grid.origin_x, raw.ycoords - grid.origin_y
    corner = place_patches(x, y, raw.N).corner
    reaching = int(((corner < 0) | (corner + raw.N > np.array(grid.shape))).any(axis=1).sum())
    outside, text = positions_off(scan)
    if outside:
        yield Finding(Grade.CAUTION, 'positions', text)
    elif reaching:
        yield Finding(
            Grade.CAUTION,
            'positions',
            f'{reaching} of {len(raw)} patches reach over the edge of the object of {grid.height}×'
            f'{grid.width} pixels, and what is beyond it is lost; enlarge the object.',
        )
    else:
        yield Finding(Grade.FINE, 'positions', f'all lie on the object of {grid.height}×{grid.width} pixels.')


def _overlap(raw: RawData) -> Iterator[Finding]:
    if len(raw) < 2:
        return
    distance = nearest_distances(np.stack([raw.xcoords, raw.ycoords], axis=1))
    step, width = float(np.median(distance)), probe_width(raw)
    overlap = 1 - step / width
    percent = 100 * max(overlap, 0)
    text = f'neighbours are {step:.1f} px apart, {percent:.0f} % overlap of a probe {width:.0f} px wide'
    same = int((distance < 1e-6).sum())
    if overlap <= 0:
        yield Finding(
            Grade.CAUTION,
            'overlap',
            f'{text}: there is no overlap, so patterns do not constrain each other; scan with smaller steps, '
            'check the unit of the positions, and keep gridsize at 1.',
        )
    elif same > len(raw) / 2:
        yield Finding(
            Grade.CAUTION,
            'overlap',
            f'{same} of {len(raw)} positions are where another one is; check the positions.',
        )
    elif overlap < GOOD_OVERLAP:
        yield Finding(
            Grade.CAUTION, 'overlap', f'{text}; more than 50 % is better. Train with simulated objects.'
        )
    else:
        yield Finding(Grade.FINE, 'overlap', f'{text}; gridsize 2 is worth its time.')
