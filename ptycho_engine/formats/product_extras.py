"""What a product file holds beyond the product contract, kept so that it can be written back.

Items are kept as the HDF5 that they were (types, filters, attributes and links), in memory where they are
small and by reference to their file where they are large.
"""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from ..io.damage import DAMAGE
from ..io.hdf5 import Hdf5Group, open_hdf5
from ..io.text import encode
from .item_copy import copy_item, link_of, own_dataset
from .product_text import Name, copy_attributes, is_plain_text, read_text

__all__ = [
    'ProductExtras',
    'collect_extras',
    'kept_texts',
    'with_dataset',
    'with_uncertainty',
    'write_extras',
]

logger = logging.getLogger('ptychopinn.files')

MEMORY_LIMIT_BYTES = 64 << 20
"""Unknown items of a file beyond this size, all together, stay in that file until they are copied."""


UNCERTAINTY_DATASET = 'ptychopinn_object_uncertainty'
"""Name of the uncertainty map at the root of a product file; Ptychodus passes over what it does not know."""


@dataclass(frozen=True)
class ProductExtras:
    """Root attributes, datasets and groups of a product file that the contract does not name.

    Its texts are among them where they are not plain text, so that they can be written as they were.
    """

    image: bytes = b''
    """An HDF5 file that holds the root attributes and the small items; empty where there are none."""
    source: Path | None = None
    """File that holds the large items."""
    large: tuple[tuple[Name, int], ...] = ()
    """Name and stored bytes of each large item, which is copied from `source` when it is written."""

    def __bool__(self) -> bool:
        return bool(self.image or self.large)


def collect_extras(
    group: Hdf5Group,
    path: Path,
    known_attributes: Collection[str],
    known_items: Collection[str],
    texts: Collection[str] = (),
) -> ProductExtras:
    """Return what is at the root of an open product file beside the known attributes and items.

    Of the known attributes `texts` those are kept too that are not plain text. What h5py cannot read, damaged
    or of an exotic type, is left out with a warning.
    """
    file = group.raw
    attributes = [name for name in file.attrs if name not in known_attributes]
    attributes += [name for name in texts if name in file.attrs and not is_plain_text(file, name)]
    names: list[Name] = []
    sizes: dict[Name, int] = {}
    with _warned(path, '/'):
        names.extend(name for name in file if name not in known_items)
    for name in names:
        with _warned(path, name):
            sizes[name] = _stored_bytes(group, name)
    if not attributes and not sizes:
        return ProductExtras()
    small, budget = [], MEMORY_LIMIT_BYTES
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        if size <= budget:
            small.append(name)
            budget -= size
    large = tuple((name, sizes[name]) for name in sorted(set(sizes) - set(small), key=_bytes_of))
    # The name is never on disk; it only has to differ from those of other files open in this process.
    with h5py.File(f'extras-{uuid.uuid4()}', 'w', driver='core', backing_store=False) as image:
        for name in attributes:
            with _warned(path, name):
                group.attrs.require_short(name)
                copy_attributes(file, image, [name])
        for name in sorted(small, key=_bytes_of):
            with _warned(path, name):
                copy_item(file, image, name)
        image.flush()
        data = bytes(image.id.get_file_image())
    return ProductExtras(data, path.absolute() if large else None, large)


def with_dataset(
    extras: ProductExtras, name: str, array: npt.NDArray[Any], attributes: Mapping[str, Any]
) -> ProductExtras:
    """Return `extras` with a dataset at the root, in place of one of that name."""
    with h5py.File(f'extras-{uuid.uuid4()}', 'w', driver='core', backing_store=False) as image:
        if extras.image:
            with h5py.File(io.BytesIO(extras.image), 'r') as old:
                copy_attributes(old, image)
                for item in old:
                    if item != name:
                        copy_item(old, image, item)
        image.create_dataset(name, data=array).attrs.update(attributes)
        image.flush()
        data = bytes(image.id.get_file_image())
    return replace(extras, image=data, large=tuple(item for item in extras.large if item[0] != name))


def with_uncertainty(extras: ProductExtras, uncertainty: npt.NDArray[np.float32]) -> ProductExtras:
    """Return `extras` with the uncertainty (H, W) of the object, NaN where it is unknown."""
    meaning = 'standard deviation of the object, in units of its amplitude; NaN: unknown'
    return with_dataset(extras, UNCERTAINTY_DATASET, uncertainty, {'description': meaning})


@contextmanager
def _warned(path: Path, name: Name) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        logger.warning('%s: %r cannot be read (%s) and is left out.', path, name, error)


def _bytes_of(name: Name) -> bytes:
    return name if isinstance(name, bytes) else encode(name)


def kept_texts(extras: ProductExtras, names: Collection[str]) -> dict[str, str]:
    """Return those of the attributes `names` that are kept as they were, as text."""
    if not extras.image:
        return {}
    with h5py.File(io.BytesIO(extras.image), 'r') as image:
        return {name: read_text(image, name) for name in names if name in image.attrs}


def write_extras(file: h5py.File, extras: ProductExtras) -> None:
    """Write the extras into an open product file, beside what is already there.

    Large items that are no longer in their source are left out with a warning.
    """
    if extras.image:
        with h5py.File(io.BytesIO(extras.image), 'r') as image:
            copy_attributes(image, file, [name for name in image.attrs if name not in file.attrs])
            for name in image:
                if not _holds(file, name):
                    copy_item(image, file, name)
    if extras.source is None:
        return
    try:
        with open_hdf5(extras.source) as source:
            for name, size in extras.large:
                if _holds(file, name):
                    continue
                if _holds(source.raw, name) and _stored_bytes(source, name) == size:
                    copy_item(source.raw, file, name)
                else:
                    logger.warning('%s no longer holds %r, which is left out.', extras.source, name)
    except (OSError, EngineError) as error:
        names = ', '.join(repr(name) for name, _ in extras.large)
        logger.warning('%s cannot be read again (%s); %s left out.', extras.source, error, names)


def _holds(group: h5py.Group, name: Name) -> bool:
    # h5py's `in` wants names in UTF-8, and so does its `get`.
    return bool(group.id.links.exists(_bytes_of(name)))


def _stored_bytes(file: Hdf5Group, name: Name) -> int:
    """Return the bytes that an item of the root takes in its file; links to elsewhere take none."""
    if not isinstance(link_of(file.raw, name), h5py.HardLink):
        return 0
    total = 0
    for found in file.below(_bytes_of(name)):
        if isinstance(found.id, h5py.h5d.DatasetID):
            own = own_dataset(file.raw, h5py.Dataset(found.id))
            total += 0 if own is not None or _is_virtual(found.id) else int(found.id.get_storage_size())
    return total


def _is_virtual(id_: h5py.h5d.DatasetID) -> bool:
    return bool(id_.get_create_plist().get_layout() == h5py.h5d.VIRTUAL)
