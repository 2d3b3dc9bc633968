"""Ways in which a scan may have been written otherwise than it should be, each with what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..physics.geometry import ObjectGrid
from ..scan.raw_data import RawData

__all__ = [
    'BACKWARDS',
    'LARGEST_STEP',
    'Change',
    'affine_map',
    'bad_pixels',
    'changed',
    'fftshifted_patterns',
    'multiplied_positions',
    'orders',
    'orientations_of_patterns',
    'orientations_of_positions',
    'orientations_of_probe',
    'propagated_probe',
    'rolled_patterns',
    'saturated_values',
    'shift_of',
    'slipped',
    'with_offset',
]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

PATTERNS, POSITIONS, PROBE, ORDER, PIXELS = 'patterns', 'positions', 'probe', 'order', 'pixels'


@dataclass(frozen=True)
class Change:
    """What undoes one mistake in a scan."""

    kind: str
    """What it changes: patterns, positions, probe, order, pixels."""
    key: str
    """Its name for programs."""
    sentence: str
    """What is wrong, and what undoes it; begins with a small letter, without a full stop."""
    apply: Callable[[RawData], RawData]
    """Returns a scan, or a part of one, that is changed; the patterns must be in memory unless `whole`."""
    whole: bool = False
    """Whether it is applied to the whole scan before a part is taken, and reads no pattern."""


def changed(raw: RawData, changes: Iterable[Change]) -> RawData:
    """Return a scan with some changes, those of the whole scan first.

    Patterns are read, all of them, only where one of the changes turns or shifts them.
    """
    changes = tuple(changes)
    for change in (*(c for c in changes if c.whole), *(c for c in changes if not c.whole)):
        raw = change.apply(raw)
    return raw


def _of_axes(transposed: bool, rows: bool, columns: bool, array: Array) -> Array:
    """Transpose the last two axes, then reverse rows and columns."""
    if transposed:
        array = array.swapaxes(-2, -1)
    return np.ascontiguousarray(array[..., :: -1 if rows else 1, :: -1 if columns else 1])


SHOWN_PIXELS = 3
SHIFTED = 'order shifted by '
LARGEST_STEP = 3
"""Patterns or positions that may be too many at the beginning, or from anywhere on."""
LEAST_ANGLE, LEAST_STRETCH = 0.1, 0.002
"""Degrees, and part of a step, below which a map of the positions is not spoken of."""

ORIENTATIONS = [
    (transposed, rows, columns)
    for transposed in (False, True)
    for rows in (False, True)
    for columns in (False, True)
    if transposed or rows or columns
]

ORIENTATION_NAMES = {
    (False, True, False): 'upside down',
    (False, False, True): 'mirrored left to right',
    (False, True, True): 'turned by 180 degrees',
    (True, False, False): 'transposed',
    (True, True, False): 'turned by 90 degrees clockwise',
    (True, False, True): 'turned by 90 degrees counter-clockwise',
    (True, True, True): 'transposed about the other diagonal',
}
"""What was done to an array that the orientation undoes."""


HALF_TURN = (False, True, True)

BACKWARDS = frozenset({'patterns turned by 180 degrees', 'positions -x, -y', 'order reversed'})
"""Keys of the changes that a probe inverted and conjugated makes up for, where the places of the scan look
alike turned by 180°; another probe that comes near it does in part."""


def with_frames(raw: RawData, change: Callable[[Array], Array]) -> RawData:
    """Return a scan whose patterns and mask are changed by a function of arrays (..., N, N)."""
    bad = None if raw.bad_pixels is None else change(raw.bad_pixels)
    return replace(raw, diffraction=change(np.asarray(raw.diffraction[:])), bad_pixels=bad, path=None)


def orientations_of_patterns() -> Iterator[Change]:
    """Yield all ways to orient the patterns, reversed axes with zero frequency kept at N//2 or not."""
    for orientation in ORIENTATIONS:
        _, rows, columns = orientation
        for rolled in (False, True) if rows or columns else (False,):
            yield _oriented_patterns(orientation, rolled)


def _oriented_patterns(orientation: tuple[bool, bool, bool], rolled: bool) -> Change:
    name = ORIENTATION_NAMES[orientation]
    _, rows, columns = orientation
    steps = (int(rows and rolled), int(columns and rolled))

    def turned(array: Array) -> Array:
        return np.roll(_of_axes(*orientation, array), steps, axis=(-2, -1))

    return Change(
        PATTERNS,
        f'patterns {name}',
        f'the patterns are {name}'
        + (', or, which fits as well, the probe is conjugated' if orientation == HALF_TURN else ''),
        lambda raw: with_frames(raw, turned),
    )


def rolled_patterns(row: int, column: int) -> Change:
    """Return the shift of all patterns, cyclically, by so many pixels."""
    return Change(
        PATTERNS,
        'patterns shifted',
        f'the patterns are off centre by {_many(-row, "row")} and {_many(-column, "column")}',
        lambda raw: with_frames(raw, lambda array: np.roll(array, (row, column), axis=(-2, -1))),
    )


