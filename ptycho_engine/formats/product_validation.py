"""Every way in which a product file breaks the product contract, found in one go (PRODUCT-2x)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DataFileNotFoundError, EngineError
from ..io.damage import DAMAGE
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.text import is_utf8
from ..printable import printable
from .product import (
    ATTENUATION,
    BUNDLE,
    ENERGY,
    LAYER_SPACING,
    LOSSES,
    MOST_NUMBERS,
    OPTIONAL_NUMBERS,
    TEXTS,
    read_product,
)
from .product_text import read_text

__all__ = ['ProductSummary', 'Verdict', 'find_violations']

INDEX_LIMIT = 2**31
POSITIONS = ('probe_position_indexes', 'probe_position_x_m', 'probe_position_y_m')
PIXEL_SIZES = ('pixel_width_m', 'pixel_height_m')
CENTER = ('center_x_m', 'center_y_m')
SHOWN = 80
"""Characters of a text that a sentence quotes."""
BLOCK_ROWS = 256
"""Rows of an image that are looked at in one go, so that a large object is never in memory whole."""
OUTSIDE_PX = 1.0
"""How far a position may lie outside the object; releases before 1.6 count pixels half a pixel off."""


@dataclass(frozen=True)
class ProductSummary:
    """What a product file holds, as far as it can be told; None where it cannot."""

    name: str | None = None
    n_scan: int | None = None
    """Number of probe positions."""
    probe_shape: tuple[int, ...] | None = None
    object_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What :func:`find_violations` found."""

    summary: ProductSummary
    violations: tuple[str, ...]
    """One sentence for each rule that is broken; none for a valid product."""
    warnings: tuple[str, ...] = ()
    """What no rule forbids, but another program may stumble over."""


