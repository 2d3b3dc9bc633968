"""PRODUCT-30 to PRODUCT-33: our files in every Ptychodus release, and the files of every release in ours.

Each release's wheel is downloaded once, without its dependencies, and its own H5ProductFileIO runs in a child
process with the unpacked wheel first on the path. No release needs any stand-in to be imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from releases import ROOT, unpack

from ptycho_engine.formats.product import ProductData, read_product, write_product
from ptycho_engine.formats.product_validation import find_violations

pytestmark = pytest.mark.releases

HERE = Path(__file__).parent
RELEASES = ('1.2', '1.3.2', '1.4.2', '1.5.1', '1.6.0', '1.7.0')

NEW_NAMES = {
    'photon_energy_eV': 'probe_energy_eV',
    'mass_attenuation_m2_per_kg': 'mass_attenuation_m2_kg',
}
"""Metadata that 1.7 renamed: ours and the old name."""
METADATA = (
    *('name', 'comments', 'detector_distance_m', 'photon_energy_eV', 'probe_photon_count'),
    *('exposure_time_s', 'mass_attenuation_m2_per_kg', 'tomography_angle_deg', 'focus_object_distance_m'),
    *('tilt_angle_deg', 'far_field', 'polarization'),
)
SINCE = {
    'tilt_angle_deg': '1.5',
    'polarization': '1.5',
    'position_photon_counts': '1.6',
    'focus_object_distance_m': '1.7',
    'far_field': '1.7',
}
"""First release that knows an item; what a release does not know cannot come back from it."""
WRITES_TOMOGRAPHY = '1.5'
"""Earlier releases read the tomography angle but never write it."""
KINDS = ('single', 'modes', 'layers', 'opr', 'double', 'whole')


def knows(release: str, item: str) -> bool:
    return release >= SINCE.get(item, '1.0')


def product(kind: str) -> ProductData:
    """Return a product with every field set, of the kind that its name says."""
    rng = np.random.default_rng(KINDS.index(kind))
    layers = 3 if kind in ('layers', 'whole') else 1
    coherent = 2 if kind in ('opr', 'whole') else 1
    incoherent = 4 if kind in ('modes', 'whole') else 1
    n = 7
    n_losses = 0 if kind in ('single', 'modes') else 5
    dtype = np.complex128 if kind == 'double' else np.complex64

    def wave(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)

    return ProductData(
        name=f'gold {kind} μ',
        comments='two\nlines',
        detector_distance_m=2.335,
        photon_energy_eV=8801.5,
        probe_photon_count=123456.75,
        exposure_time_s=0.025,
        mass_attenuation_m2_per_kg=0.31,
        tomography_angle_deg=12.5,
        focus_object_distance_m=0.0007,
        tilt_angle_deg=-3.25,
        far_field=kind != 'opr',
        polarization='left_circular' if kind in ('opr', 'whole') else None,
        object_array=wave(layers, 41, 52),
        object_pixel_width_m=5e-8,
        object_pixel_height_m=4e-8,
        object_center_x_m=1.25e-6,
        object_center_y_m=-3.5e-6,
        object_layer_spacing_m=rng.random(layers - 1) * 1e-6,
        probe=wave(coherent, incoherent, 8, 8),
        probe_pixel_width_m=5.5e-8,
        probe_pixel_height_m=4.5e-8,
        opr_weights=rng.random((n, coherent)) if coherent > 1 else None,
        position_indexes=np.array([3, 4, 5, 8, 9, 11, 12]),
        position_x_m=1.25e-6 + rng.uniform(-1, 1, n) * 1e-6,
        position_y_m=-3.5e-6 + rng.uniform(-1, 1, n) * 8e-7,
        position_photon_counts=rng.random(n) * 1e5 if kind in ('opr', 'whole') else None,
        loss_epochs=np.arange(1, n_losses + 1),
        loss_values=rng.random(n_losses),
    )


def laid_out(data: ProductData, *, old_names: bool) -> dict[str, np.ndarray]:
    """Return a product as the driver lays one out."""
    metadata = {
        (NEW_NAMES.get(name, name) if old_names else name): getattr(data, name)
        for name in METADATA
        if getattr(data, name) is not None
    }
    arrays = {
        'metadata': np.array(json.dumps(metadata)),
        'object': data.object_array,
        'object_pixel_m': np.array([data.object_pixel_width_m, data.object_pixel_height_m]),
        'object_center_m': np.array([data.object_center_x_m, data.object_center_y_m]),
        'probe': data.probe,
        'probe_pixel_m': np.array([data.probe_pixel_width_m, data.probe_pixel_height_m]),
    }
    for name in (
        *('object_layer_spacing_m', 'position_indexes', 'position_x_m', 'position_y_m', 'loss_epochs'),
        *('loss_values', 'opr_weights', 'position_photon_counts'),
    ):
        if (value := getattr(data, name)) is not None:
            arrays[name] = value
    return arrays


@dataclass(frozen=True)
class Exchanged:
    """What one release read and wrote."""

    release: str
    folder: Path

    def read(self, stem: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / f'{stem}.npz') as arrays:
            return dict(arrays)


@pytest.fixture(scope='module', params=RELEASES)
def exchanged(request, tmp_path_factory) -> Exchanged:
    """Let one release read our files and write its own."""
    release = request.param
    folder = tmp_path_factory.mktemp(f'release-{release}')
    unpacked = unpack(release, folder / 'wheel', plugin=False)
    for kind in KINDS:
        write_product(folder / f'ours-{kind}.h5', product(kind))
        write_product(folder / f'ours-packed-{kind}.h5', product(kind), compression='gzip')
        np.savez(folder / f'made-{kind}.npz', **laid_out(product(kind), old_names=release < '1.7'))
    # First the release and the libraries it needs: neither the engine nor the installed Ptychodus.
    printed = run_driver('release_driver.py', folder, unpacked)
    assert Path(printed.strip()) == unpacked / 'ptychodus'
    return Exchanged(release, folder)


def run_driver(name: str, folder: Path, *first_on_path: Path) -> str:
    """Run a driver in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), str(folder)],
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(map(str, first_on_path)),
            'OMP_NUM_THREADS': '1',
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same_metadata(release: str, found: dict[str, object], data: ProductData) -> None:
    for name in METADATA:
        if not knows(release, name):
            assert name not in found
            continue
        expected = getattr(data, name)
        if name == 'probe_photon_count' and '1.3' <= release < '1.7':
            expected = int(expected)  # these releases cut it to whole photons when they read
        assert found[name if release >= '1.7' else NEW_NAMES.get(name, name)] == expected, name


