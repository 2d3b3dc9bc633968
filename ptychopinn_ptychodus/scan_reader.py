"""Our scans for Ptychodus' *Open File...* of diffraction data: ``diffraction.h5`` and NPZ files."""

from __future__ import annotations

import inspect
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

from .compat import energy_keyword

__all__ = ['ScanReader', 'with_scan_reader']


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


def with_scan_reader(diffraction_core: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes Ptychodus' diffraction part, with the reader in its file dialog."""

    def make(*arguments: Any, **keywords: Any) -> Any:
        given = inspect.signature(diffraction_core).bind(*arguments, **keywords).arguments
        given['file_reader_chooser'].register_plugin(
            ScanReader(),
            simple_name='PtychoPINN_Scan',
            display_name='PtychoPINN Scan (*.h5 *.npz)',
        )
        return diffraction_core(*arguments, **keywords)

    return make