def fftshifted_patterns(size: int) -> Change:
    """Return the shift of zero frequency from the corner to the middle."""
    shift = size // 2
    return Change(
        PATTERNS,
        'fftshift',
        'the middle of the patterns is in their corners; they want numpy.fft.fftshift over their two axes',
        lambda raw: with_frames(raw, lambda array: np.roll(array, (shift, shift), axis=(-2, -1))),
    )


def with_positions(
    raw: RawData, change: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
) -> RawData:
    """Return a scan whose positions are changed; its object is kept only where all patches stay on it."""
    x, y = change(raw.xcoords, raw.ycoords)
    obj = raw.objectGuess
    if obj is not None:
        # By whole pixels to the middle of what the old ones covered, to stay on the object if they can.
        x = x + np.rint(_middle(raw.xcoords) - _middle(x))
        y = y + np.rint(_middle(raw.ycoords) - _middle(y))
        grid = ObjectGrid.around_scan(x, y, raw.N)
        inside = (
            grid.origin_x >= 0
            and grid.origin_y >= 0
            and grid.origin_y + grid.height <= obj.shape[0]
            and grid.origin_x + grid.width <= obj.shape[1]
        )
        obj = obj if inside else None
    return replace(
        raw, xcoords=x, ycoords=y, xcoords_start=None, ycoords_start=None, objectGuess=obj, Y=None, path=None
    )


def _middle(values: FloatArray) -> float:
    return float(values.min() + values.max()) / 2


def orientations_of_positions() -> Iterator[Change]:
    """Yield all signs and the exchange of the two axes of the positions."""
    return map(_oriented_positions, ORIENTATIONS)


def _oriented_positions(orientation: tuple[bool, bool, bool]) -> Change:
    swapped, minus_y, minus_x = orientation
    signs = [name for name, minus in (('x', minus_x), ('y', minus_y)) if minus]
    parts = ['x and y of the positions are swapped'] if swapped else []
    if signs:
        has = 'have' if len(signs) > 1 else 'has'
        parts.append(f'{" and ".join(signs)} of the positions {has} the wrong sign')

    def change(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        x, y = (y, x) if swapped else (x, y)
        return (-x if minus_x else x), (-y if minus_y else y)

    return Change(
        POSITIONS,
        'positions ' + ', '.join((['swapped'] if swapped else []) + [f'-{name}' for name in signs]),
        ' and '.join(parts),
        lambda raw: with_positions(raw, change),
        whole=True,
    )


def _mapped_positions(matrix: FloatArray, key: str, sentence: str) -> Change:
    """Return the affine map of [y, x] by a matrix (2, 2) about the middle of the scan."""

    def change(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        new_y, new_x = matrix @ np.stack([y - y.mean(), x - x.mean()])
        return new_x + x.mean(), new_y + y.mean()

    return Change(POSITIONS, key, sentence, lambda raw: with_positions(raw, change), whole=True)


def multiplied_positions(factor: float) -> Change:
    """Return that positions are multiplied by a factor, for they are in another unit."""
    return Change(
        POSITIONS,
        'unit of positions',
        f'the positions are not in object pixels: multiplied by {factor:.4g} they are',
        lambda raw: with_positions(raw, lambda x, y: (factor * x, factor * y)),
        whole=True,
    )


def with_offset(change: Change, dy: float, dx: float) -> Change:
    """Return a change of positions after which all are moved by a part of a pixel.

    Patches lie on whole pixels, and an object with detail as fine as these is no longer the same when all
    positions are moved by less.
    """

    def moved(raw: RawData) -> RawData:
        raw = change.apply(raw)
        return replace(raw, xcoords=raw.xcoords + dx, ycoords=raw.ycoords + dy)

    return replace(change, apply=moved)


def affine_map(matrix: FloatArray) -> Change:
    """Return the map of the positions by a matrix (2, 2) of [y, x] that is near the identity, in words."""
    u, stretch, v = np.linalg.svd(matrix)
    turn = u @ v
    angle = float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))
    scale, shear = float(np.sqrt(stretch.prod())), float(stretch[0] / stretch[1]) - 1
    parts = []
    if abs(angle) > LEAST_ANGLE:
        parts.append(f'the scan axes are turned by {angle:.1f} degrees')
    if abs(scale - 1) > LEAST_STRETCH:
        parts.append(f'the steps of the scan are {1 / scale:.3f} times as long as they should be')
    if shear > 2 * LEAST_STRETCH or not parts:
        parts.append(f'the scan axes are stretched or sheared by {100 * shear:.2g} %')
    turned = abs(np.radians(angle)) > max(abs(scale - 1), shear)
    key = 'rotated axes' if turned else 'step scale' if abs(scale - 1) > shear / 2 else 'sheared axes'
    return _mapped_positions(matrix, key, ' and '.join(parts))


def orientations_of_probe() -> Iterator[Change]:
    """Yield all ways to orient the probe."""
    return map(_oriented_probe, ORIENTATIONS)


