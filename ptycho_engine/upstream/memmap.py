"""Scans that stay in their files, whatever their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.npz import AxisOrder
from ..formats.npz_scan import read_npz_scan
from ..patterns.stack import Patterns
from ..scan.grouped import GroupedData
from ..scan.raw_data import RawData
from .containers import RawDataTorch

__all__ = ['MemmapDatasetBridge']


class MemmapDatasetBridge:
    """An NPZ scan whose patterns are read only where they are asked for.

    An uncompressed array is mapped where it lies in the NPZ file; a compressed one, or one in the legacy axis
    order, is staged once in a scratch file. Patterns may also lie in a file of their own beside the NPZ.

    Parameters
    ----------
    npz_path : Path
        NPZ file with ``probeGuess``, ``xcoords``, ``ycoords`` and, unless `patterns_path` is given, the
        patterns (DATA-001).
    patterns_path : Path, optional
        ``.npy`` file, or HDF5 file with a dataset ``diffraction`` or ``diff3d``, that holds the patterns.
    axis_order, domain, nphotons
        As for :meth:`RawData.from_file`.

    Raises
    ------
    DataFileNotFoundError, DataKeyError, DataValueError
        With a sentence that names the file, the key, what was found and what was expected.
    """

    def __init__(
        self,
        npz_path: Path | str,
        patterns_path: Path | str | None = None,
        *,
        axis_order: AxisOrder | None = None,
        domain: str | None = None,
        nphotons: float | None = None,
    ) -> None:
        self.path = Path(npz_path)
        fields = read_npz_scan(
            self.path,
            axis_order=axis_order,
            domain=domain,
            nphotons=nphotons,
            patterns_file=None if patterns_path is None else Path(patterns_path),
        )
        self._patterns: Patterns = fields['diffraction']
        self._raw_data = RawData(**fields)

    @property
    def raw_data(self) -> RawData:
        """The scan; its `diffraction` reads patterns where it is indexed."""
        return self._raw_data

    @property
    def diffraction(self) -> Patterns:
        """(n, N, N) float32 amplitudes, not in memory."""
        return self._patterns

    diff3d = diffraction

    @property
    def npz_path(self) -> Path:
        """The NPZ file."""
        return self.path

    @property
    def raw_data_torch(self) -> RawDataTorch:
        """The scan, whose groups come as a PyTorch container."""
        return RawDataTorch(self._raw_data)

    def __len__(self) -> int:
        return len(self._raw_data)

    def get_patterns(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Read the amplitudes (..., N, N) float32 of patterns by their indices (...)."""
        return self._patterns[np.asarray(indices)]

    def generate_grouped_data(
        self, N: int, K: int = 4, nsamples: int | None = None, gridsize: int = 1, **options: Any
    ) -> GroupedData:
        """Draw groups as :meth:`RawData.generate_grouped_data` does, with equal results for equal seeds.

        What is returned is in memory: the amplitudes of `nsamples` groups.
        """
        return self._raw_data.generate_grouped_data(N, K, nsamples, gridsize, **options)

    get_grouped_data = generate_grouped_data
