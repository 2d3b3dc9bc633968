"""All predicted patches of a scan: in memory while they are few, in a scratch file beyond that."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.mapping import scratch_array

__all__ = ['PatchStore']

MEMORY_LIMIT_BYTES = 256 * 2**20
"""Up to this size the patches of a scan are kept in memory: 8192 patches of 64×64 pixels."""


class PatchStore:
    """Patches times their illumination, (n, N, N) complex64, written once and read in any order.

    Parameters
    ----------
    count : int
        Patches.
    size : int
        Side of a patch in pixels.
    memory_limit : int
        Bytes up to which they are kept in memory.
    """

    def __init__(self, count: int, size: int, memory_limit: int = MEMORY_LIMIT_BYTES) -> None:
        self.shape = (count, size, size)
        self._backing = scratch_array(self.shape, np.complex64, 'Stitching so many patches', memory_limit)

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, part: slice, weighted: npt.NDArray[np.complexfloating[Any, Any]]) -> None:
        self._backing.array[part] = weighted
        self._backing.release()

    def __getitem__(self, part: slice | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.complex64]:
        block = np.array(self._backing.array[part])
        self._backing.release()
        return block
