"""A scan whose probe varies, in files and through a reconstruction (OPR-*)."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.formats.cxi import read_cxi_object
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.physics.coherent import CoherentModes, coherent_modes
from ptycho_engine.physics.forward import cut_patches, predict_intensity
from ptycho_engine.physics.geometry import place_patches
from ptycho_engine.reconstruction.evaluate import evaluate, read_object
from ptycho_engine.scan.pretreatment import bin_scan, crop_scan
from ptycho_engine.scan.product_exchange import ExportMeta, product_of_rawdata
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.scan.written import write_scan_as
from ptycho_engine.whole_scan.coarse_search import TILT, Found, changed
from ptycho_engine.whole_scan.held_out import scan_patterns
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.whole_scan.test_calibrate import run
from tests.whole_scan.test_refine import dense_scan

META = ExportMeta(
    name='drifting',
    detector_distance_m=2.0,
    probe_energy_eV=8000.0,
    object_pixel_size_m=1e-8,
    probe_pixel_size_m=1e-8,
)


def drifting_scan(points=6, photons=1e5, strength=0.5, seed=0) -> Scan:
    """Return a scan under a beam whose tilt and focus drift, with its product; the object is the truth."""
    raw = dense_scan(points=points, photons=photons).raw
    rng = np.random.default_rng(seed)
    middle = np.arange(32) - 15.5
    mode = raw.probeGuess[0].astype(complex)
    spectrum = np.fft.fft2(mode) * np.square(np.fft.fftfreq(32)[:, None])
    changes = np.stack([1j * middle * mode, np.fft.ifft2(1j * spectrum)])
    changes *= (np.linalg.norm(mode) / np.linalg.norm(changes, axis=(1, 2)))[:, None, None]
    time = np.linspace(0, 1, len(raw))
    weights = strength * np.stack([time - 0.5, np.cos(7 * time)], axis=1)
    probe, varying = coherent_modes(
        raw.probeGuess, changes, weights + 0.05 * rng.standard_normal((len(raw), 2))
    )
    placement = place_patches(raw.xcoords, raw.ycoords, 32)
    patches = cut_patches(raw.objectGuess, placement, 32)
    rate = predict_intensity(patches, probe.astype(complex), placement.subpixel_shift, varying)
    raw = replace(
        raw,
        diffraction=np.sqrt(rng.poisson(rate)).astype(np.float32),
        probeGuess=probe,
        coherent=varying,
        metadata={},
    )
    return replace(Scan.from_raw(raw), product=product_of_rawdata(raw, META))


@pytest.fixture(scope='module')
def drifting():
    return drifting_scan()


def assert_same_probes(found, expected, atol=1e-5):
    size = np.abs(expected.probeGuess).max()
    np.testing.assert_allclose(found.probeGuess, expected.probeGuess, atol=atol * size)
    ours, theirs = (np.tensordot(raw.coherent.weights, raw.coherent.modes, 1) for raw in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=atol * size)


@pytest.mark.parametrize('name', ['scan.npz', 'scan.cxi', 'scan.h5', 'folder'])
def test_opr_06_every_kind_of_scan_keeps_modes_and_weights(drifting, tmp_path, name):
    write_scan_as(tmp_path / name, drifting)
    if name == 'scan.cxi':
        # As the command reads it.
        main(['convert', str(tmp_path / name), '--output', str(tmp_path / 'again.npz'), '--quiet'])
        name = 'again.npz'
    assert_same_probes(load_scan(tmp_path / name).raw, drifting.raw)


def test_opr_06_arrays_that_do_not_belong_together_are_one_sentence(drifting, tmp_path, capsys):
    path = tmp_path / 'scan.npz'
    write_scan_as(path, drifting)
    arrays = dict(np.load(path))
    arrays['opr_weights'] = arrays['opr_weights'][:-3]
    np.savez(path, **arrays)
    assert main(['convert', str(path), '--output', str(tmp_path / 'again.npz')]) == 2
    assert 'coherent (OPR) modes have shape (2, 32, 32) and weights (33, 2)' in capsys.readouterr().err
    del arrays['opr_weights']
    np.savez(path, **arrays)
    assert main(['convert', str(path), '--output', str(tmp_path / 'again.npz')]) == 2
    assert 'opr_modes and opr_weights have shapes (2, 32, 32) and none' in capsys.readouterr().err


def test_opr_01_positions_keep_their_rows_where_patterns_are_fewer(drifting, tmp_path):
    """API-25: rows go by the numbers of the scan points, in whatever order these are."""
    write_scan_as(tmp_path / 'scan', drifting)
    with h5py.File(tmp_path / 'scan' / 'diffraction.h5', 'r+') as file:
        for key in ('patterns', 'indexes'):
            rows = file[key][()][3:30]
            del file[key]
            file[key] = rows
    product = read_product(tmp_path / 'scan' / 'product.h5')
    order = np.random.default_rng(0).permutation(len(drifting.raw))
    names = 'position_indexes', 'position_x_m', 'position_y_m', 'opr_weights'
    write_product(
        tmp_path / 'scan' / 'product.h5',
        replace(product, **{name: getattr(product, name)[order] for name in names}),
    )
    found = load_scan(tmp_path / 'scan').raw
    assert len(found) == 27
    expected = drifting.raw.probeGuess[0] + np.tensordot(
        drifting.raw.coherent.weights[3:30], drifting.raw.coherent.modes, 1
    )
    ours = found.probeGuess[0] + np.tensordot(found.coherent.weights, found.coherent.modes, 1)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope='module')
def reconstructed(drifting, tmp_path_factory):
    folder = tmp_path_factory.mktemp('drifting')
    flat = np.ones_like(drifting.raw.objectGuess)
    scan = replace(
        drifting,
        raw=replace(drifting.raw, objectGuess=flat),
        product=replace(drifting.product, object_array=flat[np.newaxis]),
    )
    write_scan_as(folder / 'scan', scan)
    words = ['reconstruct', str(folder / 'scan'), '--output', str(folder / 'out'), '--model', 'none']
    assert main([*words, '--calibrate', 'off', '--formats', 'cxi', '--quiet']) == 0
    return folder


def test_opr_05_a_reconstruction_takes_the_probe_of_each_position(drifting, reconstructed, tmp_path):
    truth = tmp_path / 'truth.npz'
    np.savez(truth, objectGuess=drifting.raw.objectGuess)
    truth = read_object(truth)
    scan = load_scan(reconstructed / 'scan')
    for name in ('product.h5', 'reconstruction.npz', 'reconstruction.cxi'):
        result = read_object(reconstructed / 'out' / name)
        found = evaluate(replace(result, grid=None), truth, scan)
        assert found.scores.nrmse < 0.04, name
        assert found.deviance < 1.2, name
        one = evaluate(replace(result, grid=None, coherent=None), truth, scan)
        assert one.deviance > 5, name


def test_opr_04_a_product_keeps_its_modes_and_weights_to_the_bit(reconstructed):
    """PRODUCT-25: one row for each position."""
    given = read_product(reconstructed / 'scan' / 'product.h5')
    found = read_product(reconstructed / 'out' / 'product.h5')
    np.testing.assert_array_equal(found.probe, given.probe)
    np.testing.assert_array_equal(found.opr_weights, given.opr_weights)
    assert found.probe.shape == (3, 1, 32, 32)
    again = read_cxi_object(reconstructed / 'out' / 'reconstruction.cxi')
    np.testing.assert_array_equal(again.probe, given.probe)
    np.testing.assert_array_equal(again.opr_weights, given.opr_weights)


def test_opr_06_files_as_pty_chi_has_them(drifting, tmp_path):
    """Patterns alone beside a product, whose weights are those of its positions."""
    with h5py.File(tmp_path / 'dp.h5', 'w') as file:
        file['dp'] = np.rint(np.square(drifting.raw.diffraction)).astype(np.uint32)
    write_product(tmp_path / 'para.h5', drifting.product)
    words = ['convert', f'{tmp_path / "dp.h5"}::dp', '--positions', str(tmp_path / 'para.h5')]
    assert main([*words, '--output', str(tmp_path / 'scan.npz'), '--quiet']) == 0
    assert_same_probes(load_scan(tmp_path / 'scan.npz').raw, drifting.raw)
    other = ['--probe', str(tmp_path / 'other.h5')]
    write_product(tmp_path / 'other.h5', drifting.product)
    assert main([*words, *other, '--output', str(tmp_path / 'mean.npz'), '--quiet']) == 0
    assert load_scan(tmp_path / 'mean.npz').raw.coherent is None


@pytest.mark.parametrize('change', [lambda scan: crop_scan(scan, 24), lambda scan: bin_scan(scan, 2)])
def test_opr_01_modes_are_cropped_and_binned_as_the_probe_is(drifting, change):
    raw = drifting.raw
    probes = raw.probeGuess[0] + np.tensordot(raw.coherent.weights, raw.coherent.modes, 1)
    cut = change(drifting).raw
    ours = cut.probeGuess[0] + np.tensordot(cut.coherent.weights, cut.coherent.modes, 1)
    for number in (0, 17):
        alone = replace(raw, probeGuess=probes[number][None].astype(np.complex64), coherent=None)
        one = change(replace(drifting, raw=alone)).raw.probeGuess[0]
        np.testing.assert_allclose(ours[number], one, atol=1e-4 * np.abs(one).max())


def test_a_scan_refuses_modes_and_weights_of_other_shapes(drifting):
    with pytest.raises(ValueError, match=r'expected \(K, 32, 32\) and \(36, K\)'):
        replace(drifting.raw, coherent=CoherentModes(np.ones((1, 8, 8), np.complex64), np.ones((36, 1))))


@pytest.fixture(scope='module')
def wide():
    return drifting_scan(points=9).raw


def test_opr_07_rough_modes_and_weights_are_refined_with_the_probe(wide):
    """As those of an earlier reconstruction of few iterations; the result holds and tells the others."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((2, *wide.coherent.modes.shape)) * np.abs(wide.probeGuess[0])
    noise = noise[0] + 1j * noise[1]
    noise *= np.linalg.norm(wide.coherent.modes) / np.linalg.norm(noise)
    weights = wide.coherent.weights * rng.uniform(0.5, 1.5, wide.coherent.weights.shape)
    modes = (0.8 * wide.coherent.modes + 0.6 * noise).astype(np.complex64)
    rough = replace(wide, coherent=CoherentModes(modes, weights))
    right, _ = run(wide, calibrate='off')
    wrong, _ = run(rough, calibrate='off')
    error, result = run(rough)
    assert wrong > 3 * right
    assert error < 0.5 * wrong
    assert (
        'another probe that varies over the scan (2 coherent modes beside the mean one, with '
        in result.comments
    )
    assert result.coherent.weights.shape == weights.shape
    found, expected, given = (
        np.tensordot(each.weights, each.modes, 1) for each in (result.coherent, wide.coherent, rough.coherent)
    )
    assert np.linalg.norm(found - expected) < 0.6 * np.linalg.norm(given - expected)