def _oriented_probe(orientation: tuple[bool, bool, bool]) -> Change:
    name = ORIENTATION_NAMES[orientation]
    return Change(
        PROBE,
        f'probe {name}',
        f'the probe is {name}',
        lambda raw: replace(raw, probeGuess=_of_axes(*orientation, raw.probeGuess), path=None),
        whole=True,
    )


def propagated_probe(curvature: float) -> Change:
    """Return the probe brought along the beam: phase in radians at the middle of the edge of its spectrum."""

    def change(raw: RawData) -> RawData:
        size = raw.N
        square = (2 * np.fft.fftfreq(size)) ** 2
        phase = np.exp(1j * curvature * (square[:, None] + square))
        moved = np.fft.ifft2(np.fft.fft2(raw.probeGuess) * phase)
        return replace(raw, probeGuess=moved.astype(np.complex64), path=None)

    return Change(
        PROBE,
        'probe defocused',
        f'the probe is out of focus by {-curvature:.3g} rad at the edge of the patterns',
        change,
        whole=True,
    )


def orders(count: int) -> Iterator[Change]:
    """Yield ways in which `count` patterns and positions may be out of step."""
    everything = np.arange(count)
    yield _reordered(
        'order reversed', 'the positions are in reversed order', everything, everything[::-1].copy()
    )
    for shift in range(1, min(LARGEST_STEP, count // 4) + 1):
        for leading, name in ((True, 'patterns'), (False, 'positions')):
            long, short = everything[shift:], everything[:-shift]
            yield _reordered(
                f'{SHIFTED}{shift if leading else -shift}',
                f'patterns and positions are out of step: {_many(shift, name[:-1])} at the beginning '
                f'{"belongs" if shift == 1 else "belong"} to nothing',
                long if leading else short,
                short if leading else long,
            )


def shift_of(change: Change) -> int:
    """Return how many patterns are too many at the beginning, negative where positions are; 0 of others."""
    return int(change.key.removeprefix(SHIFTED)) if change.key.startswith(SHIFTED) else 0


def slipped(count: int, index: int, missing: int) -> Change:
    """Return that so many of `count` patterns are missing at an index, or too many where `missing` < 0."""
    everything, size = np.arange(count), abs(missing)
    long, short = everything[:-size], np.delete(everything, slice(index, index + size))
    patterns = _many(size, 'pattern') if size > 1 else 'a pattern'
    what = f'{patterns} {"is" if size == 1 else "are"} missing there'
    if missing < 0:
        what = f'there {"is" if size == 1 else "are"} {patterns} too many'
    return _reordered(
        f'order slipped by {-missing}',
        f'from pattern {index} on, counted from 0, patterns and positions are out of step by '
        f'{"one" if size == 1 else size}: {what}',
        long if missing > 0 else short,
        short if missing > 0 else long,
    )


def _reordered(key: str, sentence: str, pattern: Array, position: Array) -> Change:
    """Return that these patterns belong to these positions."""
    return Change(
        ORDER,
        key,
        sentence,
        lambda raw: replace(
            raw.select(pattern),
            xcoords=raw.xcoords[position],
            ycoords=raw.ycoords[position],
            xcoords_start=None,
            ycoords_start=None,
        ),
        whole=True,
    )


def _many(count: int, what: str) -> str:
    return f'{count} {what}{"" if abs(count) == 1 else "s"}'


def saturated_values(counts: float, most: int) -> Change:
    """Return that pixels of so many counts are saturated, in one pattern so many of them."""
    return Change(
        PIXELS,
        'saturation',
        f'the detector is saturated at {counts:.10g} counts, in up to {_many(most, "pixel")} of a pattern, '
        'and the file does not say so (saturation_counts in _metadata)',
        lambda raw: replace(raw, metadata={**raw.metadata, 'saturation_counts': counts}, path=None),
        whole=True,
    )


def bad_pixels(mask: npt.NDArray[np.bool_], dead: int, stuck: int) -> Change:
    """Return that more pixels, where a mask (N, N) is True, are bad; so many of them are dead, and stuck."""
    total = int(mask.sum())
    hot = total - dead - stuck
    places = np.argwhere(mask)
    where = '; '.join(f'row {row}, column {column}' for row, column in places[:SHOWN_PIXELS])
    where += f' and {total - SHOWN_PIXELS} more' if total > SHOWN_PIXELS else ''
    kinds = {'dead pixel': dead, 'stuck pixel': stuck, 'hot pixel': hot}
    parts = [_many(count, kind) for kind, count in kinds.items() if count]
    key = f'{max(kinds, key=kinds.__getitem__)}s'

    def change(raw: RawData) -> RawData:
        both = mask if raw.bad_pixels is None else raw.bad_pixels | mask
        return replace(raw, bad_pixels=both, path=None)

    verb = 'is' if total == 1 else 'are'
    return Change(PIXELS, key, f'{" and ".join(parts)} ({where}) {verb} not marked in bad_pixels', change)
