"""CXI clauses: files that are written by the format's own description, and ours read back."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.errors import DataKeyError, DataValueError
from ptycho_engine.formats.cxi import holds_cxi_patterns, read_cxi_object, read_cxi_scan, write_cxi
from ptycho_engine.formats.measurement import Geometry
from ptycho_engine.scan.measured import scan_of_measurement
from ptycho_engine.scan.scan import load_scan
from ptycho_engine.scan.written import PROGRAM, write_scan_as
from tests.conftest import small_scan

JOULE = 1.602176634e-19


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=5)


def write_by_hand(path: Path, raw, pixel_m: float = 2e-8, **drop: bool) -> None:
    """A CXI file by the description of the format alone."""
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.int32)
    mask = np.zeros((64, 64), np.uint32)
    # Dead; in a peak, which is no fault; saturated and in a peak.
    mask[3, 4], mask[5, 6], mask[7, 8] = 0x8, 0x20, 0x22
    energy, distance = 8800.0, 2.0
    detector_m = 1.2398419843e-6 / energy * distance / (64 * pixel_m)
    with h5py.File(path, 'w') as file:
        file['cxi_version'] = 160
        detector = file.create_group('entry_1/instrument_1/detector_1')
        detector['data'], detector['mask'], detector['distance'] = counts, mask, distance
        if drop.get('sizes'):
            detector['basis_vectors'] = [[0, detector_m], [detector_m, 0], [0, 0]]
        else:
            detector['x_pixel_size'] = detector['y_pixel_size'] = detector_m
        file['entry_1/instrument_1/source_1/energy'] = energy * JOULE
        shift = np.zeros((len(raw), 3))
        shift[:, 0], shift[:, 1] = raw.xcoords * pixel_m, raw.ycoords * pixel_m
        if not drop.get('translation'):
            file['entry_1/sample_1/geometry_1/translation'] = shift
        file['entry_1/data_1/data'] = h5py.SoftLink('/entry_1/instrument_1/detector_1/data')


@pytest.mark.parametrize('sizes', [False, True])
def test_cxi_01_a_file_by_the_description_is_read(raw, tmp_path, sizes) -> None:
    write_by_hand(tmp_path / 'a.cxi', raw, sizes=sizes)
    patterns, positions, probe = read_cxi_scan(tmp_path / 'a.cxi')
    assert probe is None
    assert patterns.geometry.photon_energy_eV == pytest.approx(8800, rel=1e-9)
    np.testing.assert_array_equal(np.argwhere(patterns.bad_pixels), [[3, 4], [7, 8]])
    scan = scan_of_measurement(patterns, positions, None, name='a')
    assert scan.product.object_pixel_width_m == pytest.approx(2e-8, rel=1e-6)
    np.testing.assert_allclose(np.diff(scan.raw.xcoords), np.diff(raw.xcoords), atol=1e-5)
    assert scan.raw.diffraction[:, 7, 8].max() == 0


def test_cxi_02_what_is_missing_is_said(raw, tmp_path) -> None:
    write_by_hand(tmp_path / 'a.cxi', raw, translation=True)
    with pytest.raises(DataKeyError, match=r'lacks positions: expected /entry_1/sample_1/geometry_1/trans'):
        read_cxi_scan(tmp_path / 'a.cxi')
    (tmp_path / 'b.cxi').write_text('nothing')
    with pytest.raises(DataValueError, match=r'b\.cxi is not'):
        read_cxi_scan(tmp_path / 'b.cxi')


def test_cxi_03_a_scan_that_is_written_comes_back(raw, tmp_path) -> None:
    write_by_hand(tmp_path / 'a.cxi', raw)
    patterns, positions, _ = read_cxi_scan(tmp_path / 'a.cxi')
    scan = scan_of_measurement(patterns, positions, None, name='a')
    modes = np.concatenate([raw.probeGuess, raw.probeGuess[:, ::-1] / 3])
    scan = replace(
        scan,
        raw=replace(scan.raw, probeGuess=modes),
        product=replace(scan.product, probe=modes, comments='two\nlines'),
    )
    write_scan_as(tmp_path / 'b.cxi', scan)
    found, where, probe = read_cxi_scan(tmp_path / 'b.cxi')
    np.testing.assert_array_equal(found.counts[:], np.where(patterns.bad_pixels, 0, patterns.counts[:]))
    assert found.counts.dtype == np.uint16
    np.testing.assert_array_equal(found.bad_pixels, patterns.bad_pixels)
    np.testing.assert_allclose(where.x, positions.x, rtol=1e-12)
    np.testing.assert_array_equal(probe.modes, modes)
    assert found.geometry.detector_pixel_width_m == pytest.approx(
        patterns.geometry.detector_pixel_width_m, rel=1e-9
    )
    product = read_cxi_object(tmp_path / 'b.cxi')
    assert product.comments == 'two\nlines'
    np.testing.assert_allclose(product.positions_px(), scan.product.positions_px(), atol=1e-6)


def test_cxi_04_a_result_comes_back_with_its_lengths(raw, tmp_path) -> None:
    write_by_hand(tmp_path / 'a.cxi', raw)
    scan = scan_of_measurement(*read_cxi_scan(tmp_path / 'a.cxi'), name='a')
    image = np.exp(1j * np.random.default_rng(0).normal(size=scan.grid.shape)).astype(np.complex64)
    product = replace(scan.product, object_array=image, loss_epochs=[1, 2], loss_values=[3.0, 2.0])
    write_cxi(tmp_path / 'r.cxi', product, program=PROGRAM)
    assert not holds_cxi_patterns(tmp_path / 'r.cxi')
    assert holds_cxi_patterns(tmp_path / 'a.cxi')
    found = read_cxi_object(tmp_path / 'r.cxi')
    np.testing.assert_array_equal(found.object_array[0], image)
    for name in ('object_pixel_width_m', 'object_center_x_m', 'photon_energy_eV', 'detector_distance_m'):
        assert getattr(found, name) == pytest.approx(getattr(product, name), rel=1e-12), name


def test_cxi_05_every_command_takes_one(raw, tmp_path, capsys) -> None:
    """A probe is estimated where there is none."""
    write_by_hand(tmp_path / 'a.cxi', raw)
    path = str(tmp_path / 'a.cxi')
    assert main(['prepare', path, '--crop', '48', '--output', str(tmp_path / 'small.npz'), '--quiet']) == 0
    assert load_scan(tmp_path / 'small.npz').raw.N == 48
    assert main(['doctor', '--data-only', path]) == 0
    said = capsys.readouterr()
    assert 'patterns, probe and positions agree' in ' '.join(said.out.split())
    assert 'probe is estimated from the mean pattern' in ' '.join(said.err.split())


def test_cxi_03_a_scan_of_unknown_energy_comes_back_too(raw, tmp_path) -> None:
    write_by_hand(tmp_path / 'a.cxi', raw)
    patterns, positions, _ = read_cxi_scan(tmp_path / 'a.cxi')
    bare = replace(patterns, geometry=Geometry(object_pixel_m=2e-8))
    write_scan_as(tmp_path / 'b.cxi', scan_of_measurement(bare, positions, None, name='a'))
    found = scan_of_measurement(*read_cxi_scan(tmp_path / 'b.cxi'), name='b')
    assert found.product.object_pixel_width_m == 2e-8
    np.testing.assert_allclose(np.diff(found.raw.xcoords), np.diff(raw.xcoords), atol=1e-5)
