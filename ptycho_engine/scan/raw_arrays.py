"""The arrays of a scan as an NPZ file holds them (``specs/data_contracts.md``, DATA-001)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.npz import COHERENT
from ..patterns.dataset_labels import several_datasets
from ..physics.coherent import CoherentModes

__all__ = ['arrays_of_coherent', 'arrays_of_scan']

OPTIONAL = ('objectGuess', 'xcoords_start', 'ycoords_start', 'scan_index', 'bad_pixels', 'Y')


def arrays_of_scan(
    fields: Mapping[str, Any], labels: npt.NDArray[np.int64] | None
) -> dict[str, npt.ArrayLike]:
    """Return what is written of a scan, by name.

    Parameters
    ----------
    fields : mapping
        Those of a :class:`~.raw_data.RawData` with patterns.
    labels : (n,) int, optional
        The dataset of each pattern; written where there are several.
    """
    probe = fields['probeGuess']
    arrays: dict[str, npt.ArrayLike] = {
        'diffraction': fields['diffraction'],
        'probeGuess': probe[0] if len(probe) == 1 else probe,
        'xcoords': fields['xcoords'],
        'ycoords': fields['ycoords'],
        '_metadata': np.array(json.dumps(_stated(fields))),
    }
    arrays |= {name: fields[name] for name in OPTIONAL if fields[name] is not None}
    arrays |= arrays_of_coherent(fields['coherent'])
    if labels is not None and several_datasets(labels):
        arrays['dataset_index'] = labels
    return arrays


def arrays_of_coherent(coherent: CoherentModes | None) -> dict[str, npt.ArrayLike]:
    """Return what an NPZ file holds of how a probe varies over a scan, by name."""
    return {} if coherent is None else dict(zip(COHERENT, (coherent.modes, coherent.weights), strict=True))


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a file of amplitudes: they say what these are, where that is known."""
    said = {key: value for key, value in fields['metadata'].items() if key != 'measurement_domain'}
    if len(set(fields['diffraction'].shape)) == 1:
        # The shape does not say it.
        said['axis_order'] = 'n,H,W'
    return {**said, 'measurement_domain': 'amplitude'} if fields['counted'] else said