@pytest.mark.parametrize('packed', ['', 'packed-'], ids=['plain', 'compressed'])
@pytest.mark.parametrize('kind', KINDS)
def test_product_30_a_release_reads_our_file(exchanged: Exchanged, kind: str, packed: str) -> None:
    data, release = product(kind), exchanged.release
    found = exchanged.read(f'ours-{packed}{kind}')
    assert_same_metadata(release, json.loads(str(found.pop('metadata'))), data)
    expected = laid_out(data, old_names=False)
    del expected['metadata']
    expected = {name: value for name, value in expected.items() if knows(release, name)}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


@pytest.mark.parametrize('kind', KINDS)
def test_product_31_our_reader_reads_what_a_release_wrote(exchanged: Exchanged, kind: str) -> None:
    data, release = product(kind), exchanged.release
    path = exchanged.folder / f'theirs-{kind}.h5'
    assert find_violations(path).violations == ()
    read = read_product(path)
    for name in METADATA:
        expected = getattr(data, name)
        if not knows(release, name) or (name == 'tomography_angle_deg' and release < WRITES_TOMOGRAPHY):
            expected = {'far_field': True, 'polarization': None}.get(name, 0.0)
        assert getattr(read, name) == expected, name
    expected_arrays = laid_out(data, old_names=False)
    found = laid_out(read, old_names=False)
    if not knows(release, 'position_photon_counts'):
        expected_arrays.pop('position_photon_counts', None)
    del expected_arrays['metadata'], found['metadata']
    assert set(found) == set(expected_arrays)
    for name, value in expected_arrays.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)
    assert not read.extras


@pytest.mark.parametrize('kind', KINDS)
def test_product_32_a_release_file_becomes_ours_without_loss(
    exchanged: Exchanged, kind: str, tmp_path: Path
) -> None:
    read = read_product(exchanged.folder / f'theirs-{kind}.h5')
    write_product(tmp_path / 'p.h5', read)
    again = read_product(tmp_path / 'p.h5')
    for name, value in vars(read).items():
        np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)


def test_product_33_the_adapter_converts_without_a_file(exchanged: Exchanged) -> None:
    """Products of the releases that the adapter supports, under the names of each, become ours in memory."""
    release = exchanged.release
    if release < '1.5':
        return  # reconstructors of these releases run in the window's own process; the adapter refuses them
    run_driver('adapter_driver.py', exchanged.folder, exchanged.folder / 'wheel', ROOT)
    for kind in KINDS:
        data, adapted = product(kind), read_product(exchanged.folder / f'adapted-{kind}.h5')
        for name, value in vars(data).items():
            expected = value
            if name == 'probe_photon_count' and release < '1.7':
                expected = int(value)
            if not knows(release, name):
                expected = getattr(UNKNOWN, name)
            np.testing.assert_array_equal(getattr(adapted, name), expected, err_msg=f'{kind}: {name}')


UNKNOWN = replace(
    product('single'),
    tilt_angle_deg=0.0,
    polarization=None,
    position_photon_counts=None,
    focus_object_distance_m=0.0,
    far_field=True,
)
"""What stands for items that a release does not know."""
