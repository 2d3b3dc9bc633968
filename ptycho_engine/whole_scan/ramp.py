"""Phase ramps: an image times one shifts all patterns alike, so that two images may differ by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ['with_ramp_of']


def with_ramp_of(
    target: npt.NDArray[np.complex64], obj: npt.NDArray[np.complex64], weight: npt.NDArray[np.float32]
) -> npt.NDArray[np.complex64]:
    """Return `obj` (H, W) times the unit phase ramp that brings its phase closest to that of `target`.

    A ramp of the phase shifts all patterns alike: it is no error of the image, and scores remove it too.
    """
    height, width = obj.shape
    rows = np.arange(height, dtype=np.float32)[:, None] / height - 0.5
    columns = np.arange(width, dtype=np.float32)[None, :] / width - 0.5
    terms = np.stack([np.ones_like(weight), rows + 0 * weight, columns + 0 * weight]).reshape(3, -1)
    turned = obj
    # The first round brings all phases to around zero, where the second fits them without wraps.
    for _ in range(2):
        cross = turned.conj() * target
        mean = complex((weight * cross).sum(dtype=np.complex128))
        angle = np.angle(cross * np.complex64(mean.conjugate() / max(abs(mean), 1e-30)))
        weighted = terms * (weight * np.abs(cross)).ravel()
        slope = np.linalg.lstsq(weighted @ terms.T, weighted @ angle.ravel(), rcond=None)[0]
        turned = turned * np.exp(1j * np.tensordot(slope, terms.reshape(3, height, width), 1))
    return np.asarray(turned, dtype=np.complex64)
