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

__all__ = [
    'DAMAGE',
    'ProductExtras',
    'collect_extras',
    'with_dataset',
    'with_uncertainty',
    'write_extras',
]

logger = logging.getLogger('ptychopinn.files')

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, OverflowError, MemoryError)
"""What h5py raises, here and there, when it comes upon damaged bytes."""

MEMORY_LIMIT_BYTES = 64 << 20
"""Unknown items of a file beyond this size, all together, stay in that file until they are copied."""


UNCERTAINTY_DATASET = 'ptychopinn_object_uncertainty'
"""Name of the uncertainty map at the root of a product file; Ptychodus passes over what it does not know."""


@dataclass(frozen=True)
class ProductExtras:
    """Root attributes, datasets and groups of a product file that the contract does not name."""

    image: bytes = b''
    """An HDF5 file that holds the root attributes and the small items; empty where there are none."""
    source: Path | None = None
    """File that holds the large items."""
    large: tuple[tuple[str, int], ...] = ()
    """Name and stored bytes of each large item, which is copied from `source` when it is written."""

    def __bool__(self) -> bool:
        return bool(self.image or self.large)


def collect_extras(
    file: h5py.File, path: Path, known_attributes: Collection[str], known_items: Collection[str]
) -> ProductExtras:
    """Return what is at the root of an open product file beside the known attributes and items.

    What h5py cannot read, damaged or of an exotic type, is left out with a warning.
    """
    attributes = [name for name in file.attrs if name not in known_attributes]
    sizes = {}
    for name in file:
        if name not in known_items:
            with _warned(path, name):
                sizes[name] = _stored_bytes(file, name)
    if not attributes and not sizes:
        return ProductExtras()
    small, budget = [], MEMORY_LIMIT_BYTES
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        if size <= budget:
            small.append(name)
            budget -= size
    large = tuple((name, sizes[name]) for name in sorted(set(sizes) - set(small)))
    # The name is never on disk; it only has to differ from those of other files open in this process.
    with h5py.File(f'extras-{uuid.uuid4()}', 'w', driver='core', backing_store=False) as image:
        for name in attributes:
            with _warned(path, name):
                _copy_attributes(file, image, [name])
        for name in sorted(small):
            with _warned(path, name):
                _copy_item(file, image, name)
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
                _copy_attributes(old, image)
                for item in old:
                    if item != name:
                        _copy_item(old, image, item)
        image.create_dataset(name, data=array).attrs.update(attributes)
        image.flush()
        data = bytes(image.id.get_file_image())
    return replace(extras, image=data, large=tuple(item for item in extras.large if item[0] != name))


def with_uncertainty(extras: ProductExtras, uncertainty: npt.NDArray[np.float32]) -> ProductExtras:
    """Return `extras` with the uncertainty (H, W) of the object, NaN where it is unknown."""
    meaning = 'standard deviation of the object, in units of its amplitude; NaN: unknown'
    return with_dataset(extras, UNCERTAINTY_DATASET, uncertainty, {'description': meaning})


@contextmanager
def _warned(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (*DAMAGE, TypeError) as error:
        logger.warning('%s: %r cannot be read (%s) and is left out.', path, name, error)


def write_extras(file: h5py.File, extras: ProductExtras) -> None:
    """Write the extras into an open product file whose own datasets are already there.

    Large items that are no longer in their source are left out with a warning.
    """
    if extras.image:
        with h5py.File(io.BytesIO(extras.image), 'r') as image:
            _copy_attributes(image, file, [name for name in image.attrs if name not in file.attrs])
            for name in image:
                if name not in file:
                    _copy_item(image, file, name)
    if extras.source is None:
        return
    try:
        with h5py.File(extras.source, 'r') as source:
            for name, size in extras.large:
                if name in source and _stored_bytes(source, name) == size:
                    _copy_item(source, file, name)
                else:
                    logger.warning('%s no longer holds %r, which is left out.', extras.source, name)
    except OSError as error:
        names = ', '.join(repr(name) for name, _ in extras.large)
        logger.warning('%s cannot be read again (%s); %s left out.', extras.source, error, names)


def _stored_bytes(file: h5py.File, name: str) -> int:
    """Return the bytes that an item of the root takes in its file; links to elsewhere take none."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return 0
    item = file[name]
    if isinstance(item, h5py.Dataset):
        return int(item.id.get_storage_size())
    if not isinstance(item, h5py.Group):
        return 0
    total = 0

    def add(_: str, member: h5py.HLObject) -> None:
        nonlocal total
        if isinstance(member, h5py.Dataset) and _own_dataset(file, member) is None:
            total += int(member.id.get_storage_size())

    item.visititems(add)
    return total


def _copy_attributes(
    source: h5py.HLObject, target: h5py.HLObject, names: Collection[str] | None = None
) -> None:
    for name in source.attrs if names is None else names:
        value = source.attrs[name]
        dtype = None if isinstance(value, h5py.Empty) else source.attrs.get_id(name).dtype
        target.attrs.create(name, value, dtype=dtype)


def _copy_item(source: h5py.File, target: h5py.File, name: str) -> None:
    """Copy an item of the root; a group's links to the product's own datasets become such links again."""
    link = source.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        target[name] = link
        return
    item = source[name]
    if not isinstance(item, h5py.Group):
        source.copy(name, target)
        return
    group = target.create_group(name)
    _copy_attributes(item, group)
    for member in item:
        link = item.get(member, getlink=True)
        if isinstance(link, h5py.SoftLink):
            own = link.path.removeprefix('/') if link.path in ('/object', '/probe') else None
        elif isinstance(link, h5py.HardLink):
            own = _own_dataset(source, item[member])
        else:
            own = None
        if own is not None:
            # In an image, which lacks those datasets, the link waits as a soft one.
            group[member] = target[own] if own in target else h5py.SoftLink(f'/{own}')
        elif isinstance(link, h5py.HardLink):
            source.copy(item[member], group, name=member)
        else:
            group[member] = link


def _own_dataset(file: h5py.File, item: h5py.HLObject) -> str | None:
    """Return 'object' or 'probe' if `item` is that very dataset of the root."""
    return next((name for name in ('object', 'probe') if name in file and file[name] == item), None)
