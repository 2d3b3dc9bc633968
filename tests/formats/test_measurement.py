"""OPEN clauses: a scan from patterns, positions and a probe that lie in files of their own."""

import argparse
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_engine.commands.arguments.inputs import add_inputs
from ptycho_engine.commands.inputs import opening
from ptycho_engine.commands.scan_parts import geometry_of
from ptycho_engine.errors import DataFileNotFoundError, DataKeyError, DataValueError
from ptycho_engine.formats.measurement import (
    Geometry,
    MeasuredPatterns,
    MeasuredPositions,
    MeasuredProbe,
)
from ptycho_engine.formats.named_array import NamedArray, as_frames, position_columns
from ptycho_engine.formats.product import write_product
from ptycho_engine.formats.square import Squared, fitted_probe
from ptycho_engine.patterns.frame_stack import StoredStack
from ptycho_engine.physics.forward import predict_intensity
from ptycho_engine.scan.measured import scan_of_measurement
from tests.conftest import small_scan

GEOMETRY = Geometry(8800.0, 2.0, 75e-6, 75e-6)
PIXEL_M = 1.2398419843e-6 / 8800 * 2 / (64 * 75e-6)


def counts_of(raw) -> np.ndarray:
    return np.rint(np.square(raw.diffraction, dtype=np.float64)).astype(np.uint16)


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=5)


def patterns_of(raw, **more) -> MeasuredPatterns:
    given = {'counts': StoredStack.of_array(counts_of(raw)), 'indexes': np.arange(len(raw))}
    return MeasuredPatterns(**{**given, 'geometry': GEOMETRY, **more})


def positions_of(raw, far=(0.0, 0.0)) -> MeasuredPositions:
    x, y = raw.xcoords * PIXEL_M + far[0], raw.ycoords * PIXEL_M + far[1]
    return MeasuredPositions(x, y, np.arange(len(raw)))


def scan_of(raw, patterns=None, positions=None, **more):
    probe = more.pop('probe', MeasuredProbe(raw.probeGuess))
    return scan_of_measurement(
        patterns or patterns_of(raw), positions or positions_of(raw), probe, name='s', **more
    )


def test_open_01_geometry_and_positions_make_the_scan(raw) -> None:
    """Far from the origin of the stage the positions keep their parts of a pixel."""
    scan = scan_of(raw, positions=positions_of(raw, far=(0.02, -0.03)))
    np.testing.assert_array_equal(scan.raw.diffraction, np.sqrt(counts_of(raw)).astype(np.float32))
    for found, given in ((scan.raw.xcoords, raw.xcoords), (scan.raw.ycoords, raw.ycoords)):
        np.testing.assert_allclose(np.diff(found), np.diff(given), atol=1e-5)
    product = scan.product
    assert product.object_pixel_width_m == pytest.approx(PIXEL_M, rel=1e-6)
    np.testing.assert_allclose(product.position_x_m, raw.xcoords * PIXEL_M + 0.02, atol=1e-15)
    # The bounding box plus one probe: every patch lies on it, and touches its edges.
    height, width = scan.grid.shape
    assert width == pytest.approx(np.ptp(raw.xcoords) + 64, abs=1)
    assert height == pytest.approx(np.ptp(raw.ycoords) + 64, abs=1)
    assert scan.raw.xcoords.min() == pytest.approx(31.5, abs=0.51)
    assert scan.raw.xcoords.max() == pytest.approx(width - 1 - 31.5, abs=0.51)


def test_open_02_what_is_missing_is_named_by_its_flag(raw) -> None:
    known = replace(GEOMETRY, photon_energy_eV=None, detector_pixel_width_m=None)
    with pytest.raises(DataValueError, match=r'give --energy-eV and --pixel-size-m .*--object-pixel-size-m'):
        scan_of(raw, patterns_of(raw, geometry=known))
    own = scan_of(raw, patterns_of(raw, geometry=Geometry(object_pixel_m=PIXEL_M)))
    assert own.product.object_pixel_height_m == PIXEL_M
    assert own.product.photon_energy_eV == 0


