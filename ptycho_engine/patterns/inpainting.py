"""Bad pixels filled from their surroundings, for the input of a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu

__all__ = ['Inpainter', 'filled_counts']


class Inpainter:
    """Fills the bad pixels of patterns with the smoothest continuation of the valid ones around them.

    Each bad pixel becomes the mean of its neighbours: Laplace's equation with the valid pixels around a hole
    as boundary values, and no flux at the edge of the detector. The equations of a mask are factorised once,
    and a batch then costs one sparse solution.

    Parameters
    ----------
    bad : (N, N) bool
        True where the detector is not to be trusted.
    """

    def __init__(self, bad: npt.NDArray[np.bool_]) -> None:
        self._bad = np.flatnonzero(bad)
        self._valid = np.flatnonzero(~bad)
        self.needed = 0 < len(self._bad) < bad.size
        if self.needed:
            laplacian = _grid_laplacian(bad.shape)[self._bad]
            self._to_boundary = laplacian[:, self._valid].tocsr()
            self._solver = splu(laplacian[:, self._bad].tocsc())

    def fill(self, amplitude: npt.NDArray[np.float32]) -> None:
        """Replace the bad pixels of patterns (..., N, N), which must be contiguous, in place."""
        if not self.needed:
            return
        flat = amplitude.reshape(-1, amplitude.shape[-2] * amplitude.shape[-1])
        boundary = self._to_boundary @ flat[:, self._valid].T.astype(np.float64)
        flat[:, self._bad] = np.maximum(self._solver.solve(-boundary), 0).T


def _grid_laplacian(shape: tuple[int, ...]) -> csr_matrix:
    """Return the Laplacian of the graph in which each pixel is joined to its four neighbours."""
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    first = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    second = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    ones = np.ones(2 * len(first))
    joined = csr_matrix(
        (ones, (np.concatenate([first, second]), np.concatenate([second, first]))), (index.size, index.size)
    )
    return csr_matrix(diags(np.asarray(joined.sum(axis=1)).ravel()) - joined)


def filled_counts(
    counts: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.float64]:
    """Return counts (N, N) with their bad pixels filled, which is done for their roots, the amplitudes."""
    if bad is None or not bad.any():
        return counts
    modulus = np.sqrt(counts).astype(np.float32)
    Inpainter(bad).fill(modulus)
    return np.square(modulus, dtype=np.float64)
