"""Runs inside one Ptychodus release: reads products with its own code, and writes some.

Usage: release_driver.py FOLDER. Each ``ours-*.h5`` of the folder is read by the release's H5ProductFileIO and
laid out as ``ours-*.npz``; each ``made-*.npz`` is made into a product of the release and written as
``theirs-*.h5``. Nothing of the engine is imported, and the release has to come first on PYTHONPATH.
"""

import contextlib
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import ptychodus
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product, ProductMetadata
from ptychodus.plugins.h5_product_file import H5ProductFileIO


def names(cls) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def either(item, *choices):
    """Return the attribute under the name that this release gives it."""
    return next(getattr(item, name) for name in choices if hasattr(item, name))


def lay_out(product: Product) -> dict[str, np.ndarray]:
    """Return everything a product of this release holds, as plain arrays."""
    obj, probes = product.object_, product.probes
    geometry, probe_pixel, center = obj.get_geometry(), probes.get_pixel_geometry(), obj.get_center()
    points = list(product.probe_positions)
    metadata = {
        key: getattr(value, 'value', value) for key, value in dataclasses.asdict(product.metadata).items()
    }
    arrays = {
        'metadata': np.array(json.dumps(metadata)),
        'object': obj.get_array(),
        'object_layer_spacing_m': np.asarray(obj.layer_spacing_m, np.float64),
        'object_pixel_m': np.array([geometry.pixel_width_m, geometry.pixel_height_m]),
        'object_center_m': np.array(
            [either(center, 'x_m', 'coordinate_x_m'), either(center, 'y_m', 'coordinate_y_m')]
        ),
        'probe': probes.get_array(),
        'probe_pixel_m': np.array([probe_pixel.width_m, probe_pixel.height_m]),
        'position_indexes': np.array([p.index for p in points], np.int64),
        'position_x_m': np.array([either(p, 'x_m', 'coordinate_x_m') for p in points], np.float64),
        'position_y_m': np.array([either(p, 'y_m', 'coordinate_y_m') for p in points], np.float64),
        'loss_epochs': np.array([loss.epoch for loss in product.losses], np.int64),
        'loss_values': np.array([loss.value for loss in product.losses], np.float64),
    }
    with contextlib.suppress(ValueError):
        arrays['opr_weights'] = probes.get_opr_weights()
    counts = [getattr(p, 'probe_photon_count', None) for p in points]
    if counts and None not in counts:
        arrays['position_photon_counts'] = np.array(counts, np.float64)
    return arrays


def make(arrays: dict[str, np.ndarray]) -> Product:
    """Return a product of this release with everything that the release knows of."""
    metadata = json.loads(str(arrays['metadata']))
    known = {key: value for key, value in metadata.items() if key in names(ProductMetadata)}
    if 'polarization' in known:
        known['polarization'] = importlib.import_module('ptychodus.api.diffraction').Polarization(
            known['polarization']
        )
    counts = arrays.get('position_photon_counts')
    has_counts = counts is not None and 'probe_photon_count' in names(ProbePosition)
    points = [
        ProbePosition(int(index), float(x), float(y), *([float(counts[i])] if has_counts else []))
        for i, (index, x, y) in enumerate(
            zip(
                arrays['position_indexes'],
                arrays['position_x_m'],
                arrays['position_y_m'],
                strict=True,
            )
        )
    ]
    return Product(
        metadata=ProductMetadata(**known),
        probe_positions=ProbePositionSequence(points),
        probes=ProbeSequence(
            arrays['probe'], arrays.get('opr_weights'), PixelGeometry(*map(float, arrays['probe_pixel_m']))
        ),
        object_=Object(
            arrays['object'],
            PixelGeometry(*map(float, arrays['object_pixel_m'])),
            ObjectCenter(*map(float, arrays['object_center_m'])),
            arrays['object_layer_spacing_m'].tolist(),
        ),
        losses=[
            LossValue(int(e), float(v))
            for e, v in zip(arrays['loss_epochs'], arrays['loss_values'], strict=True)
        ],
    )


def main(folder: Path) -> None:
    for path in sorted(folder.glob('ours-*.h5')):
        np.savez(path.with_suffix('.npz'), **lay_out(H5ProductFileIO().read(path)))
    for path in sorted(folder.glob('made-*.npz')):
        with np.load(path) as arrays:
            product = make(dict(arrays))
        written = path.with_name(path.stem.replace('made', 'theirs') + '.h5')
        H5ProductFileIO().write(written, product)
    print(Path(ptychodus.__file__).parent)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
