"""READER clauses: files of beamlines, by the readers of Ptychodus.

Each file is written by the format's own description (h5py, tifffile, NumPy) or by Ptychodus' writers, and
read back through the commands.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

pytest.importorskip('ptychodus.api.diffraction')

from ptychodus.plugins.cxi_file import CXIDiffractionFileReader, CXIProductFileIO
from releases import SUPPORTED, environment_of, unpack
from scan_maker import DETECTOR_PIXEL_M, ENERGY_EV, simulated_scan, write_scan

from ptycho_engine.commands import main
from ptycho_engine.errors import DataValueError
from ptycho_engine.formats.product import read_product
from ptycho_engine.formats.product_data import ProductData
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.scoring.scores import score
from ptychopinn_ptychodus.file_readers import read_patterns, read_positions, read_probe

pytestmark = pytest.mark.ptychodus

LAMBDA_M = 1.23984198e-6 / ENERGY_EV


@dataclass(frozen=True)
class Measured:
    """A scan that Ptychodus has written, and what other programs hold of it."""

    folder: Path
    scan: Scan
    counts: np.ndarray
    """(n, N, N) uint32"""
    x: np.ndarray
    """(n,) metres"""
    y: np.ndarray
    distance_m: float


@pytest.fixture(scope='module')
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp('measured')
    write_scan(folder, simulated_scan(grid=6), {})
    scan = load_scan(folder)
    assert scan.product is not None
    counts = np.rint(np.square(scan.raw.diffraction, dtype=np.float64)).astype(np.uint32)
    np.save(folder / 'probe.npy', scan.raw.probeGuess)
    product = scan.product
    return Measured(
        folder, scan, counts, product.position_x_m, product.position_y_m, product.detector_distance_m
    )


def tiff_series(folder: Path, m: Measured) -> list[str]:
    for number, frame in enumerate(m.counts):
        # Unpadded numbers sort as numbers.
        tifffile.imwrite(folder / f'run7_{number}.tif', frame.astype(np.uint16))
    np.savetxt(folder / 'stage.csv', np.stack([m.y, m.x], axis=1), delimiter=',')
    return ['run7_3.tif', '--positions', 'stage.csv', *geometry(m)]


def tiff_stack(folder: Path, m: Measured) -> list[str]:
    tifffile.imwrite(folder / 'stack_1.tiff', m.counts.astype(np.uint16))
    np.savetxt(folder / 'stage.txt', np.stack([m.x, m.y], axis=1))
    return ['stack_1.tiff', '--positions', 'stage.txt', *geometry(m)]


def npy_frames(folder: Path, m: Measured) -> list[str]:
    np.save(folder / 'frames.npy', m.counts)
    np.savetxt(folder / 'stage.txt', np.stack([m.x, m.y], axis=1))
    return ['frames.npy', '--positions', 'stage.txt', *geometry(m)]


def nanomax(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / '000012.h5', 'w') as file:
        file['entry/measurement/eiger1m/frames'] = m.counts
        file['entry/measurement/pseudo/x'], file['entry/measurement/pseudo/y'] = m.x * 1e6, m.y * 1e6
    return ['000012.h5', '--reader', 'MAX_IV_NanoMAX', *geometry(m)]


def csaxs(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / 'run.h5', 'w') as file:
        file.create_dataset('entry/data/data', data=m.counts, chunks=(1, 64, 64), compression='gzip')
        file['entry/instrument/monochromator/distance'] = m.distance_m * 1e3
        file['entry/instrument/monochromator/energy'] = ENERGY_EV / 1e3
        for axis in 'xy':
            file[f'entry/instrument/eiger_4/{axis}_pixel_size'] = DETECTOR_PIXEL_M * 1e6
    np.savetxt(folder / 'stage.csv', np.stack([m.y, m.x], axis=1), delimiter=',')
    return ['run.h5', '--positions', 'stage.csv']


def nsls_style_1(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / 'scan_1.h5', 'w') as file:
        file['entry/data/data'], file['scan/scan_positions'] = m.counts, np.stack([m.x, m.y]) * 1e6
        file['scan/energy'], file['scan/exposure_time'] = ENERGY_EV, 0.1
    return ['scan_1.h5', '--positions', 'scan_1.h5', *geometry(m)[2:]]


def nsls_style_2(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / 'scan_2.h5', 'w') as file:
        # Amplitudes, as the name says.
        file['diffamp'] = np.sqrt(m.counts).astype(np.float32)
        file['points'] = np.stack([m.x, m.y]) * 1e6
        file['ccd_pixel_um'], file['lambda_nm'] = DETECTOR_PIXEL_M * 1e6, LAMBDA_M * 1e9
        file['z_m'], file['angle'] = m.distance_m, 0.0
    return ['scan_2.h5', '--positions', 'scan_2.h5']


def fold_slice(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / 's_dp.hdf5', 'w') as file:
        file['dp'] = m.counts
    with h5py.File(folder / 's_para.hdf5', 'w') as file:
        file['ppX'], file['ppY'] = m.x[None], m.y[None]
    return ['s_dp.hdf5', '--positions', 's_para.hdf5', *geometry(m)]


def lcls(folder: Path, m: Measured) -> list[str]:
    with h5py.File(folder / 'run_3.h5', 'w') as file:
        file['jungfrau1M/image_img'] = m.counts.astype(np.float32)
        # The sample faces the beam, and its stage moves up along the last axis.
        file['lmc/ch03'], file['lmc/ch04'], file['lmc/ch05'] = -m.x * 1e6, 0 * m.x, -m.y * 1e6
        file['ipm2/sum'] = np.full(len(m.x), 2500.0)
    return ['run_3.h5', '--reader', 'LCLS_XPP', *geometry(m)]


def cxi_by_ptychodus(folder: Path, m: Measured) -> list[str]:
    """Patterns and product in a file each, by Ptychodus' own writers."""
    from ptychodus.api.diffraction import DiffractionDatasetLayoutNode as Node
    from ptychodus.api.diffraction import (
        DiffractionMetadata,
        SimpleDiffractionArray,
        SimpleDiffractionDataset,
    )
    from ptychodus.api.geometry import ImageExtent, PixelGeometry
    from ptychodus.api.io import load_product
    from ptychodus.plugins.cxi_file import CXIDiffractionFileWriter

    metadata = DiffractionMetadata(
        [len(m.counts)],
        m.counts.dtype,
        ImageExtent(64, 64),
        m.distance_m,
        PixelGeometry(DETECTOR_PIXEL_M, DETECTOR_PIXEL_M),
        photon_energy_eV=ENERGY_EV,
    )
    array = SimpleDiffractionArray('a', np.arange(len(m.counts)), m.counts)
    CXIDiffractionFileWriter().write(
        folder / 'patterns.cxi', SimpleDiffractionDataset(metadata, Node.create_root(), [array])
    )
    CXIProductFileIO().write(folder / 'product.cxi', load_product(m.folder / 'product.h5'))
    return ['patterns.cxi', '--positions', 'product.cxi', '--reader', 'CXI']


