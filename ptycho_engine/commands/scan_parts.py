"""Patterns, positions and probes of a scan, each read from whatever file holds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..arrays import as_numbers
from ..errors import DataFileNotFoundError, DataValueError
from ..formats.cxi import is_cxi, read_cxi_object
from ..formats.diffraction_file import DIFFRACTION_KEYS, read_diffraction_file
from ..formats.measurement import Geometry, MeasuredPatterns, MeasuredPositions, MeasuredProbe
from ..formats.named_array import NamedArray, as_frames
from ..formats.npz import choose_pattern_key, read_arrays, read_headers
from ..formats.product import ProductData, is_hdf5_name, read_product
from ..formats.stack_files import open_npz_stack
from ..io.hdf5 import open_hdf5
from ..patterns.frame_stack import REAL, StoredStack
from ..physics.coherent import of_product
from ..physics.geometry import wavelength_m
from ..physics.probe import as_mode_stack
from ..scan.scan import DIFFRACTION_FILE, PRODUCT_FILE, is_ptychodus_directory
from .host import host_readers

__all__ = [
    'file_of',
    'geometry_of',
    'holds',
    'parts_of',
    'probe_of',
    'read_patterns',
    'read_probe',
    'scan_name',
    'with_geometry',
]


def parts_of(path: Path) -> tuple[MeasuredPatterns, MeasuredPositions, MeasuredProbe | None]:
    """Return the parts of a scan of ours, an NPZ file or a directory, whose patterns are not square."""
    if path.suffix.casefold() == '.npz':
        headers = read_headers(path)
        key = choose_pattern_key(headers, str(path))
        arrays = read_arrays(path, ('xcoords', 'ycoords'), ('probeGuess', 'bad_pixels'))
        x, y = arrays['xcoords'], arrays['ycoords']
        stack = open_npz_stack(path, key)
        bad = (
            None
            if 'bad_pixels' not in arrays
            else as_numbers(arrays['bad_pixels'], bool, f'{path}: bad_pixels')
        )
        probe = arrays.get('probeGuess')
        return (
            MeasuredPatterns(stack, np.arange(len(stack)), bad),
            MeasuredPositions(x, y, np.arange(len(x)), 'px'),
            None if probe is None else MeasuredProbe(as_mode_stack(probe, f'{path}: probeGuess')),
        )
    if not is_ptychodus_directory(path):
        raise DataValueError(f'{path}: --square is for NPZ files, Ptychodus directories and patterns alone.')
    product = read_product(path / PRODUCT_FILE)
    product.require_far_field(str(path))
    positions = MeasuredPositions(product.position_x_m, product.position_y_m, product.position_indexes)
    patterns = with_geometry(read_patterns(path / DIFFRACTION_FILE, None), geometry_of(product))
    return patterns, positions, probe_of(product)


def file_of(text: str) -> Path:
    """Return the file that an input names, which may go on with an array in it."""
    array = NamedArray.parse(text)
    return Path(text) if array is None else array.path


def scan_name(path: Path) -> str:
    """Return the name of a scan: that of its folder, or of its file without the ending."""
    file = file_of(str(path))
    if file.name in (DIFFRACTION_FILE, PRODUCT_FILE) and is_ptychodus_directory(file.parent):
        file = file.parent
    return file.resolve().name if file.is_dir() else file.stem


def with_geometry(patterns: MeasuredPatterns, geometry: Geometry, *, first: bool = False) -> MeasuredPatterns:
    """Return patterns with more known of the experiment; what is said `first` rules."""
    own = patterns.geometry
    return replace(patterns, geometry=geometry.or_else(own) if first else own.or_else(geometry))


def holds(path: Path, name: str) -> bool:
    """Return whether an HDF5 file has an item of that name."""
    with open_hdf5(path) as file:
        return name in file


def read_patterns(path: Path, reader: str | None, positions: Path | None = None) -> MeasuredPatterns:
    """Return patterns from an array, a file of ours, or by a reader of Ptychodus."""
    array = NamedArray.parse(path)
    if array is not None and reader is None:
        stack = as_frames(array.stack(REAL), str(array))
        return MeasuredPatterns(stack, np.arange(len(stack)))
    if reader is None and is_hdf5_name(path):
        with open_hdf5(path) as file:
            ours = all(key in file for key in DIFFRACTION_KEYS)
        if ours:
            found = read_diffraction_file(path)
            assert isinstance(found.counts, StoredStack)
            pixel = found.detector_pixel_width_m or None, found.detector_pixel_height_m or None
            return MeasuredPatterns(
                found.counts, found.indexes, found.bad_pixels, Geometry(None, None, *pixel), said='counts'
            )
    patterns: MeasuredPatterns = host_readers().read_patterns(path, reader, positions)
    return patterns


def geometry_of(product: ProductData) -> Geometry:
    """Return what a product says of the experiment.

    The detector's pixels follow from those of the object, of which a probe of N of them spans λz / p.
    """
    energy, distance = product.photon_energy_eV or None, product.detector_distance_m or None
    pixels = product.object_pixel_width_m, product.object_pixel_height_m
    if energy is None or distance is None or not min(pixels) > 0:
        return Geometry(energy, distance)
    far = wavelength_m(energy) * distance
    height, width = product.probe.shape[-2:]
    return Geometry(
        energy,
        distance,
        far / (width * pixels[0]),
        far / (height * pixels[1]),
    )


def probe_of(product: ProductData) -> MeasuredProbe:
    """Return the probe of a product with the size of its pixels, and how it varies over the positions."""
    height_m, width_m = product.probe_pixel_height_m, product.probe_pixel_width_m
    if height_m is None or width_m is None:
        height_m, width_m = product.object_pixel_height_m, product.object_pixel_width_m
    modes, coherent = of_product(product.probe, product.opr_weights, product.name)
    return MeasuredProbe(modes, (height_m, width_m), coherent)


def read_probe(text: str) -> MeasuredProbe:
    """Return a probe from an array, a product, an NPZ file, or by a reader of Ptychodus."""
    array = NamedArray.parse(text)
    path = file_of(text)
    if not path.is_file():
        raise DataFileNotFoundError(f'{path}: there is no such file, in which the probe is looked for.')
    if array is not None:
        return MeasuredProbe(as_mode_stack(array.read(), str(array)))
    if is_cxi(path) or (is_hdf5_name(path) and holds(path, 'probe_position_x_m')):
        product = (read_cxi_object if is_cxi(path) else read_product)(path)
        product.require_far_field(str(path))
        return probe_of(product)
    if path.suffix.casefold() == '.npz' and 'probeGuess' in read_headers(path):
        arrays = read_arrays(path, ('probeGuess',))
        return MeasuredProbe(as_mode_stack(arrays['probeGuess'], f'{path}: probeGuess'))
    probe: MeasuredProbe = host_readers().read_probe(path)
    return probe
