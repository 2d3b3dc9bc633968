"""Compare reconstructions in files with a known object, and with the measured patterns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from ..arrays import as_column, as_numbers
from ..blocks import block_length, blocks
from ..errors import DataFileNotFoundError, DataValueError
from ..formats.cxi import is_cxi_name, read_cxi_object
from ..formats.npz import COHERENT, METADATA_CHARACTERS, parse_metadata, read_arrays
from ..formats.npz_scan import coherent_of_arrays
from ..formats.product import MOST_NUMBERS, is_hdf5_name, read_product
from ..physics.coherent import CoherentModes, of_product
from ..physics.geometry import ObjectGrid, place_patches
from ..physics.probe import as_mode_stack, relative_intensity
from ..scan.scan import Scan
from ..scoring.scores import Scores, scan_box, score
from ..whole_scan.scan_model import ScanModel
from ..whole_scan.stitch import Stitcher
from .fit import judge_fit

__all__ = ['Evaluation', 'ObjectFile', 'evaluate', 'object_on_grid', 'on_common_grid', 'read_object']

RESULTS = ('reconstruction.npz', 'product.h5')
TRUTHS = ('truth.h5', *RESULTS)
ACCOUNT = 'PtychoPINN '
"""How the line begins that a reconstruction adds to the comments."""

SAME_GRID = 0.5
"""Pixels that the larger object may drift against the other by pixels of another size."""

COVERED = 0.01
"""Illumination, relative to that of a well scanned pixel, from which on a pixel is covered."""


@dataclass(frozen=True)
class ObjectFile:
    """An object from a product or an NPZ file, with its scan as far as the file tells."""

    path: Path
    object_array: npt.NDArray[np.complex64]
    """(H, W)"""
    probe: npt.NDArray[np.complex64] | None = None
    """(P, N, N)"""
    x: npt.NDArray[np.float64] | None = None
    """(n,) columns of the positions."""
    y: npt.NDArray[np.float64] | None = None
    """(n,) rows of the positions."""
    losses: Sequence[dict[str, float]] = ()
    """Records of the training, as far as the file keeps them."""
    account: str = ''
    """What the reconstruction said of itself: fit, ring correlation, uncertainty and refinement."""
    intensity: npt.NDArray[np.float64] | None = None
    """(n,) relative intensity of the beam in each exposure, where calibration found it."""
    background: npt.NDArray[np.float64] | None = None
    """(N, N) counts per pixel beside the object's, where calibration found them."""
    bad_pixels: npt.NDArray[np.bool_] | None = None
    """(N, N) True where calibration left pixels out, or the scan did."""
    coherent: CoherentModes | None = None
    """How the probe varies over the positions; None where it does not."""
    grid: ObjectGrid | None = None
    """Where the object lies, in metres; None where the file does not say."""

    @property
    def name(self) -> str:
        """A short name: that of the file, or of its directory where the file has a usual name."""
        usual = self.path.name in TRUTHS and self.path.resolve().parent.name
        return usual or self.path.stem

    def box(self) -> tuple[slice, slice]:
        """Return (rows, columns) of the scanned region; all where there are no positions."""
        height, width = self.object_array.shape
        if self.x is None or self.y is None:
            return slice(0, height), slice(0, width)
        return scan_box(self.x, self.y, (height, width))