def test_open_02_a_product_with_the_positions_says_the_geometry(raw, tmp_path) -> None:
    """For patterns of any size, of which the pixels of the object follow."""
    product = scan_of(raw).product
    known = geometry_of(product)
    assert known.object_pixels(raw.N, raw.N) == pytest.approx((product.object_pixel_height_m,) * 2)
    assert known.object_pixels(2 * raw.N, raw.N)[0] == pytest.approx(product.object_pixel_height_m / 2)
    assert geometry_of(replace(product, detector_distance_m=0)).detector_pixel_width_m is None
    write_product(tmp_path / 'para.h5', product)
    with h5py.File(tmp_path / 'dp.h5', 'w') as file:
        file['dp'] = np.rint(np.square(raw.diffraction)).astype(np.uint16)
    words = argparse.ArgumentParser()
    add_inputs(words)
    said = words.parse_args(['--positions', str(tmp_path / 'para.h5')])
    scan = opening(said).load(Path(f'{tmp_path / "dp.h5"}::dp'))
    assert scan.product.object_pixel_width_m == pytest.approx(product.object_pixel_width_m)
    np.testing.assert_allclose(scan.raw.probeGuess, product.probe[0], rtol=1e-6)


def test_open_03_positions_in_pixels_need_no_geometry(raw) -> None:
    positions = MeasuredPositions(raw.xcoords, raw.ycoords, np.arange(len(raw)), 'px')
    scan = scan_of(raw, patterns_of(raw, geometry=Geometry()), positions)
    np.testing.assert_allclose(np.diff(scan.raw.xcoords), np.diff(raw.xcoords), atol=1e-9)
    assert 'estimated pixel sizes' in scan.product.comments


def test_open_04_other_numbers_are_refused_with_both_unless_the_first_match(raw) -> None:
    more = np.append(raw.xcoords, 7) * PIXEL_M, np.append(raw.ycoords, 7) * PIXEL_M
    positions = MeasuredPositions(*more, np.arange(len(raw) + 1))
    with pytest.raises(DataValueError, match=r'25 patterns but 26 positions.*--match-first'):
        scan_of(raw, positions=positions)
    assert len(scan_of(raw, positions=positions, match_first=True).raw) == 25
    # Numbers of scan points say themselves which belong together.
    numbered = patterns_of(raw, indexes=np.arange(25) * 2)
    spread = MeasuredPositions(
        np.repeat(raw.xcoords, 2) * PIXEL_M, np.repeat(raw.ycoords, 2) * PIXEL_M, np.arange(50)
    )
    np.testing.assert_allclose(
        np.diff(scan_of(raw, numbered, spread).raw.xcoords), np.diff(raw.xcoords), atol=1e-6
    )


def test_open_05_a_probe_of_other_pixels_is_refused(raw) -> None:
    with pytest.raises(DataValueError, match=r'probe has 64×64 pixels of 1e-08×1e-08 m'):
        scan_of(raw, probe=MeasuredProbe(raw.probeGuess, (1e-8, 1e-8)))
    with pytest.raises(DataValueError, match=r'probe has 48×48 pixels of unknown size'):
        scan_of(raw, probe=MeasuredProbe(raw.probeGuess[:, 8:-8, 8:-8]))
    framed = scan_of(raw, probe=MeasuredProbe(raw.probeGuess[:, 8:-8, 8:-8], (PIXEL_M, PIXEL_M)))
    np.testing.assert_array_equal(framed.raw.probeGuess[:, 8:-8, 8:-8], raw.probeGuess[:, 8:-8, 8:-8])
    assert not framed.raw.probeGuess[:, :8].any()


