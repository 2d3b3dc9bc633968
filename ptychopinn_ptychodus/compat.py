"""The differences between Ptychodus releases, all in one place.

Supported are releases whose reconstructors run in child processes (1.5 and later). Everything else in the
package asks this module instead of looking at a version.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ptychodus.api.probe_positions import ProbePositionSequence
    from ptychodus.api.product import Product

__all__ = [
    'OLDEST_SUPPORTED',
    'DetectorFacts',
    'Positions',
    'UpdatedItem',
    'detector_facts',
    'energy_keyword',
    'file_readers',
    'folders_of',
    'is_switched_off',
    'metadata_values',
    'moved_positions',
    'not_copied',
    'parameter_views',
    'positions',
    'positions_of',
    'ptychodus_version',
    'remove_product',
    'result_files',
    'why_unsupported',
]

OLDEST_SUPPORTED = '1.5'
SWITCH = 'PTYCHOPINN_PTYCHODUS'
"""Environment variable that keeps our plugin out of Ptychodus, where it is one of :data:`OFF`."""
OFF = ('off', '0', 'no', 'false')
"""As the plugin file has them, which must stand alone."""

_NEEDED = (
    'ptychodus.api.reconstruct',
    'ptychodus.model.core',
    # Not used here; it tells releases before 1.5, which lack it.
    'ptychodus.model.processing._subprocess_protocol',
)


def ptychodus_version() -> str | None:
    """Return the installed release of Ptychodus, or None where there is none."""
    # Our own plugin file makes `import ptychodus` succeed as an empty namespace package even where Ptychodus
    # is not installed, so only the distribution's metadata tell.
    try:
        return version('ptychodus')
    except PackageNotFoundError:
        return None


def why_unsupported() -> str | None:
    """Return why this Ptychodus cannot be extended, as a clause, or None if it can."""
    release = ptychodus_version()
    if release is None:
        return 'Ptychodus is not installed'
    for name in _NEEDED:
        if not _exists(name):
            return f'Ptychodus {release} has no {name}; PtychoPINN needs {OLDEST_SUPPORTED} or later'
    return None


def is_switched_off() -> bool:
    """Return whether the environment keeps our plugin out of Ptychodus (API-05)."""
    return os.environ.get(SWITCH, '').strip().casefold() in OFF


def folders_of(package: str) -> list[str]:
    """Return where the modules of a package of Ptychodus lie; empty where there is none.

    Unlike :func:`importlib.util.find_spec` it imports no package on the way, which takes seconds.
    """
    spec = _spec(package)
    return [] if spec is None else list(spec.submodule_search_locations or ())


def _exists(module: str) -> bool:
    return _spec(module) is not None


def _spec(name: str) -> ModuleSpec | None:
    top, *below = name.split('.')
    spec = find_spec(top)
    for part in below:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


def parameter_views() -> ModuleType:
    """Return the module with ``ParameterViewBuilder``; it needs PyQt5. Renamed in 1.6."""
    for name in ('ptychodus.controller.parameters', 'ptychodus.controller.parametric'):
        if _exists(name):
            return importlib.import_module(name)
    raise ImportError('This Ptychodus has no ParameterViewBuilder.')


def metadata_values(product: Product) -> dict[str, Any]:
    """Return the metadata of a product under the names of 1.7, whatever the release calls them."""
    metadata = product.metadata

    def first(*names: str, default: Any = 0.0) -> Any:
        return next((getattr(metadata, n) for n in names if hasattr(metadata, n)), default)

    polarization = first('polarization', default=None)
    return {
        'name': metadata.name,
        'comments': metadata.comments,
        'detector_distance_m': metadata.detector_distance_m,
        'photon_energy_eV': first('photon_energy_eV', 'probe_energy_eV'),
        'probe_photon_count': float(metadata.probe_photon_count),
        'exposure_time_s': metadata.exposure_time_s,
        'mass_attenuation_m2_per_kg': first('mass_attenuation_m2_per_kg', 'mass_attenuation_m2_kg'),
        'tomography_angle_deg': metadata.tomography_angle_deg,
        'focus_object_distance_m': first('focus_object_distance_m'),
        'tilt_angle_deg': first('tilt_angle_deg'),
        'far_field': bool(first('far_field', default=True)),
        'polarization': None if polarization is None else str(polarization.value),
    }


@dataclass(frozen=True)
class Positions:
    """The probe positions of a product."""

    indexes: npt.NDArray[np.int64]
    """(n,) scan-point indexes."""
    x_m: npt.NDArray[np.float64]
    """(n,) x in metres."""
    y_m: npt.NDArray[np.float64]
    """(n,) y in metres."""
    photon_counts: npt.NDArray[np.float64] | None
    """(n,) photons of the probe, or None where they were not measured."""


def moved_positions(
    product: Product, x_m: npt.NDArray[np.float64], y_m: npt.NDArray[np.float64]
) -> ProbePositionSequence:
    """Return the positions of a product with lengths (n,) in metres added to them; all else stays."""
    old = product.probe_positions
    x_name, y_name = ('x_m', 'y_m') if hasattr(old[0], 'x_m') else ('coordinate_x_m', 'coordinate_y_m')
    return type(old)(
        [
            replace(point, **{x_name: getattr(point, x_name) + dx, y_name: getattr(point, y_name) + dy})
            for point, dx, dy in zip(old, x_m.tolist(), y_m.tolist(), strict=True)
        ]
    )


def positions(product: Product) -> Positions:
    """Return the positions of a product as arrays."""
    return positions_of(product.probe_positions)


def positions_of(sequence: Any) -> Positions:
    """Return the positions of a sequence as arrays, which it offers itself from 1.7 on."""
    if hasattr(sequence, 'get_indexes'):
        return Positions(
            np.asarray(sequence.get_indexes(), dtype=np.int64),
            np.asarray(sequence.get_coordinates_x_m(), dtype=np.float64),
            np.asarray(sequence.get_coordinates_y_m(), dtype=np.float64),
            sequence.get_probe_photon_counts(),
        )

    # 1.6 counts photons already; 1.5 does not.
    photon_counts = (
        sequence.get_probe_photon_counts() if hasattr(sequence, 'get_probe_photon_counts') else None
    )
    indexes, at = getattr(sequence, '_indexes', None), getattr(sequence, '_coordinates_m', None)
    if isinstance(indexes, np.ndarray) and isinstance(at, np.ndarray) and at.shape == (len(indexes), 2):
        # Asked for each point by itself, 10 000 of them take the window's thread a tenth of a second.
        return Positions(
            indexes.astype(np.int64), at[:, 1].astype(np.float64), at[:, 0].astype(np.float64), photon_counts
        )

    def column(read: Callable[[Any], Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.array([read(position) for position in sequence], dtype=dtype)

    return Positions(
        column(lambda p: p.index, np.int64),
        column(lambda p: p.x_m if hasattr(p, 'x_m') else p.coordinate_x_m, np.float64),
        column(lambda p: p.y_m if hasattr(p, 'y_m') else p.coordinate_y_m, np.float64),
        photon_counts,
    )


def result_files(output_file: Path) -> tuple[Path, ...]:
    """Return the files of a batch result: the one that the release names, and ``product.h5`` in any."""
    # 1.5 calls it product-out.h5.
    return tuple(dict.fromkeys((output_file, output_file.with_name('product.h5'))))


def file_readers() -> Any:
    """Return Ptychodus' registry of plugins: ``diffraction_file_readers`` and its like, of every release.

    Our own plugin stays out, for it would load the whole of Ptychodus.
    """
    registry = importlib.import_module('ptychodus.api.plugins').PluginRegistry
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = 'off'
    try:
        return registry.load_plugins()
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before


@dataclass(frozen=True)
class DetectorFacts:
    """What a diffraction file says of its experiment; None where it does not."""

    photon_energy_eV: float | None
    detector_distance_m: float | None
    pixel_width_m: float | None
    pixel_height_m: float | None
    centre: tuple[int, int] | None
    """(row, column) of the direct beam."""


def detector_facts(metadata: Any) -> DetectorFacts:
    """Return the facts in the metadata of a diffraction dataset of any release."""
    energy = getattr(metadata, 'photon_energy_eV', getattr(metadata, 'probe_energy_eV', None))
    pixel, centre = metadata.detector_pixel_geometry, getattr(metadata, 'beam_center', None)
    distance = metadata.detector_distance_m
    return DetectorFacts(
        photon_energy_eV=energy or None,
        detector_distance_m=abs(distance) if distance else None,
        pixel_width_m=None if pixel is None or not pixel.width_m else abs(float(pixel.width_m)),
        pixel_height_m=None if pixel is None or not pixel.height_m else abs(float(pixel.height_m)),
        centre=None if centre is None else (int(centre.y_px), int(centre.x_px)),
    )


def energy_keyword(energy_eV: float | None) -> dict[str, Any]:
    """Return the photon energy as the metadata of a dataset call it; renamed in 1.7."""
    known = importlib.import_module('ptychodus.api.diffraction').DiffractionMetadata.__annotations__
    return {next(name for name in ('photon_energy_eV', 'probe_energy_eV') if name in known): energy_eV}


def remove_product(product_api: Any, item: Any) -> None:
    """Take a product out of the list, if it is still there. Call it in the window's thread."""
    repository = getattr(product_api, '_repository', None)
    if repository is None:
        return
    for index, candidate in enumerate(repository):
        if candidate is item:
            repository.remove_product(index)
            return


