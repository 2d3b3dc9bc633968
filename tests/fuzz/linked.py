"""Scans whose patterns lie in another file, by a link or a virtual dataset.

Of the sealed ones every byte is under a checksum, so that nothing can be another without being noticed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

FRAMES = 'frames.h5'
ENTRY = 'entry/data/data'
PLACES = ('external', 'virtual', 'sealed')
PART = 4
"""Patterns of a file of a virtual dataset."""


def make_linked(folder: Path, directory: Path) -> None:
    """Write below `folder` the scan in `directory` by an external link, by a virtual dataset, and sealed."""
    with h5py.File(directory / 'diffraction.h5') as file:
        counts, indexes = file['patterns'][()], file['indexes'][()]
    for kind in PLACES:
        place = folder / kind
        place.mkdir(parents=True)
        shutil.copy(directory / 'product.h5', place)
        sealed = kind == 'sealed'
        version = {'libver': 'latest'} if sealed else {}
        checked = {'chunks': (1, *counts.shape[1:]), 'fletcher32': True} if sealed else {}
        small = {'fletcher32': True} if sealed else {}
        with h5py.File(place / 'diffraction.h5', 'w', **version) as master:
            master.create_dataset('indexes', data=indexes, **small)
            master.create_dataset('bad_pixels', data=np.zeros(counts.shape[1:], bool), **small)
            if kind == 'virtual':
                layout = h5py.VirtualLayout(counts.shape, counts.dtype)
                for start in range(0, len(counts), PART):
                    part = counts[start : start + PART]
                    name = FRAMES if start == 0 else f'frames_{start}.h5'
                    with h5py.File(place / name, 'w') as file:
                        file[ENTRY] = part
                        file['dark'] = part + 7
                    layout[start : start + PART] = h5py.VirtualSource(name, ENTRY, part.shape)
                master.create_virtual_dataset('patterns', layout)
                continue
            with h5py.File(place / FRAMES, 'w', **version) as file:
                file.create_dataset(ENTRY, data=counts, **checked)
                file.create_dataset('dark', data=counts + 7, **checked)
            master['patterns'] = h5py.ExternalLink(FRAMES, f'/{ENTRY}')
            # As long as the patterns, so that an offset of the other file would lead into it.
            master.create_dataset('other', data=counts[::-1] + 3, **checked)
