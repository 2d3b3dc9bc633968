"""The differences between Ptychodus releases, all in one place.

Supported are releases whose reconstructors run in child processes (1.5 and later). Everything else in the
package asks this module instead of looking at a version.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

    from .loaded_model import ScanFacts

__all__ = [
    'OLDEST_SUPPORTED',
    'Positions',
    'UpdatedItem',
    'child_main',
    'metadata_values',
    'moved_positions',
    'parameter_views',
    'positions',
    'ptychodus_version',
    'remove_product',
    'result_files',
    'scan_facts',
    'why_no_scan',
    'why_unsupported',
]

OLDEST_SUPPORTED = '1.5'

_NEEDED = (
    'ptychodus.api.reconstruct',
    'ptychodus.model.core',
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


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def child_main() -> Callable[..., None]:
    """Return what Ptychodus runs in a spawned child: ``f(entry point, job, queue, log level)``."""
    module = importlib.import_module('ptychodus.model.processing._subprocess_protocol')
    function: Callable[..., None] = module._child_main
    return function


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
    """Return the positions as arrays, which the sequence itself offers from 1.7 on."""
    sequence = product.probe_positions
    if hasattr(sequence, 'get_indexes'):
        return Positions(
            np.asarray(sequence.get_indexes(), dtype=np.int64),
            np.asarray(sequence.get_coordinates_x_m(), dtype=np.float64),
            np.asarray(sequence.get_coordinates_y_m(), dtype=np.float64),
            sequence.get_probe_photon_counts(),
        )

    def column(read: Callable[[Any], Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.array([read(position) for position in sequence], dtype=dtype)

    return Positions(
        column(lambda p: p.index, np.int64),
        column(lambda p: p.x_m if hasattr(p, 'x_m') else p.coordinate_x_m, np.float64),
        column(lambda p: p.y_m if hasattr(p, 'y_m') else p.coordinate_y_m, np.float64),
        # 1.6 counts photons already; 1.5 does not.
        sequence.get_probe_photon_counts() if hasattr(sequence, 'get_probe_photon_counts') else None,
    )


def result_files(output_file: Path) -> tuple[Path, ...]:
    """Return the files of a batch result: the one that the release names, and ``product.h5`` in any."""
    # 1.5 calls it product-out.h5.
    return tuple(dict.fromkeys((output_file, output_file.with_name('product.h5'))))


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
        item.get_metadata_item().assign(product.metadata)
        if not _same_positions(old, product):
            item.get_probe_positions_item().assign(product.probe_positions)
        if not _same_probes(old, product):
            item.get_probe_item().assign(product.probes)
        with _not_copied(product.object_):
            item.get_object_item().assign(product.object_)
        # As in Ptychodus' assign: all of the above has emptied them.
        item._losses = list(product.losses)
        item._parent.handle_losses_changed(item)


@contextmanager
def _not_copied(object_: Any) -> Iterator[None]:
    """Let Ptychodus take an object that is nobody else's as it is; to copy it may take the window 0.1 s."""
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


def scan_facts(item: Any) -> ScanFacts | None:
    """Return what is known of a product of the list, or None where it has no patterns yet."""
    from .loaded_model import ScanFacts

    dataset = item.get_dataset()
    if dataset is None or item.is_pending() or item.is_failed():
        return None
    data = dataset.get_assembled_data()
    n, height, width = data.get_patterns_shape()
    if n == 0:
        return None
    product = item.get_product()
    try:
        probe = np.asarray(product.probes.get_array())
    except ValueError:
        probe = None
    if probe is not None:
        # Modes that vary over the scan (OPR) beyond the first are not used.
        probe = probe[0] if probe.ndim == 4 else probe.reshape(-1, *probe.shape[-2:])
    dark, finite = _light(data)
    if probe is not None:
        finite = finite and bool(np.isfinite(probe).all())
    return ScanFacts(
        n=_matched(data.get_indexes(), product),
        height=height,
        width=width,
        probe=probe,
        dark=dark,
        finite=finite,
        object_known=_varies(product),
        folder=_folder(dataset),
        name=item.get_name(),
        sample=np.array(data.get_pattern(0)),
    )


def why_no_scan(item: Any | None) -> str:
    """Return what a product of the list lacks, where :func:`scan_facts` knows nothing of it."""
    if item is None:
        return 'Choose a product.'
    name = item.get_name()
    if item.is_failed():
        return f'The product "{name}" could not be made; see the log.'
    if item.is_pending():
        return f'The product "{name}" is still being loaded.'
    if item.get_dataset() is None:
        return f'The product "{name}" has no diffraction dataset: choose one for it on the Products page.'
    return f'The diffraction dataset of "{name}" holds no patterns yet.'


LOOK_S = 0.05
"""How long the window may be busy with looking for counts in the patterns."""


def _light(data: Any) -> tuple[bool, bool]:
    """Return whether all patterns are dark, and whether those looked at are finite."""
    valid = ~np.asarray(data.get_bad_pixels(), dtype=bool)
    n, end = data.get_patterns_shape()[0], time.monotonic() + LOOK_S
    for index in range(n):
        pattern = np.asarray(data.get_pattern(index))
        if not np.isfinite(pattern).all():
            return False, False
        if pattern[valid].any():
            return False, True
        if time.monotonic() > end:
            return False, True
    return True, True


def _varies(product: Product) -> bool:
    try:
        array = np.asarray(product.object_.get_array())
    except (AttributeError, ValueError):
        return False
    if array.size == 0:
        return False
    # Most objects show it in a few of their pixels.
    few, first = array[..., ::16, ::16], array.flat[0]
    return any(bool(np.abs(part - first).max() > 1e-6) for part in (few, array))


def _folder(dataset: Any) -> Path | None:
    """Return the folder of the file that a dataset was read from, if Ptychodus has kept it."""
    path = getattr(dataset.get_metadata(), 'file_path', None)
    return path.parent if isinstance(path, Path) and path.is_file() else None


def _matched(pattern_indexes: npt.NDArray[Any], product: Product) -> int:
    """Return how many patterns have a position: those within the range of the positions' indexes."""
    indexes = positions(product).indexes
    if len(indexes) == 0:
        return 0
    used = pattern_indexes[pattern_indexes >= 0]
    return int(((used >= indexes.min()) & (used <= indexes.max())).sum())
