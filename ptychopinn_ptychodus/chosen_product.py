"""What Ptychodus' list of products holds of one of them, or what is missing there to work on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .compat import metadata_values, positions
from .conversion import object_pixel
from .loaded_model import ScanFacts

if TYPE_CHECKING:
    from ptychodus.api.product import Product

__all__ = ['scan_facts', 'why_no_scan']

LOOK_S = 0.05
"""How long the window may be busy with looking for counts in the patterns."""


def scan_facts(item: Any) -> ScanFacts | None:
    """Return what is known of a product of the list, or None where it has no patterns yet."""
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
        far_field=metadata_values(product)['far_field'],
        sized=object_pixel(product) is not None,
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
    first, pixels = array.flat[0], array.reshape(-1)
    if _differs(array[..., ::16, ::16], first):
        return True  # most objects show it in a few of their pixels
    # Most others are exactly flat, which takes a tenth of the time to see where a pixel is one word.
    words = np.ascontiguousarray(pixels).view(np.uint64) if pixels.dtype == np.complex64 else pixels
    return not bool((words == words[0]).all()) and _differs(pixels, first)


def _differs(pixels: npt.NDArray[Any], value: np.complexfloating[Any, Any]) -> bool:
    return bool(np.abs(pixels - value).max() > 1e-6)


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