def read_object(path: Path | str, *, truth: bool = False) -> ObjectFile:
    """Read an object from a product, an NPZ file, or a directory that holds one.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        With a sentence that says what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        names = TRUTHS if truth else RESULTS
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise DataFileNotFoundError(f'{path} holds no object: expected {" or ".join(names)}.')
        path = found[0]
    if not path.is_file():
        raise DataFileNotFoundError(f'{path}: there is no such file; give a product or an NPZ file.')
    if is_hdf5_name(path) or is_cxi_name(path):
        product = read_cxi_object(path) if is_cxi_name(path) else read_product(path)
        at = product.positions_px()
        losses = _losses(product.loss_epochs, product.loss_values)
        obj = product.object_array[0].astype(np.complex64)
        probe, coherent = of_product(product.probe, product.opr_weights, str(path))
        return ObjectFile(
            *(path, obj, _modes(probe), *at, losses, _account(product.comments)),
            coherent=coherent,
            grid=product.grid,
        )
    most = {'xcoords': MOST_NUMBERS, 'ycoords': MOST_NUMBERS, 'intensity': MOST_NUMBERS}
    most['_metadata'] = METADATA_CHARACTERS
    optional = 'probeGuess', 'background', 'bad_pixels', *COHERENT, *most
    arrays = read_arrays(path, ('objectGuess',), optional, most)
    obj = as_numbers(arrays['objectGuess'], np.complex64, f'{path}: objectGuess')
    if obj.ndim != 2:
        raise DataValueError(f'{path}: objectGuess has shape {obj.shape}; expected (H, W).')
    known = {
        name: as_column(arrays[name], f'{path}: {name}') for name in ('xcoords', 'ycoords') if name in arrays
    }
    metadata = parse_metadata(arrays.get('_metadata'), str(path))
    epochs, values = metadata.get('loss_epochs', ()), metadata.get('loss_values', ())
    try:
        losses = _losses(epochs, values)
    except (TypeError, ValueError):
        raise DataValueError(
            f'{path}: _metadata says loss_epochs = {epochs!r} and loss_values = {values!r}; expected as many '
            'numbers of either.'
        ) from None
    return ObjectFile(
        path,
        obj,
        _modes(arrays.get('probeGuess')),
        known.get('xcoords'),
        known.get('ycoords'),
        losses,
        _account(str(metadata.get('comments', ''))),
        **_calibrated(arrays, path),
        coherent=coherent_of_arrays(arrays, str(path)),
        grid=_grid(metadata, obj.shape),
    )


def _grid(metadata: dict[str, Any], shape: tuple[int, ...]) -> ObjectGrid | None:
    """Return where an object lies, as far as the metadata of an NPZ file say."""
    names = ('object_pixel_size_m', 'object_center_x_m', 'object_center_y_m')
    values = [metadata.get(name) for name in names]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    pixel, x, y = (float(value) for value in values if value is not None)
    if not pixel > 0:
        return None
    height, width = shape[-2:]
    return ObjectGrid(height, width, 0.0, 0.0, pixel, pixel, x, y)


def on_common_grid(first: ObjectFile, second: ObjectFile) -> tuple[ObjectFile, ObjectFile]:
    """Return two objects cut to the region that both cover, to whole pixels.

    Objects of one shape are taken as they are, whatever their files say of where they lie.

    Raises
    ------
    DataValueError
        If they are of other shapes and it is not known where they lie, or their pixels differ, or they do not
        overlap.
    """
    shapes = first.object_array.shape, second.object_array.shape
    if shapes[0] == shapes[1]:
        return first, second
    one, other = first.grid, second.grid
    if one is None or other is None:
        raise DataValueError(
            f'{second.path} has an object of {_size(shapes[1])} pixels but {first.path} one of '
            f'{_size(shapes[0])}, and nothing says where they lie; compare objects on the same grid.'
        )
    offsets = []
    for axis in (0, 1):
        size = one.pixels_m[axis]
        if abs(other.pixels_m[axis] / size - 1) * max(shapes[1][axis], 1) > SAME_GRID:
            raise DataValueError(
                f'{second.path} has pixels of {other.pixels_m[axis]:.6g} m but {first.path} of {size:.6g} m; '
                'compare objects of the same pixels.'
            )
        begin = (other.centre_m[axis] - one.centre_m[axis]) / size
        offsets.append(round(begin - (shapes[1][axis] - 1) / 2 + (shapes[0][axis] - 1) / 2))
    starts = [max(offset, 0) for offset in offsets]
    stops = [min(shapes[0][axis], shapes[1][axis] + offset) for axis, offset in enumerate(offsets)]
    if any(stop - start < 1 for start, stop in zip(starts, stops, strict=True)):
        raise DataValueError(
            f'{second.path} and {first.path} lie apart from each other; are they of one scan?'
        )
    inner = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
    moved = [
        slice(start - offset, stop - offset)
        for start, stop, offset in zip(starts, stops, offsets, strict=True)
    ]
    return _cut(first, inner[0], inner[1]), _cut(second, moved[0], moved[1])


def object_on_grid(file: ObjectFile, grid: ObjectGrid) -> npt.NDArray[np.complex64]:
    """Return an object on the pixels (H, W) of another grid; beyond its edge it is continued.

    An object of that shape is taken as it is, whatever its file says of where it lies.

    Raises
    ------
    DataValueError
        If it is of another shape and it is not known where one of the two lies.
    """
    own = file.grid
    if file.object_array.shape == grid.shape:
        return file.object_array
    if own is None or not np.isfinite([*own.pixels_m, *grid.pixels_m]).all():
        raise DataValueError(
            f'{file.path} has an object of {_size(file.object_array.shape)} pixels, but that of the scan has '
            f'{_size(grid.shape)}, and nothing says where they lie; give one of that size, or with its pixel '
            'size and centre.'
        )
    places = []
    for axis, size in enumerate(grid.shape):
        metres = (np.arange(size) - (size - 1) / 2) * grid.pixels_m[axis] + grid.centre_m[axis]
        middle = (file.object_array.shape[axis] - 1) / 2
        places.append((metres - own.centre_m[axis]) / own.pixels_m[axis] + middle)
    where = np.meshgrid(*places, indexing='ij')
    parts = [
        map_coordinates(part, where, order=1, mode='nearest')
        for part in (file.object_array.real, file.object_array.imag)
    ]
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)


def _size(shape: tuple[int, ...]) -> str:
    return '×'.join(map(str, shape))


def _cut(file: ObjectFile, rows: slice, columns: slice) -> ObjectFile:
    """Return a part of an object; its positions count from there."""
    return replace(
        file,
        object_array=file.object_array[rows, columns],
        x=None if file.x is None else file.x - columns.start,
        y=None if file.y is None else file.y - rows.start,
        grid=None,
    )


def _calibrated(arrays: dict[str, npt.NDArray[Any]], path: Path) -> dict[str, Any]:
    """Return what a calibration has found of exposures and detector; what does not fit the probe or the
    positions is of another program."""
    modes, x = arrays.get('probeGuess'), arrays.get('xcoords')
    image = None if modes is None else modes.shape[-2:]
    expected = {
        'intensity': (np.float64, None if x is None else (x.size,)),
        'background': (np.float64, image),
        'bad_pixels': (bool, image),
    }
    found: dict[str, Any] = {}
    for name, (dtype, shape) in expected.items():
        if name in arrays:
            values = as_numbers(arrays[name], dtype, f'{path}: {name}')
            if values.shape == shape and np.isfinite(values).all():
                found[name] = values
    return found


def _losses(epochs: Iterable[Any], values: Iterable[Any]) -> list[dict[str, float]]:
    return [
        {'epoch': float(epoch), 'training_loss': float(value)}
        for epoch, value in zip(epochs, values, strict=True)
    ]


def _account(comments: str) -> str:
    """Return the last line of comments that a reconstruction of ours has written."""
    lines = [line for line in comments.splitlines() if line.startswith(ACCOUNT)]
    return lines[-1] if lines else ''


def _modes(probe: npt.NDArray[Any] | None) -> npt.NDArray[np.complex64] | None:
    return None if probe is None or not np.any(probe) else as_mode_stack(probe)


@dataclass(frozen=True)
class Evaluation:
    """What one reconstruction is worth."""

    name: str
    path: Path
    scores: Scores
    deviance: float | None
    """Poisson deviance per pixel of the measured patterns, about 1 at the noise; None without patterns."""
    coverage: float | None
    """Part of the scored region that was well illuminated; None where probe or positions are unknown."""
    account: str
    """What the reconstruction said of itself."""

    def to_row(self) -> dict[str, Any]:
        """Return one flat row for a table."""
        return {
            'name': self.name,
            'path': str(self.path),
            **asdict(self.scores),
            'deviance': self.deviance,
            'coverage': self.coverage,
            'account': self.account,
        }


def evaluate(result: ObjectFile, truth: ObjectFile, scan: Scan | None = None) -> Evaluation:
    """Score a result inside the scanned region; with a scan, against its patterns too.

    Raises
    ------
    DataValueError
        If result, truth and scan are not on one grid.
    """
    whole = result
    truth, result = on_common_grid(truth, result)
    box = result.box() if result.x is not None else truth.box()
    return Evaluation(
        name=result.name,
        path=result.path,
        scores=score(truth.object_array, result.object_array, box),
        deviance=None if scan is None else _deviance(whole, scan),
        coverage=_coverage(result, box),
        account=result.account,
    )


def _deviance(result: ObjectFile, scan: Scan) -> float:
    if scan.grid.shape != result.object_array.shape:
        raise DataValueError(
            f'{result.path} has an object of shape {result.object_array.shape}, but the grid of '
            f'{scan.raw.source} is {scan.grid.shape}; give the scan that the result was made from.'
        )
    prepared = ScanModel(_as_found(scan, result), intensity=result.intensity, background=result.background)
    return judge_fit(prepared, result.object_array).deviance


def _as_found(scan: Scan, result: ObjectFile) -> Scan:
    """Return the scan with the probe and the positions that belong to the result: both may be refined."""
    raw = scan.raw
    if result.probe is not None and result.probe.shape[-1] == raw.N:
        fits = result.coherent is not None and len(result.coherent.weights) == len(raw)
        raw = replace(raw, probeGuess=result.probe, coherent=result.coherent if fits else None)
    if result.bad_pixels is not None:
        raw = replace(raw, bad_pixels=result.bad_pixels)
    if result.x is not None and result.y is not None and len(result.x) == len(raw):
        raw = replace(raw, xcoords=result.x + scan.grid.origin_x, ycoords=result.y + scan.grid.origin_y)
    return replace(scan, raw=raw)


def _coverage(result: ObjectFile, box: tuple[slice, slice]) -> float | None:
    if result.probe is None or result.x is None or result.y is None:
        return None
    size = result.probe.shape[-1]
    intensity: npt.NDArray[Any] = relative_intensity(result.probe)
    corner = place_patches(result.x, result.y, size).corner
    stitcher = Stitcher(result.object_array.shape)
    for part in blocks(len(corner), block_length(size)):
        weight = np.broadcast_to(intensity, (len(corner[part]), size, size))
        stitcher.add(weight, weight, corner[part])
    inside = stitcher.weight[box]
    return float((inside >= COVERED * np.percentile(inside, 90)).mean())