@pytest.mark.parametrize('how', ['crop', 'pad'])
def test_open_06_patterns_that_are_not_square_are_made_so(raw, how) -> None:
    """The part that is left is that of the square detector, pixels that were added are bad."""
    counts = counts_of(raw)
    wide = np.pad(counts, ((0, 0), (0, 0), (6, 10))) if how == 'crop' else counts[:, 5:-9]
    stack = StoredStack.of_array(wide)
    with pytest.raises(DataValueError, match='--square crop'):
        Squared.of(stack, None, None, None, 'x')
    middle = (32, 38) if how == 'crop' else (27, 32)
    squared = Squared.of(stack, None, middle, how, 'x')
    assert squared.stack.shape == (25, 64, 64)
    if how == 'crop':
        np.testing.assert_array_equal(squared.stack[:], counts)
        assert squared.bad_pixels is None
        return
    np.testing.assert_array_equal(squared.stack[:, 5:-9], counts[:, 5:-9])
    assert squared.bad_pixels[:5].all()
    assert squared.bad_pixels[-9:].all()
    assert not squared.bad_pixels[5:-9].any()
    # By the middle of the frame itself: 50 rows of 64.
    own = Squared.of(stack, np.zeros((50, 64), bool), None, how, 'x')
    np.testing.assert_array_equal(own.stack[:, 7:57], wide)


def test_open_06_a_probe_follows_patterns_that_are_cropped(raw) -> None:
    """A flat object predicts, in the kept pixels, the counts that it did before."""
    flat = np.ones((1, 64, 64), np.complex64)
    before = predict_intensity(flat, raw.probeGuess, np.zeros((1, 2)))[0]
    fitted = fitted_probe(raw.probeGuess, 48, (4 / 3, 4 / 3), (1.0, 1.0))
    after = predict_intensity(flat[:, :48, :48], fitted, np.zeros((1, 2)))[0]
    np.testing.assert_allclose(after, before[8:-8, 8:-8], atol=1e-4 * before.max())
    assert fitted_probe(raw.probeGuess, 48, (1.2, 1.2), (1.0, 1.0)) is None


def test_open_07_arrays_are_named_in_any_file(raw, tmp_path: Path) -> None:
    counts = counts_of(raw)
    where = np.stack([raw.ycoords, raw.xcoords], axis=1)
    np.savez(tmp_path / 'a.npz', frames=counts[None], where=where)
    np.save(tmp_path / 'a.npy', counts)
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['entry/frames'] = counts.reshape(5, 5, 64, 64)
        file['entry/where'] = where.T
        file['probe'] = raw.probeGuess
    for name in ('a.npz::frames', 'a.npy', 'a.h5::/entry/frames'):
        array = NamedArray.parse(tmp_path / name)
        np.testing.assert_array_equal(as_frames(array.stack(), name)[:], counts)
    for name in ('a.npz::where', 'a.h5::entry/where'):
        x, y = position_columns(NamedArray.parse(tmp_path / name).read(), 'yx', name)
        np.testing.assert_array_equal(x, raw.xcoords)
        np.testing.assert_array_equal(y, raw.ycoords)
    np.testing.assert_array_equal(NamedArray.parse(tmp_path / 'a.h5::probe').read(), raw.probeGuess)
    assert NamedArray.parse(tmp_path / 'a.h5') is None
    with pytest.raises(DataKeyError, match=r"lacks 'frame'; expected frame, found frames, where"):
        NamedArray.parse(tmp_path / 'a.npz::frame').read()
    with pytest.raises(DataKeyError, match=r'found entry, entry/frames, entry/where, probe'):
        NamedArray.parse(tmp_path / 'a.h5::nothing').read()
    with pytest.raises(DataFileNotFoundError, match='no such file'):
        NamedArray.parse(tmp_path / 'b.h5::x').read()
    with pytest.raises(DataValueError, match=r'expected positions \(n, 2\)'):
        position_columns(counts, 'yx', 'x')
