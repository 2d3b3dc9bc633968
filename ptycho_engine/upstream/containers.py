"""Containers: the arrays that a network trains on, as the tensors of a framework where there is one."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ..config.inference import InferenceConfig
from ..config.training import TrainingConfig
from ..errors import DataValueError
from ..physics.probe import as_mode_stack
from ..scan.grouped import GroupedData
from ..scan.raw_data import RawData
from .legacy import populate_legacy_params

__all__ = ['ContainerArrays', 'PtychoDataContainer', 'PtychoDataContainerTorch', 'RawDataTorch']


@dataclass(frozen=True)
class ContainerArrays:
    """B groups of C patterns as NumPy arrays; coordinates are [x, y] along axis 2, in object pixels."""

    X: npt.NDArray[np.float32]
    """(B, N, N, C) float32 normalised amplitude, the network input."""
    Y: npt.NDArray[np.complex64]
    """(B, N, N, C) complex64 known object patches; ones where no object is known."""
    Y_I: npt.NDArray[np.float32]
    """(B, N, N, C) float32 amplitude of Y."""
    Y_phi: npt.NDArray[np.float32]
    """(B, N, N, C) float32 phase of Y in radians."""
    coords_nominal: npt.NDArray[np.float32]
    """(B, 1, 2, C) float32 minus the planned positions relative to their mean."""
    coords_true: npt.NDArray[np.float32]
    """(B, 1, 2, C) float32 minus the measured positions relative to their mean."""
    local_offsets: npt.NDArray[np.float64]
    """(B, 1, 2, C) float64 as coords_true."""
    global_offsets: npt.NDArray[np.float64]
    """(B, 1, 2, 1) float64 mean position of each group."""
    nn_indices: npt.NDArray[np.int32]
    """(B, C) int32 indices of the patterns in the scan."""
    probe: npt.NDArray[np.complex64]
    """(N, N) complex64 probe; (P, N, N) with several incoherent modes."""
    norm_Y_I: float
    """Factor from X to measured amplitudes, the square root of mean counts over N/2."""
    YY_full: npt.NDArray[np.complex64] | None
    """(H, W) complex64 known object; None where there is none."""

    @property
    def coords(self) -> npt.NDArray[np.float32]:
        """The nominal coordinates."""
        return self.coords_nominal

    @property
    def probeGuess(self) -> npt.NDArray[np.complex64]:
        """The probe under its name in files."""
        return self.probe

    @classmethod
    def from_grouped(cls, grouped: GroupedData, probe: npt.NDArray[np.complex64]) -> Self:
        """Arrange a grouped dictionary and the probe (P, N, N)."""
        patches = grouped['Y']
        if patches is None:
            patches = np.ones(grouped['X_full'].shape, np.complex64)
        return cls(
            X=grouped['X_full'],
            Y=patches,
            Y_I=np.abs(patches),
            Y_phi=np.angle(patches),
            coords_nominal=grouped['coords_start_relative'].astype(np.float32),
            coords_true=grouped['coords_relative'].astype(np.float32),
            local_offsets=grouped['coords_relative'],
            global_offsets=grouped['coords_offsets'],
            nn_indices=grouped['nn_indices'],
            probe=probe[0] if len(probe) == 1 else probe,
            norm_Y_I=_norm(grouped),
            YY_full=grouped['objectGuess'],
        )


def _norm(grouped: GroupedData) -> float:
    """Return the factor from normalised to measured amplitudes, read off the brightest pixel."""
    measured, normalised = grouped['diffraction'], grouped['X_full']
    brightest = int(measured.argmax())
    return float(measured.flat[brightest] / normalised.flat[brightest])


NUMBERS = ('norm_Y_I',)
NAMES = tuple(
    name
    for name in (*(field.name for field in fields(ContainerArrays)), 'coords', 'probeGuess')
    if name not in NUMBERS
)
"""Attributes that are arrays or tensors."""


class PtychoDataContainer:
    """Groups of a scan as TensorFlow tensors, or as NumPy arrays where TensorFlow is not installed.

    The attributes are those of :class:`ContainerArrays`, with the same shapes and types. Each becomes a
    tensor when it is first asked for, and stays one.

    Parameters
    ----------
    arrays : ContainerArrays or GroupedData
        The groups.
    probe : (N, N) or (P, N, N) complex64, optional
        With what `RawData.generate_grouped_data` returned: the probe.
    """

    framework: ClassVar[str] = 'tensorflow'
    """Package whose tensors the attributes are."""
    _converter: ClassVar[str] = 'ptycho_engine.backends.tensorflow.operations'

    X: Any
    Y: Any
    Y_I: Any
    Y_phi: Any
    coords_nominal: Any
    coords_true: Any
    local_offsets: Any
    global_offsets: Any
    nn_indices: Any
    probe: Any
    norm_Y_I: Any
    YY_full: Any
    coords: Any
    probeGuess: Any

    def __init__(
        self, arrays: ContainerArrays | GroupedData, probe: npt.NDArray[np.complex64] | None = None
    ) -> None:
        if not isinstance(arrays, ContainerArrays):
            if probe is None:
                raise DataValueError('A container of groups needs the probe; give it after them.')
            arrays = ContainerArrays.from_grouped(arrays, as_mode_stack(probe))
        self.arrays = arrays

    @classmethod
    def from_grouped(cls, grouped: GroupedData, probe: npt.NDArray[np.complex64]) -> Self:
        """Make a container of what `RawData.generate_grouped_data` returned and the probe (P, N, N)."""
        return cls(grouped, probe)

    @classmethod
    def from_raw_data(cls, raw: RawData, **grouping: Any) -> Self:
        """Draw groups of a scan; `grouping` goes to `RawData.generate_grouped_data`."""
        grouped = raw.generate_grouped_data(raw.N, **grouping)
        return cls.from_grouped(grouped, raw.probeGuess)

    def __getattr__(self, name: str) -> Any:
        if name not in (*NAMES, *NUMBERS):
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        value = getattr(self.arrays, name)
        if isinstance(value, np.ndarray) and importlib.util.find_spec(self.framework) is not None:
            value = importlib.import_module(self._converter).to_tensor(value)
        self.__dict__[name] = value
        return value

    def __len__(self) -> int:
        return len(self.arrays.X)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({len(self)} groups of shape {self.arrays.X.shape[1:]})'


class PtychoDataContainerTorch(PtychoDataContainer):
    """Groups of a scan as PyTorch tensors, or as NumPy arrays where PyTorch is not installed."""

    framework = 'torch'
    _converter = 'ptycho_engine.backends.pytorch.operations'


class RawDataTorch:
    """A scan whose groups come as a PyTorch container; the grouping is that of :class:`RawData`.

    Parameters
    ----------
    xcoords : RawData or (n,) float
        The scan; or, as the original has it, its columns in object pixels and what follows.
    ycoords, diff3d, probeGuess, scan_index, objectGuess
        As for :meth:`RawData.from_coords_without_pc`.
    config : TrainingConfig or InferenceConfig, optional
        Fills ``params.cfg`` (CONFIG-001), for callers who read that.
    """

    def __init__(
        self,
        xcoords: RawData | npt.ArrayLike,
        ycoords: npt.ArrayLike | None = None,
        diff3d: npt.ArrayLike | None = None,
        probeGuess: npt.ArrayLike | None = None,
        scan_index: npt.ArrayLike | None = None,
        objectGuess: npt.ArrayLike | None = None,
        config: TrainingConfig | InferenceConfig | None = None,
    ) -> None:
        if config is not None:
            populate_legacy_params(config)
        if isinstance(xcoords, RawData):
            self.raw_data = xcoords
            return
        if ycoords is None or diff3d is None or probeGuess is None:
            raise DataValueError('RawDataTorch needs a RawData, or xcoords, ycoords, diff3d and probeGuess.')
        self.raw_data = RawData.from_coords_without_pc(
            xcoords, ycoords, diff3d, probeGuess, scan_index, objectGuess
        )

    @classmethod
    def from_file(cls, path: Any, **options: Any) -> Self:
        """Read a scan as :meth:`RawData.from_file` does."""
        return cls(RawData.from_file(path, **options))

    @classmethod
    def from_coords_without_pc(cls, *args: Any, **options: Any) -> Self:
        """Make a scan as :meth:`RawData.from_coords_without_pc` does."""
        return cls(RawData.from_coords_without_pc(*args, **options))

    def __getattr__(self, name: str) -> Any:
        if name == 'raw_data':  # not set yet, while copying
            raise AttributeError(name)
        return getattr(self.raw_data, name)

    def __len__(self) -> int:
        return len(self.raw_data)

    def container(self, **grouping: Any) -> PtychoDataContainerTorch:
        """Draw groups; `grouping` goes to :meth:`RawData.generate_grouped_data`."""
        return PtychoDataContainerTorch.from_raw_data(self.raw_data, **grouping)
