"""RawData: one validated scan in object pixels and measured amplitude."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..config.choices import AxisOrder, MeasurementDomain
from ..errors import DataValueError
from ..formats.npz import write_arrays
from ..formats.npz_scan import read_npz_scan
from ..formats.verification import verify_file
from ..patterns.dataset_labels import dataset_labels
from ..patterns.known_patches import KnownPatches
from ..patterns.stack import MEMORY_LIMIT_BYTES, AmplitudeStack, LazyFrames, Patterns
from ..physics.coherent import CoherentModes
from ..physics.exposure import draw_counts
from ..physics.probe import as_mode_stack
from .grouped import GroupedData, gather_groups
from .grouping import draw_groups, neighbours_needed
from .groups_cache import cached_neighbours
from .neighbours import Neighbourhood, find_neighbours
from .raw_arrays import arrays_of_scan
from .raw_checks import as_fields, check_fields, checked_amplitudes, saturation_amplitude

__all__ = ['MeasurementDomain', 'RawData']


@dataclass(frozen=True)
class RawData:
    """One scan: patterns, probe and positions, checked once on construction.

    Raises
    ------
    DataValueError
        If lengths, shapes or values contradict each other.
    """

    diffraction: AmplitudeStack
    """(n, N, N) float32 amplitude, the square root of counts, zero frequency at index N//2, 0 in bad pixels.

    An array, or patterns read from their file when asked for; (0, N, N) where there are positions alone."""
    probeGuess: npt.NDArray[np.complex64]
    """(P, N, N) complex64 incoherent probe modes."""
    xcoords: npt.NDArray[np.float64]
    """(n,) float64 columns of the patch centres, object pixels."""
    ycoords: npt.NDArray[np.float64]
    """(n,) float64 rows of the patch centres, object pixels."""
    objectGuess: npt.NDArray[np.complex64] | None = None
    """(H, W) complex64 object, a guess or the truth."""
    xcoords_start: npt.NDArray[np.float64] | None = None
    """(n,) float64 planned columns, where they differ from the measured ones."""
    ycoords_start: npt.NDArray[np.float64] | None = None
    """(n,) float64 planned rows."""
    scan_index: npt.NDArray[np.int64] | None = None
    """(n,) int number of the scan point of each pattern; where values repeat, of the dataset."""
    dataset_index: npt.NDArray[np.int64] | None = None
    """(n,) int dataset each pattern belongs to; None for what `scan_index` says. See `labels`."""
    bad_pixels: npt.NDArray[np.bool_] | None = None
    """(N, N) bool, True where the detector is not to be trusted."""
    Y: npt.NDArray[np.complex64] | KnownPatches | None = None
    """(n, N, N) complex64 known object patches, an array or read from their file as `diffraction` is."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Free JSON metadata of the file."""
    source: str = 'arrays'
    """Where the data came from, for messages and provenance."""
    words: str = ''
    """How a command line names it, with how it was read; empty where that is its file alone."""
    path: Path | None = None
    """File or directory that holds the whole scan, beside which its groups are cached; None for none."""
    original_axis_order: AxisOrder = 'n,H,W'
    """Axis order of the patterns in the source."""
    original_domain: MeasurementDomain = 'amplitude'
    """What the patterns are in the source."""
    counted: bool = True
    """False where the patterns are no counts any more, so that their noise has to be estimated."""
    assumed: tuple[str, ...] = ()
    """What was taken for granted of the source, in sentences."""
    coherent: CoherentModes | None = None
    """How the first incoherent mode varies over the n positions; `probeGuess` is the mean of all."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        for name, value in as_fields(vars(self)).items():
            set_(self, name, value)
        check_fields(vars(self))
        if not isinstance(self.diffraction, Patterns):
            set_(self, 'diffraction', checked_amplitudes(self.diffraction, self.bad_pixels, self.source))

    def __len__(self) -> int:
        return len(self.xcoords)

    @property
    def ceiling(self) -> float:
        """Amplitude above which a pixel is saturated, by ``saturation_counts`` of the metadata; or infinity.

        Raises
        ------
        DataValueError
            If that is no positive number.
        """
        return saturation_amplitude(self.metadata, self.source)

    @property
    def has_patterns(self) -> bool:
        """Whether there are patterns; a scan imported from a product may have positions only."""
        return len(self.diffraction) > 0

    def require_patterns(self) -> None:
        """Raise if the scan has no patterns.

        Raises
        ------
        DataValueError
            If it has positions only.
        """
        if not self.has_patterns:
            raise DataValueError(
                f'{self.source}: the scan has {len(self)} positions but no diffraction patterns; give a scan '
                'with patterns, or a product exported with --include-diffraction.'
            )

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(N, N) True where the detector is to be trusted: all of it where no bad pixels are known."""
        return np.ones((self.N, self.N), bool) if self.bad_pixels is None else ~self.bad_pixels

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """(n,) dataset each pattern belongs to, whose patterns alone make groups; None for a single one."""
        if self.dataset_index is not None or self.scan_index is None:
            return self.dataset_index
        return dataset_labels(self.scan_index)

    @property
    def N(self) -> int:
        """Side of a pattern in pixels."""
        return int(self.diffraction.shape[-1])

    @property
    def diff3d(self) -> AmplitudeStack:
        """The patterns under their legacy name."""
        return self.diffraction

    norm_Y_I: ClassVar[None] = None
    """Known patches are stored as they are: no factor belongs to them."""

    def select(self, indices: npt.ArrayLike) -> RawData:
        """Return the scan reduced to the given patterns, in the given order."""
        chosen = np.asarray(indices)

        def take(array: Any) -> Any:
            if array is None:
                return None
            return array.select(chosen) if isinstance(array, LazyFrames) else array[chosen]

        return replace(
            self,
            diffraction=take(self.diffraction) if self.has_patterns else self.diffraction,
            xcoords=self.xcoords[chosen],
            ycoords=self.ycoords[chosen],
            xcoords_start=take(self.xcoords_start),
            ycoords_start=take(self.ycoords_start),
            scan_index=take(self.scan_index),
            dataset_index=take(self.labels),
            Y=take(self.Y),
            coherent=None if self.coherent is None else self.coherent.at(chosen),
            path=None,
        )

    @classmethod
    def from_coords_without_pc(
        cls,
        xcoords: npt.ArrayLike,
        ycoords: npt.ArrayLike,
        diff3d: npt.ArrayLike,
        probeGuess: npt.ArrayLike,
        scan_index: npt.ArrayLike | None = None,
        objectGuess: npt.ArrayLike | None = None,
    ) -> RawData:
        """Make a scan of amplitudes whose planned positions are the measured ones."""
        x, y = np.asarray(xcoords), np.asarray(ycoords)
        return cls(
            diffraction=np.asarray(diff3d),
            probeGuess=np.asarray(probeGuess),
            xcoords=x,
            ycoords=y,
            xcoords_start=x,
            ycoords_start=y,
            scan_index=None if scan_index is None else np.asarray(scan_index),
            objectGuess=None if objectGuess is None else np.asarray(objectGuess),
        )

    @classmethod
    def from_simulation(
        cls,
        xcoords: npt.ArrayLike,
        ycoords: npt.ArrayLike,
        probeGuess: npt.ArrayLike,
        objectGuess: npt.ArrayLike,
        scan_index: npt.ArrayLike | None = None,
        *,
        photons: float = 1e5,
        seed: int | np.random.Generator = 0,
        bad_pixels: npt.NDArray[np.bool_] | None = None,
        background: float = 0.0,
    ) -> RawData:
        """Simulate a scan of a known object with the exact forward model and Poisson counts.

        Parameters
        ----------
        xcoords, ycoords : (n,) float
            Patch centres in object pixels; fractions shift the probe, the object is never interpolated.
        probeGuess : (N, N) or (P, N, N) complex
            Incoherent modes; scaled here so that the mean pattern holds `photons` counts.
        objectGuess : (H, W) complex
            The object.
        scan_index : (n,) int, optional
            Number of the scan point, or of the dataset, of each pattern.
        photons : float
            Mean counts per pattern, without background.
        seed : int or numpy.random.Generator
            Draws the counts.
        bad_pixels : (N, N) bool, optional
            Pixels that read zero and are marked bad.
        background : float
            Mean counts per pixel that are no light of the sample.

        Returns
        -------
        RawData
            Amplitudes are square roots of counts; the probe is in their units, `objectGuess` is the truth.

        Raises
        ------
        DataValueError
            If a patch reaches over the edge of the object, a number is out of range, or no light comes
            through.
        """
        truth = np.asarray(objectGuess, dtype=np.complex64)
        x, y = (np.asarray(axis, dtype=np.float64) for axis in (xcoords, ycoords))
        counts, modes = draw_counts(
            truth,
            as_mode_stack(probeGuess),
            x,
            y,
            photons=photons,
            rng=np.random.default_rng(seed),
            bad_pixels=bad_pixels,
            background=background,
        )
        return cls(
            diffraction=np.sqrt(counts).astype(np.float32),
            probeGuess=modes,
            xcoords=x,
            ycoords=y,
            scan_index=None if scan_index is None else np.asarray(scan_index),
            objectGuess=truth,
            bad_pixels=bad_pixels,
            metadata={'simulated': True, 'photons': float(photons), 'background': float(background)},
            source='simulation',
        )

    def generate_grouped_data(
        self,
        N: int,
        K: int = 4,
        nsamples: int | None = None,
        gridsize: int = 1,
        seed: int = 0,
        sequential_sampling: bool = False,
        *,
        enable_oversampling: bool = False,
        neighbor_pool_size: int | None = None,
        use_groups_cache: bool = True,
    ) -> GroupedData:
        """Draw groups of neighbouring patterns and gather them (``specs/data_contracts.md``, GROUPED).

        Parameters
        ----------
        N : int
            Side of a pattern; must be that of the scan.
        K : int
            Neighbours of its seed from which a group is drawn.
        nsamples : int, optional
            Groups wanted; None for one around each pattern.
        gridsize : int
            1 to 5; a group holds C = gridsize² patterns.
        seed : int
            Seed of the draw.
        sequential_sampling : bool
            Groups around the first patterns instead of random ones.
        enable_oversampling : bool
            Allow more groups than patterns.
        neighbor_pool_size : int, optional
            Neighbours from which groups are then drawn, if not K.
        use_groups_cache : bool
            Keep the neighbours beside the scan's file for the next run.

        Raises
        ------
        DataValueError
            If N is not the scan's, or groups do not fit (:func:`~.grouping.build_groups`).
        """
        self.require_patterns()
        if self.N != N:
            raise DataValueError(
                f'{self.source}: groups of {N}-pixel patterns were asked for but the patterns are {self.N} '
                f'pixels wide; give N = {self.N}, or crop the patterns.'
            )
        if gridsize == 1 and nsamples is not None and not enable_oversampling:
            nsamples = min(nsamples, len(self))
        indices = draw_groups(
            self.neighbourhood(gridsize, K, neighbor_pool_size, use_cache=use_groups_cache),
            gridsize,
            K,
            nsamples,
            seed,
            sequential_sampling,
            enable_oversampling,
            pool=neighbor_pool_size,
        )
        x, y = self.xcoords_start, self.ycoords_start
        return gather_groups(
            indices,
            diffraction=self.diffraction,
            probe=self.probeGuess,
            bad_pixels=self.bad_pixels,
            positions=(self.xcoords, self.ycoords),
            planned=None if x is None or y is None else (x, y),
            known_patches=self.Y,
            obj=self.objectGuess,
        )

    def neighbourhood(
        self, gridsize: int, K: int, pool: int | None = None, *, use_cache: bool = True
    ) -> Neighbourhood:
        """Return the neighbourhood of the whole scan for groups of gridsize² patterns.

        Parameters
        ----------
        gridsize : int
            1 to 5.
        K : int
            Neighbours to draw from.
        pool : int, optional
            Neighbours to draw from when oversampling, if not K.
        use_cache : bool
            Read and write the groups cache of the scan's file.
        """
        xy = np.stack([self.xcoords, self.ycoords], axis=1)
        if gridsize == 1:
            return Neighbourhood.whole(find_neighbours(xy, 0, self.labels))
        width = neighbours_needed(gridsize, K, pool)
        dataset = self.path if use_cache else None
        return Neighbourhood.whole(cached_neighbours(xy, gridsize, width, self.labels, dataset))

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        axis_order: AxisOrder | None = None,
        domain: str | None = None,
        nphotons: float | None = None,
        memory_limit: int = MEMORY_LIMIT_BYTES,
        verify: bool = False,
        own_probe: bool = True,
    ) -> RawData:
        """Read a scan from an NPZ file (``specs/data_contracts.md``, DATA-001).

        Parameters
        ----------
        path : Path
            The NPZ file.
        axis_order : {'n,H,W', 'H,W,n'}, optional
            Overrides the axis rule; needed only for cubes in the legacy order.
        domain : {'amplitude', 'counts', 'normalised'}, optional
            What the patterns are, where it is not what the file or its values say
            (:func:`~..patterns.units.decide_units`). 'normalised' are amplitudes times an unknown factor.
        nphotons : float, optional
            Mean counts per pattern, to which the amplitudes are scaled; else what the patterns say.
        memory_limit : int
            Patterns that take at most so many bytes as float32 are read into memory, and so is `Y` as
            complex64; what is larger stays in the file and is read where it is used.
        verify : bool
            Read the whole file once beforehand and hold it against its checksums. Arrays that are read
            whole are checked in any case.
        own_probe : bool
            Whether its probe is wanted; else it need not be there, and is 1 everywhere.

        Raises
        ------
        DataFileNotFoundError, DataKeyError, DataValueError
            With a sentence that names the file, the key, what was found and what was expected.
        """
        if verify:
            verify_file(Path(path))
        fields = read_npz_scan(
            Path(path), axis_order=axis_order, domain=domain, nphotons=nphotons, own_probe=own_probe
        )
        for name in ('diffraction', 'Y'):
            if fields[name] is not None:
                fields[name] = fields[name].in_memory_if_small(memory_limit)
        return cls(**fields)

    def to_file(self, path: Path | str, *, compressed: bool = True) -> None:
        """Write the scan as an NPZ file of the DATA-001 contract, atomically.

        Raises
        ------
        DataValueError
            If the scan has no patterns, which the contract demands.
        """
        self.require_patterns()
        write_arrays(Path(path), arrays_of_scan(vars(self), self.labels), compressed=compressed)