class UpdatedItem:
    """A product of the list for the monitor's ``update_product``, which then changes only what is new.

    Ptychodus' own ``assign`` sets everything anew, and for each thing the window draws what depends on it:
    with 10 000 positions a quarter of a second in the window's thread.
    """

    def __init__(self, item: Any) -> None:
        self._item = item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._item, name)

    def assign(self, product: Product) -> None:
        """Take over a product."""
        item, old = self._item, self._item.get_product()
        with _geometry_kept(item, old.metadata, product.metadata):
            item.get_metadata_item().assign(product.metadata)
        if not _same_positions(old, product):
            item.get_probe_positions_item().assign(product.probe_positions)
        if not _same_probes(old, product):
            item.get_probe_item().assign(product.probes)
        with not_copied(product.object_):
            item.get_object_item().assign(product.object_)
        # As in Ptychodus' assign: all of the above has emptied them.
        item._losses = list(product.losses)
        item._parent.handle_losses_changed(item)


@contextmanager
def _geometry_kept(item: Any, old: Any, new: Any) -> Iterator[None]:
    """Let a change of words alone leave the geometry, for which probe and object would be built again."""
    observers, geometry = item.get_metadata_item()._observer_list, item.get_geometry()
    if replace(old, name=new.name, comments=new.comments) != new or geometry not in observers:
        yield
        return
    place = observers.index(geometry)
    del observers[place]
    try:
        yield
    finally:
        observers.insert(place, geometry)


@contextmanager
def not_copied(object_: Any) -> Iterator[None]:
    """Let Ptychodus take an object that is nobody else's as it is; to copy it may take the window 0.2 s."""
    object_.copy = lambda: object_
    try:
        yield
    finally:
        del object_.copy


def _same_positions(old: Product, new: Product) -> bool:
    one, other = positions(old), positions(new)
    return all(
        _equal(getattr(one, name), getattr(other, name))
        for name in ('indexes', 'x_m', 'y_m', 'photon_counts')
    )


def _same_probes(old: Product, new: Product) -> bool:
    if old.probes is new.probes:
        return True
    try:
        one, other = (
            (x.get_array(), x.get_opr_weights_or_none(), x.get_pixel_geometry())
            for x in (old.probes, new.probes)
        )
    except (AttributeError, ValueError):
        return False
    return _equal(one[0], other[0]) and _equal(one[1], other[1]) and one[2] == other[2]


def _equal(one: npt.NDArray[Any] | None, other: npt.NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
