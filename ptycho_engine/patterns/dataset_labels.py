"""Which dataset each pattern belongs to, and what the numbers in ``scan_index`` are."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

__all__ = ['dataset_labels', 'several_datasets', 'tell_labels']

logger = logging.getLogger('ptychopinn.data')

Labels = npt.NDArray[np.int64]


def dataset_labels(scan_index: Labels) -> Labels:
    """Return the dataset (n,) of each pattern, given the values (n,) of ``scan_index``.

    Both meanings are in use: the number of the scan point of each pattern, which is another one for each, and
    the number of the dataset, which all patterns of a dataset share.
    """
    return np.zeros_like(scan_index) if len(np.unique(scan_index)) == len(scan_index) else scan_index


def several_datasets(labels: Labels | None) -> bool:
    """Return whether labels (n,) tell more than one dataset apart."""
    return labels is not None and bool((labels != labels[:1]).any())


def tell_labels(source: str, scan_index: Labels | None, dataset_index: Labels | None) -> None:
    """Log in one line how a file's numbers of scan points and datasets are understood."""
    labels = dataset_index
    if labels is None and scan_index is not None:
        labels = dataset_labels(scan_index)
    if several_datasets(labels):
        logger.info(
            '%s: %d datasets; groups hold patterns of one.', source, len(np.unique(np.asarray(labels)))
        )
    elif several_datasets(scan_index):
        logger.info('%s: scan_index numbers the scan points; all patterns are one dataset.', source)
