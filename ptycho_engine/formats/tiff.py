"""Amplitude and phase of an object as TIFF images in single precision, with the pixel size in their tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from ..version import __version__

__all__ = ['write_tiff']

CENTIMETRE_M = 1e-2


def write_tiff(
    amplitude: Path,
    phase: Path,
    object_array: npt.NDArray[np.complexfloating[Any, Any]],
    pixel_m: tuple[float, float] | None,
    *,
    name: str,
    comments: str = '',
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write amplitude and phase (radians, -π to π) as two float32 images.

    Parameters
    ----------
    amplitude, phase : Path
        The files.
    object_array : (H, W) complex
    pixel_m : (height, width), optional
        In metres; written as ``XResolution`` and ``YResolution``, pixels in a centimetre, and as JSON in
        ``ImageDescription``.
    provenance : mapping, optional
        How the result came about, for the JSON.
    """
    height_m, width_m = pixel_m or (None, None)
    tags: dict[str, Any] = {}
    if height_m and width_m:
        tags = {
            'resolution': (CENTIMETRE_M / width_m, CENTIMETRE_M / height_m),
            'resolutionunit': 'CENTIMETER',
        }
    for path, image, unit in (
        (amplitude, np.abs(object_array), ''),
        (phase, np.angle(object_array), 'rad'),
    ):
        described = {
            'name': name,
            'unit': unit,
            'pixel_height_m': height_m,
            'pixel_width_m': width_m,
            'comments': comments,
            'provenance': provenance,
        }
        tifffile.imwrite(
            path,
            image.astype(np.float32),
            photometric='minisblack',
            description=json.dumps(described),
            software=f'ptychopinn {__version__}',
            metadata=None,
            **tags,
        )
