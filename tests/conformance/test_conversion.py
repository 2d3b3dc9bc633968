"""Ptychodus' containers <-> the engine's, without loss and without files (API-2x)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip('ptychodus.api.product')

from ptychodus.api.diffraction import Polarization
from ptychodus.api.io import load_product, save_product
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructInput
from scan_maker import product_of, simulated_scan

from ptycho_engine.errors import DataValueError, DivergedError
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.physics.coherent import coherent_modes
from ptycho_engine.scan.raw_data import RawData
from ptychopinn_ptychodus.compat import positions
from ptychopinn_ptychodus.conversion import output_product, product_data, raw_data
from ptychopinn_ptychodus.inference_run import _saveable
from ptychopinn_ptychodus.library import PtychoPINNLibrary
from ptychopinn_ptychodus.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.session import Session
from ptychopinn_ptychodus.settings import ReconstructorSettings
from ptychopinn_ptychodus.worker import Outcome

pytestmark = pytest.mark.ptychodus


@pytest.fixture(scope='module')
def raw() -> RawData:
    return simulated_scan(size=32, grid=4)


@pytest.fixture
def rich(raw: RawData) -> Product:
    """A product in which every field is set."""
    plain = product_of(raw, layers=2)
    rng = np.random.default_rng(0)
    probes = rng.standard_normal((2, 3, 32, 32)) + 1j * rng.standard_normal((2, 3, 32, 32))
    return replace(
        plain,
        metadata=replace(plain.metadata, polarization=Polarization.LEFT_CIRCULAR, far_field=False),
        probes=ProbeSequence(
            probes.astype(np.complex64), rng.random((len(raw), 2)), plain.probes.get_pixel_geometry()
        ),
        probe_positions=ProbePositionSequence(
            [
                ProbePosition(p.index + 5, p.x_m, p.y_m, probe_photon_count=1e5 + p.index)
                for p in plain.probe_positions
            ]
        ),
        losses=[LossValue(1, 2.5), LossValue(2, 1.25)],
    )


def assert_same(one: Product, other: Product) -> None:
    assert one.metadata == other.metadata
    assert one.losses == other.losses
    assert one.object_.get_geometry() == other.object_.get_geometry()
    np.testing.assert_allclose(one.object_.layer_spacing_m, other.object_.layer_spacing_m)
    np.testing.assert_array_equal(one.object_.get_array(), other.object_.get_array())
    np.testing.assert_array_equal(one.probes.get_array(), other.probes.get_array())
    np.testing.assert_array_equal(one.probes.get_opr_weights(), other.probes.get_opr_weights())
    assert one.probes.get_pixel_geometry() == other.probes.get_pixel_geometry()
    for read in (
        'get_indexes',
        'get_coordinates_x_m',
        'get_coordinates_y_m',
        'get_probe_photon_counts',
    ):
        np.testing.assert_array_equal(
            getattr(one.probe_positions, read)(), getattr(other.probe_positions, read)()
        )


def test_every_field_goes_through_our_writer(rich: Product, tmp_path: Path) -> None:
    """API-21."""
    write_product(tmp_path / 'ours.h5', product_data(rich))
    assert_same(load_product(tmp_path / 'ours.h5'), rich)


def test_conversion_agrees_with_ptychodus_own_file(rich: Product, tmp_path: Path) -> None:
    """API-21."""
    save_product(tmp_path / 'theirs.h5', rich)
    theirs, ours = read_product(tmp_path / 'theirs.h5'), product_data(rich)
    for name, value in vars(ours).items():
        np.testing.assert_array_equal(value, getattr(theirs, name), err_msg=name)


def test_positions_are_ptychodus_own_object_pixels(raw: RawData) -> None:
    """API-22."""
    product = product_of(raw)
    x, y = product_data(product).positions_px()
    geometry = product.object_.get_geometry()
    for index, position in enumerate(product.probe_positions):
        expected = geometry.map_coordinates_probe_to_object(position)
        assert (x[index], y[index]) == pytest.approx((expected.x_px, expected.y_px))


def test_input_becomes_a_scan_in_amplitude(raw: RawData) -> None:
    """API-22."""
    counts = np.rint(raw.diffraction**2).astype(np.uint16)
    bad = np.zeros((32, 32), bool)
    bad[3, 4] = True
    scan = raw_data(ReconstructInput(counts, bad, product_of(raw)))
    np.testing.assert_allclose(scan.diffraction[:, ~bad] ** 2, counts[:, ~bad], rtol=1e-5)
    np.testing.assert_allclose(scan.xcoords, raw.xcoords, atol=1e-6)
    np.testing.assert_allclose(scan.ycoords, raw.ycoords, atol=1e-6)
    np.testing.assert_array_equal(scan.bad_pixels, bad)
    with pytest.raises(DataValueError, match='square'):
        raw_data(ReconstructInput(counts[:, :, :24], None, product_of(raw)))


def test_result_keeps_everything_but_object_losses_and_comments(rich: Product) -> None:
    """API-23, API-24, API-25."""
    shape = rich.object_.get_array().shape[1:]
    new = np.full(shape, 1 + 2j, np.complex64)
    result = output_product(rich, Outcome(new, ((1, 3.0), (2, 1.0)), 'Good.'), ['Remark.'])
    np.testing.assert_array_equal(result.object_.get_array(), new[np.newaxis])
    assert result.object_.get_geometry() == rich.object_.get_geometry()
    assert result.losses == [LossValue(1, 3.0), LossValue(2, 1.0)]
    assert result.metadata.comments.splitlines()[:3] == ['made for a test', 'Good.', 'Remark.']
    assert 'one layer; the input product had 2' in result.metadata.comments
    assert replace(result.metadata, comments='') == replace(rich.metadata, comments='')
    assert result.probes is rich.probes
    assert result.probe_positions is rich.probe_positions
    with pytest.raises(ValueError, match='must match'):
        output_product(rich, Outcome(new[1:]))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_not_finite_goes_into_no_product(rich: Product, value: float) -> None:
    """RESULT-05."""
    good = np.ones(rich.object_.get_array().shape[1:], np.complex64)
    spoilt = good.copy()
    spoilt[3, 4] = value
    shift = np.full((len(positions(rich).indexes), 2), value)
    for outcome in (Outcome(spoilt), Outcome(good, position_shift=shift)):
        with pytest.raises(DivergedError, match='NaN or infinite numbers'):
            output_product(rich, outcome)


def test_a_refined_probe_and_refined_positions_go_into_the_product(rich: Product) -> None:
    """API-25: in metres, and nothing else of a position or a probe changes."""
    shape = rich.object_.get_array().shape[1:]
    old = rich.probes.get_array()
    count = len(positions(rich).indexes)
    modes = (2 * old[0]).astype(np.complex64)
    shift = np.stack([np.arange(count), np.full(count, -0.5)], axis=1)
    new = Outcome(np.ones(shape, np.complex64), probe=modes, position_shift=shift)
    result = output_product(rich, new)
    weights = rich.probes.get_opr_weights()
    assert result.probes.get_opr_weights_or_none() is weights
    np.testing.assert_array_equal(result.probes.get_array()[1:], old[1:])
    # What it is in the mean of all positions is the new one.
    np.testing.assert_array_equal(result.probes.get_array()[0, 1:], modes[1:])
    mean = np.tensordot(weights.mean(axis=0), result.probes.get_array()[:, 0], 1)
    np.testing.assert_allclose(mean, modes[0], atol=1e-4)
    assert result.probes.get_pixel_geometry() == rich.probes.get_pixel_geometry()
    before, after = positions(rich), positions(result)
    pixel = rich.object_.get_pixel_geometry()
    np.testing.assert_array_equal(after.indexes, before.indexes)
    np.testing.assert_allclose(after.x_m - before.x_m, -0.5 * pixel.width_m, rtol=1e-6)
    np.testing.assert_allclose(
        after.y_m - before.y_m, np.arange(count) * pixel.height_m, rtol=1e-6, atol=1e-18
    )
    np.testing.assert_array_equal(after.photon_counts, before.photon_counts)


@pytest.mark.parametrize(('first', 'kept'), [(2, True), (9, False)])
def test_coherent_weights_follow_their_positions(first: int, kept: bool) -> None:
    """API-25: Ptychodus leaves out positions without a pattern, but not their rows of weights."""
    raw = simulated_scan(size=32, grid=4)
    weights = np.arange(32.0).reshape(16, 2)
    whole = product_of(raw)
    positions = [
        replace(point, index=index)
        for index, point in enumerate(list(whole.probe_positions)[2:12], start=first)
    ]
    product = replace(
        whole,
        probes=ProbeSequence(np.stack([raw.probeGuess] * 2), weights, whole.probes.get_pixel_geometry()),
        probe_positions=ProbePositionSequence(positions),
    )
    converted = product_data(product).opr_weights
    if kept:
        assert converted is not None
        np.testing.assert_array_equal(converted, weights[2:12])
    else:
        assert converted is None, 'nobody knows whose they are'


@pytest.mark.parametrize('rows', ['each', 'without a pattern', 'none'])
def test_a_probe_that_varies_is_what_ptychodus_takes_it_for(raw: RawData, rows: str) -> None:
    """OPR-01, OPR-04, API-25: one probe for each position, there and back."""
    rng = np.random.default_rng(0)
    n = len(raw)
    whole = product_of(raw)
    shape = (3, 2, 32, 32)
    array = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    weights = rng.uniform(0.2, 1, (n + 4 if rows == 'without a pattern' else n, 3))
    points = [replace(point, index=index + 3) for index, point in enumerate(whole.probe_positions)]
    probes = ProbeSequence(array, None if rows == 'none' else weights, whole.probes.get_pixel_geometry())
    product = replace(
        whole,
        probes=probes,
        probe_positions=ProbePositionSequence(points) if len(weights) > n else whole.probe_positions,
    )
    given = positions(product).indexes if len(weights) > n else np.arange(n)

    def expected(sequence: ProbeSequence) -> np.ndarray:
        return np.stack([sequence[int(row)].get_array() for row in given])

    scan = raw_data(ReconstructInput(np.rint(raw.diffraction**2), None, product))
    if rows == 'none':
        assert scan.coherent is None
        np.testing.assert_array_equal(scan.probeGuess, array[0])
        assert 'the first is used' in ' '.join(scan.assumed)
    else:
        assert scan.coherent is not None
        first = scan.probeGuess[0] + np.tensordot(scan.coherent.weights, scan.coherent.modes, 1)
        np.testing.assert_allclose(first, expected(probes)[:, 0], atol=1e-4)
        np.testing.assert_array_equal(scan.probeGuess[1], array[0, 1])
    found, varying = coherent_modes(
        scan.probeGuess * np.complex64(1.1), array[1:, 0], rng.standard_normal((n, 2))
    )
    new = Outcome(np.ones(product.object_.get_array().shape[1:], np.complex64), probe=found, coherent=varying)
    result = output_product(product, new).probes
    assert varying is not None
    assert result.get_opr_weights().shape == (n if rows == 'none' else len(weights), 3)
    first = found[0] + np.tensordot(varying.weights, varying.modes, 1)
    np.testing.assert_allclose(expected(result)[:, 0], first, atol=1e-4)
    np.testing.assert_allclose(expected(result)[:, 1], np.broadcast_to(found[1], (n, 32, 32)), atol=1e-6)
    if rows == 'without a pattern':
        np.testing.assert_allclose(result[0].get_array()[0], found[0], atol=1e-4)


def test_export_is_our_npz_contract(raw: RawData, tmp_path: Path) -> None:
    """API-27."""
    reconstructor = PtychoPINNReconstructor('PINN', Session.of(ReconstructorSettings.with_defaults()))
    counts = np.rint(raw.diffraction**2)
    reconstructor.export_training_data(tmp_path / 'scan.npz', ReconstructInput(counts, None, product_of(raw)))
    again = RawData.from_file(tmp_path / 'scan.npz')
    np.testing.assert_allclose(again.diffraction**2, counts, rtol=1e-5)
    np.testing.assert_allclose(again.xcoords, raw.xcoords, atol=1e-6)
    np.testing.assert_allclose(again.probeGuess, raw.probeGuess)
    assert again.objectGuess is not None


def test_library_is_ptychodus_library_with_our_entries() -> None:
    """API-01, API-11."""
    from ptychodus.api.settings import SettingsRegistry
    from ptychodus.model.ptychopinn import PtychoPINNReconstructorLibrary

    library = PtychoPINNLibrary(SettingsRegistry())
    assert isinstance(library, PtychoPINNReconstructorLibrary)
    assert library.name == 'PtychoPINN'
    assert library.get_logger().name == 'ptychopinn'
    assert [r.name for r in library] == ['PINN', 'Supervised', 'Physics']
    assert all(r.get_progress_goal() > 0 for r in library)


def test_product_09_ptychodus_can_save_a_result_whose_comments_are_not_utf8(
    tmp_path: Path, rich: Product
) -> None:
    """It opens such a product, but cannot save its text; the engine's file keeps the bytes."""
    before, after = tmp_path / 'before.h5', tmp_path / 'after.h5'
    save_product(before, rich)
    with h5py.File(before, 'r+') as file:
        file.attrs.create('comments', np.array(b'5 \xb5m', object), dtype=h5py.string_dtype())
    product = load_product(before)
    with pytest.raises(UnicodeEncodeError):
        save_product(after, product)
    save_product(after, _saveable(product))
    assert load_product(after).metadata.comments == r'5 \xb5m'
    write_product(after, product_data(product))
    assert load_product(after).metadata.comments == product.metadata.comments
