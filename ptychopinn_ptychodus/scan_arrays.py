"""What takes Ptychodus' window long for large scans, done faster: loops over positions, probes of its list.

For 10 000 positions each loop takes the window's thread tens of milliseconds, several times in a run. The
list of probes, in sight or not, asks for a probe some thousand times when a product is added, each a copy.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

__all__ = ['keep_listed_probes', 'work_on_scans_by_arrays']


def work_on_scans_by_arrays() -> None:
    """Let Ptychodus find the bounding box of a scan, and copy its positions, by arrays."""
    names = ('api.probe_positions', 'api.object', 'model.product.probe_positions.item')
    for name in names:
        module = importlib.import_module(f'ptychodus.{name}')
        original = getattr(module, 'calculate_scan_geometry', None)
        if original is not None and not hasattr(original, '__wrapped__'):
            module.calculate_scan_geometry = _by_arrays(original)  # type: ignore[attr-defined]
    sequence: Any = importlib.import_module('ptychodus.api.probe_positions').ProbePositionSequence
    if not hasattr(sequence.__init__, '__wrapped__'):
        sequence.__init__ = _copying_arrays(sequence, sequence.__init__)


def keep_listed_probes() -> None:
    """Let the list of probes copy each once, for as long as a product has it."""
    module: Any = importlib.import_module('ptychodus.controller.probe.tree_model')
    original = getattr(module, 'try_get_probe', None)
    if original is None or hasattr(original, '__wrapped__'):
        return
    kept: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @functools.wraps(original)
    def try_get_probe(item: Any) -> Any:
        probes = item.get_probes()
        if probes not in kept:
            kept[probes] = original(item)
        return kept[probes]

    module.try_get_probe = try_get_probe


def _copying_arrays(kind: type, original: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that copies the arrays of a sequence in place of its points, one by one."""

    @functools.wraps(original)
    def construct(self: Any, point_seq: Any = None) -> None:
        if type(point_seq) is not kind or not all(
            value is None or isinstance(value, np.ndarray) for value in vars(point_seq).values()
        ):
            original(self, point_seq)
            return
        for name, value in vars(point_seq).items():
            setattr(self, name, None if value is None else value.copy())

    return construct


def _by_arrays(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    geometry: Any = importlib.import_module('ptychodus.api.probe_positions').ScanGeometry

    @functools.wraps(original)
    def calculate_scan_geometry(points: Any) -> Any:
        at = getattr(points, '_coordinates_m', None)
        if (
            not isinstance(at, np.ndarray)
            or at.ndim != 2
            or at.shape[1] != 2
            or not np.isfinite(at).all()
            or not len(at)
        ):
            return original(points)
        (y_low, x_low), (y_high, x_high) = at.min(axis=0), at.max(axis=0)
        steps = np.diff(at, axis=0)
        return geometry(
            minimum_x_m=x_low,
            maximum_x_m=x_high,
            minimum_y_m=y_low,
            maximum_y_m=y_high,
            length_m=np.hypot(steps[:, 1], steps[:, 0]).sum(),
        )

    return calculate_scan_geometry
