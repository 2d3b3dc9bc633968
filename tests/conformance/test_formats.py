"""The same scan by every way in: NPZ of each vintage, what Ptychodus writes, and memory maps (FMT-*)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip('ptychodus.api.product')

import ptychodus.api.io as ptychodus_io
from ptychodus.api.reconstruct import ReconstructInput
from scan_maker import PIXEL_M, product_of, simulated_scan, write_scan

from ptycho_engine.errors import DataKeyError, DataValueError
from ptycho_engine.scan.grouping import build_groups
from ptycho_engine.scan.product_exchange import export_product_from_rawdata
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan, find_training_scans, load_scan, load_training_scans
from ptycho_engine.upstream.memmap import MemmapDatasetBridge

pytestmark = pytest.mark.ptychodus


@dataclass(frozen=True)
class Measured:
    """One scan, and what Ptychodus holds of it."""

    raw: RawData
    counts: np.ndarray
    bad: np.ndarray

    def input(self, dtype: str = '<i4') -> ReconstructInput:
        return ReconstructInput(self.counts.astype(dtype), self.bad, product_of(self.raw))


@pytest.fixture(scope='module')
def measured() -> Measured:
    raw = simulated_scan(size=32, grid=4)
    bad = np.zeros((32, 32), bool)
    bad[16:19, 5:9] = True
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.int32)
    return Measured(raw, counts, bad)


def arrays_of(measured: Measured) -> dict[str, np.ndarray]:
    raw = measured.raw
    assert raw.objectGuess is not None
    return {
        'diffraction': np.sqrt(measured.counts).astype(np.float32),
        'probeGuess': raw.probeGuess[0],
        'xcoords': raw.xcoords,
        'ycoords': raw.ycoords,
        'objectGuess': raw.objectGuess,
        'bad_pixels': measured.bad,
    }


def old_export(path: Path, measured: Measured, dtype: str) -> None:
    """What ``save_ptychopinn_training_data`` of Ptychodus 1.4 to 1.6 writes: bad pixels zeroed, not named."""
    parameters = measured.input(dtype)
    geometry = parameters.product.object_.get_geometry()
    x = geometry.map_probe_positions_to_object_x_px(parameters.product.probe_positions)
    y = geometry.map_probe_positions_to_object_y_px(parameters.product.probe_positions)
    np.savez(
        path,
        xcoords=x,
        ycoords=y,
        xcoords_start=x,
        ycoords_start=y,
        diff3d=np.where(measured.bad, 0, measured.counts).astype(dtype),
        probeGuess=parameters.product.probes.get_probe_no_opr().get_incoherent_mode(0),
        objectGuess=parameters.product.object_.get_layer(0),
        scan_index=np.zeros(len(x), dtype=int),
    )


def entry(way: str, folder: Path, measured: Measured) -> RawData:
    """Write the scan in one way and read it."""
    path = folder / 'scan.npz'
    arrays = arrays_of(measured)
    match way:
        case 'amplitude' | 'mapped':
            np.savez(path, **arrays)
        case 'compressed':
            np.savez_compressed(path, **arrays)
        case 'counts' | 'mapped counts':
            np.savez(path, **{**arrays, 'diffraction': measured.counts.astype(np.uint16)})
        case 'float counts':
            metadata = np.array(json.dumps({'measurement_domain': 'counts'}))
            np.savez(path, **{**arrays, 'diffraction': measured.counts.astype(float)}, _metadata=metadata)
        case 'legacy' | 'mapped legacy':
            legacy = arrays.pop('diffraction').transpose(1, 2, 0).astype(np.float64)
            arrays['probeGuess'] = arrays['probeGuess'].astype(np.complex128)
            np.savez(path, **arrays, diff3d=legacy)
        case 'directory':
            write_scan(folder / 'in', measured.raw)
            with h5py.File(folder / 'in' / 'diffraction.h5', 'a') as file:
                file['bad_pixels'][...] = measured.bad
            return load_scan(folder / 'in').raw
        case '1.7 integers' | '1.7 floats':
            dtype = '<i4' if way == '1.7 integers' else '<f4'
            ptychodus_io.save_ptychopinn_training_data(path, measured.input(dtype))
        case '1.4 integers' | '1.4 floats':
            old_export(path, measured, '<u2' if way == '1.4 integers' else '<f8')
        case '1.7 HDF5' | '1.7 HDF5 floats':
            path = folder / 'training.h5'
            ptychodus_io.save_training_data(path, measured.input('<i4' if way == '1.7 HDF5' else '<f4'))
            return load_scan(path).raw
        case 'product':
            path = folder / 'product.h5'
            export_product_from_rawdata(RawData(**arrays), path, include_diffraction=True)
            return load_scan(path).raw
    return MemmapDatasetBridge(path).raw_data if way.startswith('mapped') else load_scan(path).raw


WAYS = (
    *('amplitude', 'compressed', 'counts', 'float counts', 'legacy', 'directory', 'product'),
    *('mapped', 'mapped counts', 'mapped legacy'),
    *('1.4 integers', '1.4 floats', '1.7 integers', '1.7 floats'),
    *('1.7 HDF5', '1.7 HDF5 floats'),
)


@pytest.mark.parametrize('way', WAYS)
def test_fmt_01_every_way_in_gives_the_same_scan(way: str, measured: Measured, tmp_path: Path) -> None:
    found = entry(way, tmp_path, measured)
    expected = np.where(measured.bad, 0, np.sqrt(measured.counts))
    np.testing.assert_allclose(found.diffraction[:], expected, rtol=1e-6)
    if not way.startswith('1.4'):
        np.testing.assert_array_equal(found.bad_pixels, measured.bad)
    raw = measured.raw
    np.testing.assert_allclose(found.probeGuess, raw.probeGuess, rtol=1e-6)
    # Metres and back: equal to a billionth of a pixel, and the groups, which round, to the bit.
    np.testing.assert_allclose(found.xcoords, raw.xcoords, atol=1e-9)
    np.testing.assert_allclose(found.ycoords, raw.ycoords, atol=1e-9)
    groups = [build_groups(np.stack([r.xcoords, r.ycoords], 1), 2, seed=3) for r in (found, raw)]
    np.testing.assert_array_equal(*groups)


def test_fmt_02_units_can_be_said(measured: Measured, tmp_path: Path) -> None:
    arrays = arrays_of(measured)
    arrays['diffraction'] = measured.counts.astype(np.float32)
    np.savez(tmp_path / 'x.npz', **arrays)
    for said in ({}, {'domain': 'counts'}):
        found = RawData.from_file(tmp_path / 'x.npz', **said)
        np.testing.assert_allclose(
            np.square(found.diffraction), np.where(measured.bad, 0, measured.counts), rtol=1e-5
        )
    contrary = RawData.from_file(tmp_path / 'x.npz', domain='amplitude')
    assert contrary.diffraction[:].max() == measured.counts[:, ~measured.bad].max()
    np.savez(tmp_path / 'y.npz', **arrays, _metadata=np.array(json.dumps({'measurement_domain': 'photons'})))
    with pytest.raises(DataValueError, match=r"measurement_domain is 'photons'; expected 'amplitude'"):
        RawData.from_file(tmp_path / 'y.npz')


def test_npz_10_stated_photons_rule_over_those_of_the_patterns(measured: Measured, tmp_path: Path) -> None:
    arrays = arrays_of(measured)
    own = np.square(arrays['diffraction'], dtype=np.float64)[:, ~measured.bad].sum(axis=1).mean()
    arrays['diffraction'] = arrays['diffraction'] / 7
    path = tmp_path / 'x.npz'
    physics = {'nphotons': 5e8}
    np.savez(path, **arrays, _metadata=np.array(json.dumps({'physics_parameters': physics})))

    def photons(**said: Any) -> float:
        return float(np.square(RawData.from_file(path, **said).diffraction[:]).sum(axis=(1, 2)).mean())

    assert photons() == pytest.approx(own, rel=1e-4)
    for limit in (0, 10**9):
        assert photons(domain='normalised', memory_limit=limit) == pytest.approx(5e8, rel=1e-5)
    for said in ({}, {'domain': 'normalised'}):
        assert photons(**said, nphotons=100) == pytest.approx(100, rel=1e-5)
    np.savez(path, **arrays)
    assert photons(domain='normalised') == pytest.approx(own, rel=1e-4)


def test_fmt_04_training_directories_hold_any_of_them(measured: Measured, tmp_path: Path) -> None:
    ptychodus_io.save_training_data(tmp_path / 'b.h5', measured.input())
    ptychodus_io.save_ptychopinn_training_data(tmp_path / 'a.npz', measured.input())
    ptychodus_io.save_product(tmp_path / 'product.h5', product_of(measured.raw))
    assert find_training_scans(tmp_path) == [tmp_path / 'a.npz', tmp_path / 'b.h5']
    scans = load_training_scans(tmp_path)
    np.testing.assert_allclose(scans[0].raw.diffraction, scans[1].raw.diffraction)
    for name in ('one', 'two'):
        write_scan(tmp_path / 'runs' / name, measured.raw)
    assert find_training_scans(tmp_path / 'runs') == [tmp_path / 'runs' / name for name in ('one', 'two')]


def test_fmt_03_a_training_file_brings_a_product_on_its_own_grid(measured: Measured, tmp_path: Path) -> None:
    path = tmp_path / 'training.h5'
    ptychodus_io.save_training_data(path, measured.input())
    scan = load_scan(path)
    assert isinstance(scan, Scan)
    assert scan.product is not None
    assert scan.grid.pixel_width_m == pytest.approx(PIXEL_M)
    assert scan.product.photon_energy_eV == 8800
    x, y = scan.product.positions_px()
    np.testing.assert_allclose(x, measured.raw.xcoords, atol=1e-9)
    np.testing.assert_allclose(y, measured.raw.ycoords, atol=1e-9)
    with h5py.File(path, 'a') as file:
        del file['probe']
    with pytest.raises(DataKeyError, match=r"training\.h5 lacks 'probe'; expected patterns, bad_pixels"):
        load_scan(path)


def test_dir_03_either_file_of_a_pair_names_it(measured: Measured, tmp_path: Path) -> None:
    write_scan(tmp_path, measured.raw)
    for name in ('diffraction.h5', 'product.h5'):
        np.testing.assert_array_equal(
            load_scan(tmp_path / name).raw.diffraction, load_scan(tmp_path).raw.diffraction
        )
