"""Scans that stay in their files, whatever their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..config.choices import AxisOrder
from ..config.inference import InferenceConfig
from ..config.training import TrainingConfig
from ..errors import DataValueError
from ..formats.npz_scan import read_npz_scan
from ..io.atomic import make_folder
from ..patterns.stack import Patterns
from ..scan.grouped import GroupedData
from ..scan.raw_data import RawData
from .containers import RawDataTorch
from .legacy import populate_legacy_params

__all__ = ['MemmapDatasetBridge']


class MemmapDatasetBridge:
    """An NPZ scan whose patterns are read only where they are asked for.

    An uncompressed array is mapped where it lies in the NPZ file; a compressed one, or one in the legacy axis
    order, is staged once in a scratch file. Patterns may also lie in a file of their own beside the NPZ.

    Its names are those of the original PtychoPINN; a bridge that is closed reads nothing any longer.

    Parameters
    ----------
    npz_path : Path
        NPZ file with ``probeGuess``, ``xcoords``, ``ycoords`` and, unless `patterns_path` is given, the
        patterns (DATA-001).
    config : TrainingConfig or InferenceConfig, optional
        Fills ``params.cfg`` (CONFIG-001), for callers who read that. A path in its place is `patterns_path`.
    memmap_dir : Path, optional
        Folder for the scratch file, made where it is missing; None for the temporary folder.
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
        config: TrainingConfig | InferenceConfig | Path | str | None = None,
        memmap_dir: Path | str | None = None,
        *,
        patterns_path: Path | str | None = None,
        axis_order: AxisOrder | None = None,
        domain: str | None = None,
        nphotons: float | None = None,
    ) -> None:
        self.npz_path = Path(npz_path)
        """The NPZ file."""
        if isinstance(config, Path | str):
            config, patterns_path = None, config
        self.config = config
        if config is not None:
            populate_legacy_params(config)
        folder = None if memmap_dir is None else Path(memmap_dir)
        if folder is not None:
            make_folder(folder)
        fields = read_npz_scan(
            self.npz_path,
            axis_order=axis_order,
            domain=domain,
            nphotons=nphotons,
            patterns_file=None if patterns_path is None else Path(patterns_path),
            folder=folder,
        )
        self._raw_data: RawData | None = RawData(**fields)

    @property
    def path(self) -> Path:
        """The NPZ file."""
        return self.npz_path

    def close(self) -> None:
        """Let go of files and of what was staged of them."""
        self._raw_data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def raw_data(self) -> RawData:
        """The scan; its `diffraction` reads patterns where it is indexed.

        Raises
        ------
        DataValueError
            If the bridge is closed.
        """
        if self._raw_data is None:
            raise DataValueError(f'{self.npz_path}: the bridge is closed; make another one.')
        return self._raw_data

    @property
    def diffraction(self) -> Patterns:
        """(n, N, N) float32 amplitudes, not in memory."""
        patterns = self.raw_data.diffraction
        assert isinstance(patterns, Patterns)
        return patterns

    @property
    def diff3d(self) -> Patterns:
        """The amplitudes under their legacy name."""
        return self.diffraction

    @property
    def raw_data_torch(self) -> RawDataTorch:
        """The scan, whose groups come as a PyTorch container."""
        return RawDataTorch(self.raw_data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(name)
        # probeGuess, objectGuess, xcoords, ycoords, scan_index and what else a scan has.
        return getattr(self.raw_data, name)

    def __len__(self) -> int:
        return len(self.raw_data)

    def __repr__(self) -> str:
        state = 'closed' if self._raw_data is None else f'{len(self)} patterns'
        return f'{type(self).__name__}({self.npz_path}, {state})'

    def get_patterns(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Read the amplitudes (..., N, N) float32 of patterns by their indices (...)."""
        return self.diffraction[np.asarray(indices)]

    def generate_grouped_data(
        self, N: int, K: int = 4, nsamples: int | None = None, gridsize: int = 1, **options: Any
    ) -> GroupedData:
        """Draw groups as :meth:`RawData.generate_grouped_data` does, with equal results for equal seeds.

        What is returned is in memory: the amplitudes of `nsamples` groups.
        """
        return self.raw_data.generate_grouped_data(N, K, nsamples, gridsize, **options)

    get_grouped_data = generate_grouped_data