def geometry(m: Measured) -> list[str]:
    words = {'--energy-eV': ENERGY_EV, '--distance-m': m.distance_m, '--pixel-size-m': DETECTOR_PIXEL_M}
    return [str(word) for pair in words.items() for word in pair]


QUICKLY = ('--model', 'none', '--calibrate', 'off', '--quiet')

FORMATS = (
    *(tiff_series, tiff_stack, npy_frames, nanomax, csaxs),
    *(nsls_style_1, nsls_style_2, fold_slice, lcls, cxi_by_ptychodus),
)


@pytest.mark.parametrize('write', FORMATS, ids=lambda write: write.__name__)
def test_reader_01_the_same_scan_by_every_format(
    write: Callable[[Path, Measured], list[str]],
    measured: Measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """READER-03, by ``convert`` to NPZ: counts, positions to a thousandth of a pixel, the pixel size."""
    monkeypatch.chdir(tmp_path)
    words = [*write(tmp_path, measured), '--probe', str(measured.folder / 'probe.npy')]
    assert main(['convert', *words, '--output', 'scan.npz', '--quiet']) == 0
    found, given = load_scan(tmp_path / 'scan.npz').raw, measured.scan.raw
    np.testing.assert_allclose(np.square(found.diffraction), measured.counts, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(np.diff(found.xcoords), np.diff(given.xcoords), atol=1e-3)
    np.testing.assert_allclose(np.diff(found.ycoords), np.diff(given.ycoords), atol=1e-3)
    assert measured.scan.product is not None
    assert found.metadata['object_pixel_size_m'] == pytest.approx(
        measured.scan.product.object_pixel_width_m, rel=1e-5
    )


def test_reader_02_from_bare_frames_to_a_result_that_ptychodus_reads(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Doctor, reconstruction, TIFF and CXI, with a probe that is estimated."""
    monkeypatch.chdir(tmp_path)
    words = tiff_series(tmp_path, measured)
    assert main(['doctor', '--data-only', *words]) == 0, capsys.readouterr().out
    assert "Ptychodus' reader TIFF" in ' '.join(capsys.readouterr().err.split())
    formats = ['--formats', 'tiff', 'cxi', '--quiet']
    assert main(['reconstruct', *words, '--model', 'none', '--output', 'r', *formats]) == 0
    product = read_product(tmp_path / 'r' / 'product.h5')
    theirs = CXIProductFileIO().read(tmp_path / 'r' / 'reconstruction.cxi')
    np.testing.assert_array_equal(theirs.object_.get_array(), product.object_array)
    geometry_ = theirs.object_.get_geometry()
    assert geometry_.pixel_width_m == product.object_pixel_width_m
    assert geometry_.center_x_m == product.object_center_x_m
    np.testing.assert_array_equal(theirs.probes.get_array(), product.probe)
    assert theirs.metadata.photon_energy_eV == pytest.approx(ENERGY_EV)
    phase = tifffile.imread(tmp_path / 'r' / 'reconstruction_phase.tif')
    np.testing.assert_allclose(phase, np.angle(product.object_array[0]), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope='module')
def image(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The middle of that of the scan as Ptychodus holds it."""
    result = tmp_path_factory.mktemp('image')
    assert main(['reconstruct', str(measured.folder), '--output', str(result), *QUICKLY]) == 0
    return middle_of(read_product(result / 'product.h5'))


def middle_of(product: ProductData) -> np.ndarray:
    """Return the part of its object that most patterns show."""
    row, column = (int(np.rint(np.median(axis))) for axis in product.positions_px()[::-1])
    return product.object_array[0, row - 30 : row + 30, column - 30 : column + 30]


@pytest.mark.parametrize('write', FORMATS, ids=lambda write: write.__name__)
def test_reader_02_every_format_goes_all_the_way(
    write: Callable[[Path, Measured], list[str]],
    measured: Measured,
    image: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Doctor, then an image as of Ptychodus' own scan: product, TIFF, and CXI that Ptychodus reads."""
    monkeypatch.chdir(tmp_path)
    words = [*write(tmp_path, measured), '--probe', str(measured.folder / 'probe.npy')]
    assert main(['doctor', '--data-only', *words]) == 0, capsys.readouterr().out
    assert 'agree' in capsys.readouterr().out
    assert main(['reconstruct', *words, '--output', 'r', '--formats', 'tiff', 'cxi', *QUICKLY]) == 0
    product = read_product(tmp_path / 'r' / 'product.h5')
    assert score(image, middle_of(product), (slice(8, 52), slice(8, 52))).nrmse < 0.02
    theirs = CXIProductFileIO().read(tmp_path / 'r' / 'reconstruction.cxi')
    np.testing.assert_array_equal(theirs.object_.get_array(), product.object_array)
    np.testing.assert_array_equal(theirs.probes.get_array(), product.probe)
    assert theirs.object_.get_geometry().pixel_width_m == product.object_pixel_width_m
    np.testing.assert_allclose(theirs.probe_positions.get_coordinates_x_m(), product.position_x_m, rtol=1e-12)
    np.testing.assert_allclose(np.diff(product.position_x_m), np.diff(measured.x), atol=1e-12)
    for name, part in (('amplitude', np.abs), ('phase', np.angle)):
        written = tifffile.imread(tmp_path / 'r' / f'reconstruction_{name}.tif')
        np.testing.assert_allclose(written, part(product.object_array[0]), rtol=1e-5, atol=1e-6)


def test_reader_03_a_cxi_scan_of_ours_opens_in_ptychodus(measured: Measured, tmp_path: Path) -> None:
    assert main(['convert', str(measured.folder), '--output', str(tmp_path / 'scan.cxi'), '--quiet']) == 0
    dataset = CXIDiffractionFileReader().read(tmp_path / 'scan.cxi')
    (array,) = dataset
    np.testing.assert_array_equal(array.get_patterns(), measured.counts)
    metadata = dataset.get_metadata()
    assert metadata.detector_pixel_geometry is not None
    assert metadata.detector_pixel_geometry.width_m == pytest.approx(DETECTOR_PIXEL_M, rel=1e-6)
    assert metadata.photon_energy_eV == pytest.approx(ENERGY_EV)
    product = CXIProductFileIO().read(tmp_path / 'scan.cxi')
    np.testing.assert_allclose(product.probe_positions.get_coordinates_x_m(), measured.x, rtol=1e-12)


def test_reader_04_readers_are_chosen_named_or_refused(measured: Measured, tmp_path: Path) -> None:
    nsls_style_1(tmp_path, measured)
    path = tmp_path / 'scan_1.h5'
    # Several readers know /entry/data/data; it is the one that knows the positions too.
    assert read_patterns(path, positions=path).geometry.photon_energy_eV == ENERGY_EV
    # One with the detector of its own beamline built in is not believed to know this one.
    assert read_patterns(path, 'CNM_APS_HXN').geometry.detector_pixel_width_m is None
    plain = tmp_path / 'plain.h5'
    with h5py.File(plain, 'w') as file:
        file['entry/data/data'] = measured.counts
    assert read_patterns(plain).geometry.detector_pixel_width_m is None
    with pytest.raises(DataValueError, match=r"has no reader 'nothing' for diffraction files; it has .*TIFF"):
        read_patterns(path, 'nothing')
    with pytest.raises(DataValueError, match=r'cannot be read by the reader NSLS_II_2 of Ptychodus'):
        read_patterns(path, 'NSLS_II_2')
    (tmp_path / 'x.xyz').write_text('nothing')
    with pytest.raises(DataValueError, match=r'of no kind that Ptychodus .* name its arrays as FILE::KEY'):
        read_patterns(tmp_path / 'x.xyz')
    (tmp_path / 'stage.csv').write_text('1,2\n3,nan\n')
    with pytest.raises(DataValueError, match=r'positions are not finite'):
        read_positions(tmp_path / 'stage.csv')


def test_reader_05_a_probe_is_read_too(measured: Measured, tmp_path: Path) -> None:
    modes = np.concatenate([measured.scan.raw.probeGuess, measured.scan.raw.probeGuess / 2])
    np.savetxt(tmp_path / 'probe.csv', modes.reshape(-1, 64), delimiter=',')
    np.testing.assert_allclose(read_probe(tmp_path / 'probe.csv').modes, modes, rtol=1e-6)


def test_reader_06_what_ends_early_is_said(measured: Measured, tmp_path: Path) -> None:
    """A member of a series that is of another size, or cut short, is found when it is read."""
    tiff_series(tmp_path, measured)
    tifffile.imwrite(tmp_path / 'run7_5.tif', measured.counts[0, :32].astype(np.uint16))
    with pytest.raises(DataValueError, match=r'run7_5 has shape \(1, 32, 64\)'):
        read_patterns(tmp_path / 'run7_3.tif').counts[:]
    (tmp_path / 'run7_5.tif').write_bytes((tmp_path / 'run7_6.tif').read_bytes()[:3000])
    with pytest.raises(DataValueError, match=r'cannot be read'):
        read_patterns(tmp_path / 'run7_3.tif').counts[:]


@pytest.mark.parametrize('release', [release for release in SUPPORTED if release != '1.7.0'])
def test_reader_01_in_the_other_releases(
    release: str, measured: Measured, tmp_path: Path, environment: dict[str, str]
) -> None:
    """READER-01 in 1.5 and 1.6, whose readers and metadata have other names."""
    tree = unpack(release, tmp_path / 'tree', plugin=False)
    for write, name in ((npy_frames, 'npy.npz'), (csaxs, 'csaxs.npz')):
        words = [*write(tmp_path, measured), '--probe', str(measured.folder / 'probe.npy')]
        done = subprocess.run(
            [sys.executable, '-m', 'ptycho_engine', 'convert', *words, '--output', name],
            cwd=tmp_path,
            env=environment_of(tree, environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = load_scan(tmp_path / name).raw
        np.testing.assert_allclose(np.square(found.diffraction), measured.counts, rtol=1e-5, atol=1e-3)
        assert found.metadata['probe_energy_eV'] == pytest.approx(ENERGY_EV)
