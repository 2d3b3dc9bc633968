"""Files of the Coherent X-ray Imaging Data Bank (CXI, version 1.6): scans, and results of reconstructions.

Names and meanings are those of F. Maia, *The Coherent X-ray Imaging Data Bank*, Nature Methods 9, 854 (2012),
and of the file format description 1.6. Probe, object and their lengths lie where Ptychodus 1.7 has them
(``image_1``, ``image_2`` and ``ptychodus``), so that either program reads the files of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from scipy import constants

from ..blocks import Frames, block_length, blocks
from ..errors import DataKeyError, DataValueError, EngineError
from ..formats.product import ProductData, is_hdf5_name
from ..formats.stack_files import hdf5_stack
from ..io.damage import reading
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.hdf5_writing import new_hdf5_file
from ..physics.coherent import of_product
from .measurement import Geometry, MeasuredPatterns, MeasuredPositions, MeasuredProbe
from .provenance import provenance_of_text

__all__ = [
    'holds_cxi_patterns',
    'is_cxi',
    'is_cxi_name',
    'read_cxi_object',
    'read_cxi_provenance',
    'read_cxi_scan',
    'write_cxi',
]

VERSION = 160
ENTRY = 'entry_1'
SOURCE, DETECTOR = f'{ENTRY}/instrument_1/source_1', f'{ENTRY}/instrument_1/detector_1'
DATA, GEOMETRY = f'{ENTRY}/data_1', f'{ENTRY}/sample_1/geometry_1'
PROBE, OBJECT, OWN = f'{ENTRY}/image_1', f'{ENTRY}/image_2', f'{ENTRY}/ptychodus'
PROCESS = f'{ENTRY}/process_1'
PATTERNS = (f'{DATA}/data', f'{DETECTOR}/data')
TRANSLATIONS = (f'{GEOMETRY}/translation', f'{DATA}/translation', f'{DETECTOR}/translation')
PROBES = (f'{PROBE}/data', f'{SOURCE}/illumination')

INVALID = 0x1
BAD = INVALID | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x80 | 0x200
"""Bits of a mask: invalid, saturated, hot, dead, shadowed, to be ignored, bad, missing."""

MOST_VALUES = 1 << 27


def is_cxi_name(path: Path) -> bool:
    """Return whether a file is CXI by its name."""
    return path.suffix.casefold() == '.cxi'


def is_cxi(path: Path) -> bool:
    """Return whether a file is CXI, by its name or by what is in it."""
    if is_cxi_name(path) or not (is_hdf5_name(path) and path.is_file()):
        return is_cxi_name(path)
    try:
        with open_hdf5(path) as file:
            return 'cxi_version' in file
    except EngineError:
        # What is wrong with it is said where it is read.
        return False


def holds_cxi_patterns(path: Path) -> bool:
    """Return whether a CXI file holds patterns."""
    with reading(f'{path} is not a readable CXI file'), open_hdf5(path) as file:
        return any(_holds(file, name) for name in PATTERNS)


def read_cxi_scan(path: Path) -> tuple[MeasuredPatterns, MeasuredPositions, MeasuredProbe | None]:
    """Read the patterns of a CXI file, their positions and, where there is one, the probe.

    Translations are taken for positions of the probe, as Ptychodus takes them; a file that means those of
    the sample holds a scan turned by 180 degrees, as ``ptychopinn doctor`` will say.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError
        If it is not HDF5, or patterns or translations are missing or do not fit.
    """
    with reading(f'{path} is not a readable CXI file'), open_hdf5(path) as file:
        counts = hdf5_stack(file, _present(file, PATTERNS, path, 'patterns'))
        if counts.ndim != 3:
            raise DataValueError(f'{counts.source} has shape {counts.shape}; expected patterns (n, h, w).')
        mask = _array(file, f'{DETECTOR}/mask')
        bad = None if mask is None else (np.asarray(mask).astype(np.int64) & BAD) != 0
        translation = _array(file, _present(file, TRANSLATIONS, path, 'positions'))
        indexes = _array(file, f'{OWN}/probe_position_indexes')
        geometry = _geometry(file)
        if geometry.object_pixels(*counts.shape[1:]) is None:
            # Of a scan that was converted this may be all that was known.
            size_m = _number(file, f'{OWN}/object_pixel_width_m')
            geometry = replace(geometry, object_pixel_m=size_m or None)
        probe_name = next((name for name in PROBES if name in file), None)
        probe = None if probe_name is None else _array(file, probe_name)
        pixels = tuple(_number(file, f'{OWN}/probe_pixel_{side}_m') for side in ('height', 'width'))
        weights = _array(file, f'{OWN}/opr_weights')
    assert translation is not None
    if translation.ndim != 2 or translation.shape[1] < 2:
        raise DataValueError(
            f'{path}: the translations have shape {translation.shape}; expected (n, 3), in metres.'
        )
    n = len(translation)
    positions = MeasuredPositions(
        translation[:, 0], translation[:, 1], np.arange(n) if indexes is None else indexes.astype(np.int64)
    )
    # Of a scan that is written for other programs every position belongs to a pattern.
    own = positions.indexes if n == len(counts) else np.arange(len(counts))
    patterns = MeasuredPatterns(counts, own, bad, geometry)
    return patterns, positions, _probe(probe, weights, pixels, str(path))


def read_cxi_object(path: Path) -> ProductData:
    """Read the result of a reconstruction from a CXI file, as a product.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError, ProductError
        If it holds none.
    """
    with reading(f'{path} is not a readable CXI file'), open_hdf5(path) as file:
        obj = _array(file, _present(file, (f'{OBJECT}/data',), path, 'the object'))
        probe = _array(file, _present(file, PROBES, path, 'the probe'))
        translation = _array(file, _present(file, TRANSLATIONS, path, 'positions'))
        assert obj is not None
        assert probe is not None
        assert translation is not None
        numbers = {name: _number(file, f'{OWN}/{name}') for name in _own_numbers()}
        geometry = _geometry(file)
        texts = {name: _text(file, f'{ENTRY}/{name}') for name in ('title', 'experiment_description')}
        indexes = _array(file, f'{OWN}/probe_position_indexes')
        weights = _array(file, f'{OWN}/opr_weights')
        size = _array(file, f'{OBJECT}/image_size')
    height, width = obj.shape[-2:]
    sizes = (None, None) if size is None else (float(size[0]) / width, float(size[1]) / height)
    for name, value in zip(('object_pixel_width_m', 'object_pixel_height_m'), sizes, strict=True):
        numbers[name] = numbers[name] or value or 0.0
    return ProductData(
        name=texts['title'] or path.stem,
        comments=texts['experiment_description'],
        detector_distance_m=geometry.detector_distance_m or 0.0,
        photon_energy_eV=geometry.photon_energy_eV or 0.0,
        object_array=obj,
        probe=probe,
        opr_weights=weights,
        position_x_m=translation[:, 0],
        position_y_m=translation[:, 1],
        position_indexes=np.arange(len(translation)) if indexes is None else indexes,
        **{name: value for name, value in numbers.items() if value is not None},  # type: ignore[arg-type]
    )


def read_cxi_provenance(path: Path) -> dict[str, Any] | None:
    """Return how a result of ours came about; None where a CXI file does not say."""
    with reading(f'{path} is not a readable CXI file'), open_hdf5(path) as file:
        return provenance_of_text(_text(file, f'{PROCESS}/provenance'))


def write_cxi(
    path: Path,
    product: ProductData,
    counts: Frames | None = None,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    detector_pixels_m: tuple[float, float] | None = None,
    *,
    program: Mapping[str, str],
) -> None:
    """Write probe, object and positions of a product, and the patterns of its scan, atomically.

    Parameters
    ----------
    counts : (n, N, N) numbers, optional
        Patterns at the positions of the product.
    bad_pixels : (N, N) bool, optional
    detector_pixels_m : (height, width), optional
        Of a pixel of the detector.
    program : mapping
        Texts for ``process_1``: ``program``, ``version`` and more.
    """
    with new_hdf5_file(path) as file:
        file['cxi_version'] = VERSION
        file['number_of_entries'] = 1
        entry = file.create_group(ENTRY)
        entry['title'] = product.name
        entry['experiment_description'] = product.comments
        entry['start_time'] = _now()
        _write_instrument(file, product, detector_pixels_m)
        if counts is not None:
            _write_patterns(file, counts, bad_pixels)
        n = len(product.position_x_m)
        file[f'{GEOMETRY}/translation'] = np.stack(
            [product.position_x_m, product.position_y_m, np.zeros(n)], axis=1
        )
        file[f'{ENTRY}/sample_1/name'] = product.name
        file.require_group(DATA)['translation'] = h5py.SoftLink(f'/{GEOMETRY}/translation')
        pixel = (product.object_pixel_height_m, product.object_pixel_width_m)
        probe_pixel = (product.probe_pixel_height_m or pixel[0], product.probe_pixel_width_m or pixel[1])
        _write_image(file, PROBE, product.probe, probe_pixel, 'coherent:incoherent:y:x')
        _write_image(file, OBJECT, product.object_array, pixel, 'layer:y:x')
        file[f'{SOURCE}/illumination'] = h5py.SoftLink(f'/{PROBE}/data')
        for name, text in {**program, 'date': _now()}.items():
            file[f'{PROCESS}/{name}'] = text
        _write_own(file, product, probe_pixel)


def _write_instrument(
    file: h5py.File, product: ProductData, detector_pixels_m: tuple[float, float] | None
) -> None:
    if product.photon_energy_eV > 0:
        file[f'{SOURCE}/energy'] = product.photon_energy_eV * constants.e
    detector = file.require_group(DETECTOR)
    if product.detector_distance_m > 0:
        detector['distance'] = product.detector_distance_m
    if detector_pixels_m is not None:
        detector['y_pixel_size'], detector['x_pixel_size'] = detector_pixels_m
    file.require_group(SOURCE)


def _write_patterns(file: h5py.File, counts: Frames, bad_pixels: npt.NDArray[np.bool_] | None) -> None:
    packed = {'chunks': (1, *counts.shape[1:]), 'compression': 'lzf', 'fletcher32': True}
    dataset = file.create_dataset(f'{DETECTOR}/data', counts.shape, counts.dtype, **packed)
    for part in blocks(len(counts), block_length(counts.shape[-1])):
        dataset[part] = counts[part]
    dataset.attrs['axes'] = 'experiment_identifier:y:x'
    file.require_group(DATA)['data'] = h5py.SoftLink(f'/{DETECTOR}/data')
    if bad_pixels is not None:
        file[f'{DETECTOR}/mask'] = np.where(bad_pixels, INVALID, 0).astype(np.uint32)


def _write_image(
    file: h5py.File,
    name: str,
    array: npt.NDArray[np.complexfloating[Any, Any]],
    pixel_m: tuple[float, float],
    axes: str,
) -> None:
    image = file.create_group(name)
    image['data'] = array
    image['data'].attrs['axes'] = axes
    image['data_type'] = 'amplitude'
    image['data_space'] = 'real'
    height, width = array.shape[-2:]
    image['image_size'] = np.array([width * pixel_m[1], height * pixel_m[0], 0.0])
    image['source_1'] = h5py.SoftLink(f'/{SOURCE}')
    image['detector_1'] = h5py.SoftLink(f'/{DETECTOR}')


def _own_numbers() -> dict[str, bool]:
    """Return the numbers that Ptychodus has names of its own for, and whether they are always written."""
    always = ('object_pixel_width_m', 'object_pixel_height_m', 'object_center_x_m', 'object_center_y_m')
    probe = ('probe_pixel_width_m', 'probe_pixel_height_m')
    seldom = ('probe_photon_count', 'exposure_time_s', 'mass_attenuation_m2_per_kg')
    return {
        **dict.fromkeys((*always, *probe, 'tomography_angle_deg'), True),
        **dict.fromkeys(seldom, False),
    }


def _write_own(file: h5py.File, product: ProductData, probe_pixel: tuple[float, float]) -> None:
    own = file.create_group(OWN)
    sized = replace(product, probe_pixel_height_m=probe_pixel[0], probe_pixel_width_m=probe_pixel[1])
    for name, always in _own_numbers().items():
        value = getattr(sized, name)
        if always or value:
            own[name] = value
    own['probe_position_indexes'] = product.position_indexes
    if product.opr_weights is not None:
        own['opr_weights'] = product.opr_weights
    if product.object_layer_spacing_m.size:
        own['object_layer_spacing_m'] = product.object_layer_spacing_m
    if product.loss_values.size:
        own['loss_epochs'], own['loss_values'] = product.loss_epochs, product.loss_values


def _geometry(file: Hdf5Group) -> Geometry:
    energy = _number(file, f'{SOURCE}/energy')
    wavelength = _number(file, f'{SOURCE}/wavelength')
    if energy:
        energy /= constants.e
    elif wavelength:
        energy = constants.h * constants.c / (wavelength * constants.e)
    height, width = (_number(file, f'{DETECTOR}/{axis}_pixel_size') for axis in 'yx')
    vectors = _array(file, f'{DETECTOR}/basis_vectors')
    if (height is None or width is None) and vectors is not None and vectors.shape[-2:] == (3, 2):
        first, second = np.linalg.norm(vectors.reshape(3, 2), axis=0)
        height, width = float(first), float(second)
    return Geometry(energy or None, _number(file, f'{DETECTOR}/distance') or None, width, height)


def _probe(
    array: npt.NDArray[Any] | None,
    weights: npt.NDArray[Any] | None,
    pixels_m: tuple[float | None, ...],
    source: str,
) -> MeasuredProbe | None:
    if array is None or array.ndim < 2:
        return None
    height_m, width_m = pixels_m
    known = None if height_m is None or width_m is None else (height_m, width_m)
    array = array.astype(np.complex64)
    if array.ndim == 4 and weights is not None and weights.shape[1:] == array.shape[:1]:
        modes, coherent = of_product(array, weights, source)
        return MeasuredProbe(modes, known, coherent)
    # Of modes (coherent, incoherent, h, w) the first coherent one with all its incoherent ones.
    while array.ndim > 3:
        array = array[0]
    return MeasuredProbe(array, known)


def _present(file: Hdf5Group, names: tuple[str, ...], path: Path, what: str) -> str:
    for name in names:
        if _holds(file, name):
            return name
    raise DataKeyError(f'{path} lacks {what}: expected {" or ".join(f"/{name}" for name in names)}.')


def _holds(file: Hdf5Group, name: str) -> bool:
    # A group on the way may not be there.
    with suppress(KeyError):
        return isinstance(file.get(name), h5py.Dataset)
    return False


def _array(file: Hdf5Group, name: str) -> npt.NDArray[Any] | None:
    with suppress(KeyError):
        item = file.get(name)
        if isinstance(item, h5py.Dataset):
            if item.size > MOST_VALUES or item.dtype.kind not in 'biufc':
                raise DataValueError(
                    f'{file.title(name)} is of type {item.dtype} and shape {item.shape}; expected at most '
                    f'{MOST_VALUES} numbers.'
                )
            return np.asarray(item[()])
    return None


def _number(file: Hdf5Group, name: str) -> float | None:
    found = _array(file, name)
    value = None if found is None or found.size != 1 else float(found.reshape(()))
    return value if value is not None and np.isfinite(value) else None


def _text(file: Hdf5Group, name: str) -> str:
    """Return a text of the file itself, of any length; '' where there is none."""
    group: Any = file.raw
    for part in name.split('/'):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            return ''
        group = group[part]
    if not isinstance(group, h5py.Dataset) or group.shape != () or group.dtype.kind not in 'SO':
        return ''
    value = group[()]
    return value.decode('utf-8', 'replace').rstrip('\0') if isinstance(value, bytes) else ''


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()