def find_violations(path: Path | str) -> Verdict:
    """Check a product file against every rule of the contract and report all that are broken.

    Parameters
    ----------
    path : Path
        The file; it is read in blocks, so that large products need little memory.

    Raises
    ------
    DataFileNotFoundError
        If there is nothing at `path`.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileNotFoundError(f'{path}: there is no such file; give the path of a product file.')
    if path.is_dir():
        return Verdict(ProductSummary(), ('this is a directory; expected a product file (HDF5)',))
    checks: _Checks | None = None
    found: list[str] = []
    warnings: list[str] = []
    try:
        with open_hdf5(path) as file:
            checks = _Checks(file)
            found.extend(checks.all())
            warnings.extend(checks.warnings())
    except EngineError as error:
        found.append(str(error))
    except DAMAGE as error:
        found.append(f'the file is not readable HDF5, or is truncated: {error}')
    if not found:
        # The reader has the last word: what it refuses is never called valid.
        try:
            read_product(path, extras=False)
        except EngineError as error:
            found.append(str(error).removeprefix(f'{path}: '))
    return Verdict(ProductSummary() if checks is None else checks.summary, tuple(found), tuple(warnings))


class _Checks:
    """The rules, applied to an open file."""

    def __init__(self, file: Hdf5Group) -> None:
        self.file = file
        self.obj = self._dataset('object')
        self.probe = self._dataset('probe')
        self.n: int | None = None
        indexes = self._dataset(POSITIONS[0])
        if indexes is not None and indexes.ndim == 1:
            self.n = int(indexes.shape[0])
        self.summary = ProductSummary(
            name=printable(read_text(file, 'name')) if 'name' in file.attrs else None,
            n_scan=self.n,
            probe_shape=None if self.probe is None else tuple(self.probe.shape),
            object_shape=None if self.obj is None else tuple(self.obj.shape),
        )

    def all(self) -> Iterator[str]:
        """Yield one sentence for each violation."""
        yield from self._root()
        yield from self._image('object', self.obj, dimensions=(2, 3))
        yield from self._image('probe', self.probe, dimensions=(2, 3, 4))
        if self.probe is not None and self.probe.ndim >= 2 and self.probe.shape[-1] != self.probe.shape[-2]:
            yield f'probe has shape {self.probe.shape}; expected square modes'
        yield from self._attributes('object', self.obj, PIXEL_SIZES, required=True, positive=True)
        yield from self._attributes('object', self.obj, CENTER, required=True, positive=False)
        yield from self._attributes('probe', self.probe, PIXEL_SIZES, required=False, positive=True)
        yield from self._layers()
        yield from self._positions()
        yield from self._weights()
        yield from self._losses()
        yield from self._bundle()

    def warnings(self) -> Iterator[str]:
        """Yield one sentence for each text that Ptychodus cannot show or save as it is."""
        for name in TEXTS:
            text = read_text(self.file, name)
            if not is_utf8(text) or '\0' in text:
                yield (
                    f'the attribute {name} is not UTF-8 text (shown as {printable(text, SHOWN)}); its bytes '
                    'are kept when the product is written again, but Ptychodus may be unable to save it'
                )

    def _dataset(self, name: str) -> Any | None:
        item = self.file.get(name)
        return item if isinstance(item, h5py.Dataset) else None

    def _root(self) -> Iterator[str]:
        attributes = self.file.attrs
        if 'detector_object_distance_m' not in attributes:
            yield 'the attribute detector_object_distance_m is missing'
        if not any(name in attributes for name in ENERGY):
            yield f'the attribute {" (or ".join(ENERGY)}) is missing'
        numbers = ('detector_object_distance_m', *ENERGY, *ATTENUATION, *OPTIONAL_NUMBERS)
        for name in numbers:
            if name in attributes:
                value = _number(attributes[name])
                if value is None:
                    yield f'the attribute {name} is {attributes[name]!r}; expected a finite number'
                elif value < 0 and name not in (
                    'tomography_angle_deg',
                    'tilt_angle_deg',
                    'focus_object_distance_m',
                ):
                    yield f'the attribute {name} is {value:g}; expected no less than 0'
        energies = {_number(attributes[name]) for name in ENERGY if name in attributes}
        if len(energies) > 1:
            yield f'{" and ".join(ENERGY)} differ; they are two names of one number'
        for name in ('name', 'comments'):
            if name in attributes and not isinstance(attributes[name], str | bytes | h5py.Empty):
                yield f'the attribute {name} is of type {type(attributes[name]).__name__}; expected text'

    def _image(self, name: str, dataset: Any, dimensions: tuple[int, ...]) -> Iterator[str]:
        if dataset is None:
            yield self._missing(name)
            return
        if dataset.dtype.kind != 'c':
            yield f'{name} is of type {dataset.dtype}; expected complex numbers'
        if dataset.ndim not in dimensions:
            yield f'{name} has shape {dataset.shape}; expected {" or ".join(map(str, dimensions))} dimensions'
            return
        if 0 in dataset.shape:
            yield f'{name} has shape {dataset.shape}, which holds nothing'
        elif dataset.dtype.kind in 'fc':
            yield from self._finite(name, dataset)

    def _missing(self, name: str) -> str:
        if name in self.file:
            return f'{name} is not a dataset'
        return f'the dataset {name} is missing'

    @staticmethod
    def _finite(name: str, dataset: Any) -> Iterator[str]:
        try:
            for image in np.ndindex(dataset.shape[:-2]):
                for row in range(0, dataset.shape[-2], BLOCK_ROWS):
                    if not np.isfinite(dataset[(*image, slice(row, row + BLOCK_ROWS))]).all():
                        yield f'{name} holds NaN or infinite values'
                        return
        except DAMAGE as error:
            yield f'{name} cannot be read: {error}'

    def _attributes(
        self, owner: str, dataset: Any, names: tuple[str, ...], *, required: bool, positive: bool
    ) -> Iterator[str]:
        for name in names if dataset is not None else ():
            attributes = self.file.attributes_of(owner)
            if name not in attributes:
                if required:
                    yield f'the attribute {name} of {owner} is missing'
                continue
            value = _number(attributes[name])
            if value is None or (positive and not value > 0):
                expected = 'a positive length in metres' if positive else 'a finite number of metres'
                yield f'the attribute {name} of {owner} is {attributes[name]!r}; expected {expected}'

    def _layers(self) -> Iterator[str]:
        if self.obj is None or self.obj.ndim not in (2, 3):
            return
        layers = self.obj.shape[0] if self.obj.ndim == 3 else 1
        name = next((n for n in LAYER_SPACING if n in self.file), None)
        if name is None:
            if layers > 1:
                yield f'{LAYER_SPACING[0]} is missing although the object has {layers} layers'
            return
        values = yield from self._numbers(name, 1)
        # The oldest files give each layer a distance, the last being infinite.
        lengths = {layers - 1} if name == LAYER_SPACING[0] else {layers - 1, layers}
        if values is None:
            return
        if len(values) not in lengths:
            yield f'{name} has {len(values)} entries; expected {layers - 1} for an object of {layers} layers'
        if not np.isfinite(values[: layers - 1]).all():
            yield f'{name} holds NaN or infinite values'

    def _numbers(self, name: str, dimensions: int) -> Any:
        """Yield what is wrong with a dataset of real numbers and return its values, or None."""
        dataset = self._dataset(name)
        if dataset is None:
            yield self._missing(name)
            return None
        if dataset.dtype.kind not in 'iuf':
            yield f'{name} is of type {dataset.dtype}; expected real numbers'
            return None
        if dataset.ndim != dimensions:
            yield f'{name} has shape {dataset.shape}; expected {dimensions} dimension{"s"[: dimensions - 1]}'
            return None
        if dataset.size > MOST_NUMBERS:
            yield f'{name} has shape {dataset.shape}; no scan has so many positions'
            return None
        try:
            return dataset[()]
        except DAMAGE as error:
            yield f'{name} cannot be read: {error}'
            return None

    def _positions(self) -> Iterator[str]:
        values = {}
        for name in POSITIONS:
            values[name] = yield from self._numbers(name, 1)
            if values[name] is not None and not np.isfinite(values[name]).all():
                yield f'{name} holds NaN or infinite values'
        lengths = {name: len(v) for name, v in values.items() if v is not None}
        if len(set(lengths.values())) > 1:
            yield f'lengths differ: {", ".join(f"{k} has {v}" for k, v in lengths.items())} entries'
        indexes = values[POSITIONS[0]]
        if indexes is not None:
            if len(indexes) == 0:
                yield 'there are no probe positions'
            elif indexes.dtype.kind not in 'iu':
                yield f'{POSITIONS[0]} is of type {indexes.dtype}; expected integers'
            elif indexes.min() < 0 or indexes.max() >= INDEX_LIMIT:
                yield (
                    f'{POSITIONS[0]} reaches from {indexes.min()} to {indexes.max()}; expected 0 to '
                    f'{INDEX_LIMIT - 1}'
                )
        for axis, name in (('width', POSITIONS[1]), ('height', POSITIONS[2])):
            yield from self._inside(axis, name, values[name])
        if 'probe_photon_counts' in self.file:
            counts = yield from self._numbers('probe_photon_counts', 1)
            if counts is not None:
                if self.n is not None and len(counts) != self.n:
                    yield f'probe_photon_counts has {len(counts)} entries; expected {self.n}'
                if not np.isfinite(counts).all() or (counts < 0).any():
                    yield 'probe_photon_counts holds values that are negative or not finite'

    def _inside(self, axis: str, name: str, metres: Any) -> Iterator[str]:
        """Check that positions fall on the object; where size or centre are wrong that is said already."""
        if metres is None or len(metres) == 0 or self.obj is None or self.obj.ndim not in (2, 3):
            return
        attributes = self.file.attributes_of('object')
        pixel = _number(attributes.get(f'pixel_{axis}_m'))
        center = _number(attributes.get('center_x_m' if axis == 'width' else 'center_y_m'))
        if pixel is None or center is None or pixel <= 0 or not np.isfinite(metres).all():
            return
        size = self.obj.shape[-1 if axis == 'width' else -2]
        pixels = (metres - center) / pixel + (size - 1) / 2
        outside = np.count_nonzero((pixels < -0.5 - OUTSIDE_PX) | (pixels > size - 0.5 + OUTSIDE_PX))
        if outside:
            yield (
                f'{outside} of {len(metres)} values of {name} lie outside the object, whose {axis} is {size} '
                f'pixels (found {pixels.min():.6g} to {pixels.max():.6g})'
            )

    def _weights(self) -> Iterator[str]:
        if 'opr_weights' not in self.file or self.probe is None:
            return
        weights = yield from self._numbers('opr_weights', 2)
        modes = self.probe.shape[0] if self.probe.ndim == 4 else 1
        if weights is not None:
            if weights.dtype.kind != 'f':
                yield f'opr_weights is of type {weights.dtype}; expected floating-point numbers'
            elif not np.isfinite(weights).all():
                yield 'opr_weights holds NaN or infinite values'
            if weights.shape[1] != modes or (self.n is not None and weights.shape[0] != self.n):
                yield (
                    f'opr_weights has shape {weights.shape}; expected ({self.n}, {modes}), one for each '
                    'position and coherent mode'
                )

    def _losses(self) -> Iterator[str]:
        name = next((n for n in LOSSES if n in self.file), None)
        values = None if name is None else (yield from self._numbers(name, 1))
        if 'loss_epochs' not in self.file:
            return
        epochs = yield from self._numbers('loss_epochs', 1)
        if name is None:
            yield f'loss_epochs is there but {LOSSES[0]} is missing'
        elif values is not None and epochs is not None and len(values) != len(epochs):
            yield f'lengths differ: loss_epochs has {len(epochs)}, {name} has {len(values)} entries'

    def _bundle(self) -> Iterator[str]:
        group = self.file.get(BUNDLE)
        if not isinstance(group, Hdf5Group):
            return
        patterns = group.get('diffraction')
        if not isinstance(patterns, h5py.Dataset) or patterns.ndim != 3:
            yield f'/{BUNDLE} lacks a dataset diffraction of 3 dimensions'
        elif self.n is not None and self.n not in (patterns.shape[0], patterns.shape[2]):
            yield f'/{BUNDLE}/diffraction has shape {patterns.shape}; expected {self.n} patterns'


def _number(value: Any) -> float | None:
    """Return an attribute as a finite number, or None if it is none."""
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