def test_opr_07_the_right_modes_and_weights_are_left_alone(wide):
    error, result = run(wide)
    assert 'calibrated' not in result.comments
    assert result.coherent is None
    assert error == run(wide, calibrate='off')[0]


@pytest.mark.parametrize('change', [Found('probe', (3.0,)), Found(TILT, (1.0, -2.0))])
def test_opr_07_a_coarse_change_is_one_of_the_probe_of_each_position(wide, change):
    """On the detector all probes change alike: by one factor at each pixel, or by whole pixels."""

    def spectra(patterns):
        probes = patterns.probe[0] + np.tensordot(patterns.coherent.weights, patterns.coherent.modes, 1)
        return np.fft.fft2(probes)

    patterns = scan_patterns(ScanModel(Scan.from_raw(wide)), 0)
    given, found = spectra(patterns), spectra(changed(patterns, change))
    if change.option == TILT:
        given = np.roll(given, (1, -2), axis=(1, 2))
    atol = 1e-4 * np.abs(given).max()
    np.testing.assert_allclose(np.abs(found), np.abs(given), atol=atol)
    # One position tells the factor, and with it the others.
    sure = np.abs(given).min(axis=0) > 0.05 * np.abs(given).max()
    factor = found[0, sure] / given[0, sure]
    assert (np.abs(factor - 1).max() > 0.1) == (change.option != TILT)
    np.testing.assert_allclose(found[:, sure], factor * given[:, sure], atol=20 * atol)
