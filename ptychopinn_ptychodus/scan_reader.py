"""Our scans for Ptychodus' *Open File...*: patterns of ``diffraction.h5`` and NPZ files, and NPZ products."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ptychodus.api.diffraction import (
    DiffractionDataset,
    DiffractionDatasetLayoutNode,
    DiffractionFileReader,
    DiffractionMetadata,
    SimpleDiffractionArray,
    SimpleDiffractionDataset,
)
from ptychodus.api.geometry import ImageExtent, PixelGeometry
from ptychodus.api.product import Product, ProductFileReader

from .compat import energy_keyword

__all__ = ['ScanProductReader', 'ScanReader', 'with_product_reader', 'with_scan_reader']

NAME = 'PtychoPINN_Scan'


class ScanReader(DiffractionFileReader):
    """Reads counts, indexes, bad pixels, size of a detector pixel, and of NPZ files energy and distance."""

    def read(self, file_path: Path) -> DiffractionDataset:
        """Return the patterns of a file as counts.

        Raises
        ------
        EngineError
            With a sentence that says what is wrong with it.
        """
        # Late, for Ptychodus imports this module when it starts.
        from ptycho_engine.formats.diffraction_file import AssembledPatterns, read_diffraction_file
        from ptycho_engine.formats.product import is_hdf5_name
        from ptycho_engine.patterns.count_stack import CountStack
        from ptycho_engine.scan.product_exchange import product_of_rawdata
        from ptycho_engine.scan.raw_data import RawData
        from ptycho_engine.scan.scan import Scan
        from ptycho_engine.scan.written import detector_pixels

        energy = distance = 0.0
        if is_hdf5_name(file_path):
            scan = read_diffraction_file(file_path)
        else:
            raw = RawData.from_file(file_path)
            counts = CountStack(raw.diffraction)
            product = product_of_rawdata(raw)
            energy, distance = product.photon_energy_eV, product.detector_distance_m
            # Of a file that does not say its lengths a size would contradict those that the product has.
            pixel_m = detector_pixels(Scan(raw, product.grid, product)) or (0.0, 0.0)
            scan = AssembledPatterns(counts, np.arange(len(counts)), ~raw.valid, pixel_m[1], pixel_m[0])
        patterns = np.asarray(scan.counts[:])
        number, height, width = patterns.shape
        pixel = (scan.detector_pixel_width_m, scan.detector_pixel_height_m)
        metadata = DiffractionMetadata(
            num_patterns_per_array=[number],
            pattern_dtype=patterns.dtype,
            detector_extent=ImageExtent(width, height),
            detector_pixel_geometry=PixelGeometry(*pixel) if min(pixel) > 0 else None,
            file_path=file_path,
            detector_distance_m=distance or None,
            **energy_keyword(energy or None),
        )
        tree = DiffractionDatasetLayoutNode.create_root()
        tree.add_child(file_path.stem, type(patterns).__name__, f'{patterns.dtype}{patterns.shape}')
        array = SimpleDiffractionArray(file_path.stem, scan.indexes, patterns)
        return SimpleDiffractionDataset(metadata, tree, [array], bad_pixels=scan.bad_pixels)


class ScanProductReader(ProductFileReader):
    """Reads positions, probe and object of NPZ scans; the object is flat where the file has none."""

    def read(self, file_path: Path) -> Product:
        """Return the product of a scan, named after its file.

        Raises
        ------
        EngineError
            With a sentence that says what is wrong with it.
        """
        # Late, for Ptychodus imports this module when it starts.
        from ptychodus.plugins.h5_product_file import H5ProductFileIO

        from ptycho_engine.formats.product import write_product
        from ptycho_engine.scan.product_exchange import ExportMeta, product_of_rawdata
        from ptycho_engine.scan.raw_data import RawData

        data = product_of_rawdata(RawData.from_file(file_path), ExportMeta(name=file_path.stem))
        # By a file, for releases of Ptychodus differ in what a product consists of but all read one.
        with tempfile.TemporaryDirectory(prefix='ptychopinn-') as folder:
            path = Path(folder) / 'product.h5'
            write_product(path, data)
            product: Product = H5ProductFileIO().read(path)
        return product


def with_scan_reader(diffraction_core: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes Ptychodus' diffraction part, with the reader in its file dialog."""
    return _with(diffraction_core, 'file_reader_chooser', ScanReader(), '*.h5 *.npz')


def with_product_reader(product_core: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes Ptychodus' part of products, with the reader in its file dialog."""
    return _with(product_core, 'product_file_reader_chooser', ScanProductReader(), '*.npz')


def _with(core: Callable[..., Any], chooser: str, reader: object, patterns: str) -> Callable[..., Any]:
    def make(*arguments: Any, **keywords: Any) -> Any:
        given = inspect.signature(core).bind(*arguments, **keywords).arguments
        given[chooser].register_plugin(reader, simple_name=NAME, display_name=f'PtychoPINN Scan ({patterns})')
        return core(*arguments, **keywords)

    return make
