"""What the numbers of a file are: counts, roots of counts, either times a factor, or neither (NPZ-14)."""

import json

import h5py
import numpy as np
import pytest
from scipy import ndimage

from ptycho_engine.config.choices import DOMAINS
from ptycho_engine.errors import DataValueError
from ptycho_engine.patterns.lattice import Lattice, find_lattice
from ptycho_engine.patterns.photon_scatter import scatters_as_photons
from ptycho_engine.scan.raw_data import RawData
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.simulate.directory import write_scan
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan


@pytest.fixture(scope='module', params=[1e3, 1e5])
def raw(request) -> RawData:
    return small_scan(6, 32, photons=request.param)


@pytest.fixture(scope='module')
def counts(raw) -> np.ndarray:
    return np.rint(np.square(raw.diffraction, dtype=np.float64))


def read(tmp_path, raw, diffraction, said=None, **arrays) -> RawData:
    own = {name: getattr(raw, name) for name in ('probeGuess', 'xcoords', 'ycoords')}
    np.savez(tmp_path / 'x.npz', diffraction=diffraction, **{**own, **arrays})
    return RawData.from_file(tmp_path / 'x.npz', **(said or {}))


def mean_counts(raw: RawData) -> float:
    return float(np.square(raw.diffraction, dtype=np.float64).sum(axis=(1, 2)).mean())


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('factor', [1e-4, 0.0173, 1.0, 100.0])
def test_npz_14_normalised_amplitudes_have_the_scale_of_their_counts(tmp_path, raw, counts, dtype, factor):
    found = read(tmp_path, raw, (np.sqrt(counts) * factor).astype(dtype))
    assert found.counted
    assert found.original_domain == ('amplitude' if factor == 1 else 'normalised')
    assert mean_counts(found) == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=0.01)
    # What was taken for granted travels with the scan.
    assert any('normalised' in line for line in found.assumed) == (factor != 1)


def test_npz_14_pixels_that_were_filled_do_not_hide_the_scale(tmp_path, raw, counts):
    amplitude = 0.01 * np.sqrt(counts)
    amplitude[:, 3:5] = np.random.default_rng(0).random(amplitude[:, 3:5].shape) * 0.03
    found = read(tmp_path, raw, amplitude.astype(np.float32))
    assert np.square(found.diffraction[:, 8:], dtype=np.float64).sum() == pytest.approx(
        counts[:, 8:].sum(), rel=1e-3
    )


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('gain', [1.0, 3.7, 0.02])
def test_npz_14_counts_times_a_gain_are_counts(tmp_path, raw, counts, dtype, gain):
    found = read(tmp_path, raw, (counts * gain).astype(dtype))
    assert (found.original_domain, found.counted) == ('counts', True)
    np.testing.assert_allclose(found.diffraction**2, counts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('clipped', [True, False])
@pytest.mark.parametrize('each', ['one', 'pixel'])
def test_npz_14_counts_less_a_dark_field_are_counts(tmp_path, raw, counts, each, clipped):
    dark = 0.3 if each == 'one' else np.random.default_rng(0).uniform(0, 1, (32, 32))
    values = (counts - dark).astype(np.float32)
    found = read(tmp_path, raw, values.clip(0) if clipped else values)
    assert (found.original_domain, found.counted) == ('counts', True)
    np.testing.assert_allclose(found.diffraction**2, (counts - dark).clip(0), rtol=1e-4, atol=1e-4)


def test_npz_14_counts_over_a_flat_field_are_counts(tmp_path, raw, counts):
    flat = np.random.default_rng(0).normal(1, 0.03, (32, 32))
    found = read(tmp_path, raw, (counts * flat).astype(np.float32))
    assert (found.original_domain, found.counted) == ('counts', True)


SMOOTH = {
    'uniform': lambda rng, shape: rng.random(shape),
    # Of these, numbers of half precision are few and far between.
    'bright': lambda rng, shape: 1 + rng.random(shape),
    'normal': lambda rng, shape: np.abs(rng.normal(0, 30, shape)),
    'exponential': lambda rng, shape: rng.exponential(1, shape),
    'waves': lambda rng, shape: np.fromfunction(
        lambda k, i, j: np.abs(np.sin(0.37 * i + 0.113 * j + 1.7 * k)), shape
    ),
}


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('kind', SMOOTH)
def test_npz_20_noise_and_smooth_values_are_no_counts(tmp_path, kind, dtype):
    raw = small_scan(6, 32)
    values = SMOOTH[kind](np.random.default_rng(0), raw.diffraction.shape).astype(dtype)
    found = read(tmp_path, raw, values)
    assert not found.counted
    assert found.original_domain == 'amplitude'
    np.testing.assert_array_equal(found.diffraction, values.astype(np.float32))
    assert any('no counts' in line and 'nothing is known in photons' in line for line in found.assumed)


NEAR_BY = np.outer([1, 2, 1], [1, 2, 1])[None]
SPREAD = {
    'zoomed': lambda counts: ndimage.zoom(counts, (1, 2, 2), order=1, mode='nearest', grid_mode=True),
    'zoomed by 5/4': lambda counts: ndimage.zoom(
        counts, (1, 1.25, 1.25), order=1, mode='nearest', grid_mode=True
    ),
    'repeated': lambda counts: counts.repeat(2, axis=1).repeat(2, axis=2),
    'moved by half a pixel': lambda counts: (counts + np.roll(counts, 1, axis=2)) / 2,
    'moved by a quarter': lambda counts: 0.75 * counts + 0.25 * np.roll(counts, 1, axis=2),
    'binned by weights': lambda counts: ndimage.convolve(counts, NEAR_BY / 16),
    'smoothed': lambda counts: ndimage.convolve(counts, np.ones((1, 3, 3)) / 9),
}


@pytest.mark.parametrize('photons', [1e3, 1e5, 1e7])
@pytest.mark.parametrize('roots', [True, False])
@pytest.mark.parametrize('kind', SPREAD)
def test_npz_21_counts_that_were_spread_over_pixels_are_no_counts(tmp_path, kind, roots, photons):
    """Their lattice has a smaller step, which would be so many times the photons."""
    raw = small_scan(5, 64, photons=photons)
    values = SPREAD[kind](np.rint(np.square(raw.diffraction, dtype=np.float64)))
    more = values.shape[-1] - 64
    probe = np.pad(raw.probeGuess, ((0, 0), (more // 2, more - more // 2), (more // 2, more - more // 2)))
    stored = 0.013 * np.sqrt(values) if roots else values
    found = read(tmp_path, raw, stored.astype(np.float32), probeGuess=probe)
    assert (found.original_domain, found.counted) == ('amplitude' if roots else 'counts', False)
    assert any('spread over neighbouring pixels' in line for line in found.assumed)


@pytest.mark.parametrize('background', [0.0, 0.1, 0.4, 1.0, 3.0])
@pytest.mark.parametrize('photons', [1e2, 1e3, 1e5, 1e7])
def test_npz_21_counts_scatter_as_photons(photons, background):
    """So they do over any background, with pixels that are stuck, saturated or left out, and over frames."""
    rng = np.random.default_rng(0)
    raw = small_scan(5, 64, photons=photons)
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64)) + rng.poisson(background, (25, 64, 64))
    good = np.ones((64, 64), bool)
    assert scatters_as_photons(counts, good, Lattice(1.0))
    assert scatters_as_photons(0.37 * counts, good, Lattice(0.37))
    counts[:, 10, 50] = 2e5
    assert scatters_as_photons(counts, good, Lattice(1.0))
    assert scatters_as_photons(np.minimum(counts, np.quantile(counts, 0.99).round()), good, Lattice(1.0))
    good[:, 30:34] = False
    assert scatters_as_photons(counts * good, good, Lattice(1.0))


def test_npz_14_negative_values_are_left_of_a_background_and_taken_as_0(tmp_path, raw, counts):
    values = counts + np.random.default_rng(0).normal(0, 0.7, counts.shape)
    found = read(tmp_path, raw, values)
    assert (found.original_domain, found.counted) == ('counts', False)
    np.testing.assert_allclose(found.diffraction**2, values.clip(0), rtol=1e-5, atol=1e-5)
    assert any('negative ones are taken as 0' in line for line in found.assumed)


@pytest.mark.parametrize(('gain', 'pedestal', 'readout'), [(3.7, 100, 2.0), (50, 1000, 10.0), (0.1, 5, 0.3)])
@pytest.mark.parametrize('said', [None, {'domain': 'counts'}, {'nphotons': 1e5}])
def test_npz_23_a_pedestal_is_taken_off(tmp_path, gain, pedestal, readout, said):
    raw = small_scan(6, 48, photons=1e5)
    light = gain * np.square(raw.diffraction, dtype=np.float64)
    values = light + pedestal + np.random.default_rng(0).normal(0, readout, light.shape)
    found = read(tmp_path, raw, values.astype(np.float32), said)
    assert found.counted == (said == {'nphotons': 1e5})
    assert any('with a pedestal; it is taken off' in line for line in found.assumed)
    measured = np.square(found.diffraction, dtype=np.float64)
    whole = 1e5 if said == {'nphotons': 1e5} else light.sum(axis=(1, 2)).mean()
    assert measured.sum(axis=(1, 2)).mean() == pytest.approx(whole, rel=0.03)
    assert np.corrcoef(measured.ravel(), light.ravel())[0, 1] > 0.99


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(('gain', 'pedestal', 'readout'), [(1, 100, 3.0), (0.4, 1000, 2.0), (50, 1000, 10.0)])
def test_npz_25_a_pedestal_of_whole_numbers_is_taken_off(tmp_path, dtype, gain, pedestal, readout):
    raw = small_scan(6, 48, photons=1e5)
    light = gain * np.rint(np.square(raw.diffraction, dtype=np.float64))
    values = np.rint(light + pedestal + np.random.default_rng(0).normal(0, readout, light.shape))
    found = read(tmp_path, raw, values.astype(dtype))
    assert not found.counted
    assert any(
        f'{pedestal} and scatter about it less than photons would' in line and 'it is taken off' in line
        for line in found.assumed
    )
    measured = np.square(found.diffraction, dtype=np.float64)
    assert measured.sum() == pytest.approx(light.sum(), rel=0.08)
    assert np.corrcoef(measured.ravel(), light.ravel())[0, 1] > 0.99


@pytest.mark.parametrize('gain', [1, 7])
def test_npz_25_counts_above_a_pedestal_without_noise_are_counts(tmp_path, gain):
    raw = small_scan(6, 48, photons=1e4)
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64))
    found = read(tmp_path, raw, (gain * counts + 100).astype(np.uint16))
    assert found.counted
    assert any('no pixel shows less than 100' in line for line in found.assumed)
    np.testing.assert_allclose(np.square(found.diffraction), counts, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize('background', [0, 4, 30, 100, 1000])
def test_npz_25_a_background_of_photons_is_no_pedestal(tmp_path, background):
    raw = small_scan(6, 48, photons=1e5)
    counts = np.rint(np.square(raw.diffraction, dtype=np.float64))
    values = counts + np.random.default_rng(0).poisson(background, counts.shape)
    found = read(tmp_path, raw, values.astype(np.uint16))
    assert found.counted
    assert found.assumed == ()


def test_npz_25_a_statement_rules(tmp_path, counts, raw):
    found = read(tmp_path, raw, (counts + 100).astype(np.uint16), {'domain': 'counts'})
    np.testing.assert_allclose(np.square(found.diffraction), counts + 100, rtol=1e-5)


def _without_floor(kind, light, rng):
    return {
        'readout alone': light + rng.normal(0, 2, light.shape),
        'interpolated': ndimage.zoom(np.sqrt(light), (1, 1.3, 1.3), order=1)[:, :32, :32],
        'one number': np.full(light.shape, 100.0) + rng.normal(0, 3, light.shape),
        'uneven floor': light * 3.7 + rng.uniform(80, 120, light.shape[1:]) + rng.normal(0, 1, light.shape),
    }[kind]


@pytest.mark.parametrize('kind', ['readout alone', 'interpolated', 'one number', 'uneven floor'])
def test_npz_23_what_has_no_common_floor_has_no_pedestal(tmp_path, raw, counts, kind):
    values = np.abs(_without_floor(kind, counts, np.random.default_rng(0)))
    found = read(tmp_path, raw, values.astype(np.float32))
    assert not any('pedestal' in line for line in found.assumed)


def test_gau_06_the_noise_of_no_counts_is_estimated(tmp_path):
    """The light that the engine presumes is that of the noise, whatever the numbers are in."""
    raw = small_scan(6, 32, photons=1e4)
    noisy = np.square(raw.diffraction) * np.random.default_rng(0).normal(1, 1e-4, raw.diffraction.shape)
    for factor in (1e-3, 1.0, 1e4):
        found = read(tmp_path, raw, np.sqrt(noisy).astype(np.float32) * np.float32(factor))
        assert not found.counted
        scale = ScanModel(Scan.from_raw(found)).scale
        assert 1e4 / 2 < scale.mean_counts / scale.unit**2 < 1e4 * 2


WORDS = {
    'normalized_amplitude': 'normalised',
    'count_intensity': 'counts',
    'normalized': 'normalised',
    'amplitude': 'amplitude',
}


@pytest.mark.parametrize('word', WORDS)
def test_npz_04_the_words_of_the_original_are_understood(tmp_path, raw, counts, word):
    domain = WORDS[word]
    values = {'counts': counts, 'normalised': np.sqrt(counts) / 50, 'amplitude': np.sqrt(counts)}[domain]
    metadata = np.array(json.dumps({'measurement_domain': word}))
    found = read(tmp_path, raw, values, _metadata=metadata)
    assert found.original_domain == domain
    assert mean_counts(found) == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=1e-3)
    assert read(tmp_path, raw, values, {'domain': word}).original_domain == domain
    with pytest.raises(DataValueError, match="measurement_domain is 'hobby'; expected 'amplitude'"):
        read(tmp_path, raw, values, {'domain': 'hobby'})
    assert set(WORDS) <= set(DOMAINS)


def test_npz_04_the_contract_of_the_original_is_understood(tmp_path, raw, counts):
    for version, values in {'ci_intensity_v2': counts, 'legacy_v1': np.sqrt(counts) / 9}.items():
        metadata = np.array(json.dumps({'scale_contract_version': version}))
        found = read(tmp_path, raw, values, _metadata=metadata)
        assert mean_counts(found) == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=1e-3)


def test_npz_10_the_caller_rules_over_the_lattice_and_a_contradiction_is_said(tmp_path, raw, counts, caplog):
    found = read(tmp_path, raw, np.sqrt(counts) / 50, {'nphotons': 7e6})
    assert mean_counts(found) == pytest.approx(7e6, rel=1e-3)
    assert 'are stated (' in caplog.text
    assert any('7e+06 counts on average, as stated' in line for line in found.assumed)
    with pytest.raises(DataValueError, match='nphotons is -1; expected a positive number'):
        read(tmp_path, raw, np.sqrt(counts) / 50, {'nphotons': -1})


@pytest.mark.parametrize('stated', [{'nphotons': 1e6}, {'physics_parameters': {'nphotons': 1e6}}])
def test_npz_10_the_photons_of_the_file_are_used_where_the_values_tell_nothing(tmp_path, stated, caplog):
    raw = small_scan(6, 32)
    smooth = raw.diffraction * np.random.default_rng(0).uniform(0.99, 1, raw.diffraction.shape)
    metadata = np.array(json.dumps(stated))
    found = read(tmp_path, raw, smooth / 77, _metadata=metadata)
    assert mean_counts(found) == pytest.approx(1e6, rel=1e-3)
    assert found.counted
    # Exact counts tell more than a number that may be a default.
    lattice = read(tmp_path, raw, np.sqrt(np.rint(raw.diffraction**2)) / 77, _metadata=metadata)
    assert mean_counts(lattice) == pytest.approx(mean_counts(raw), rel=1e-3)
    assert 'nphotons of the file is 1e+06' in caplog.text
    assert 'the second is taken' in caplog.text


def test_npz_10_a_file_that_says_it_is_normalised_rules_with_its_photons(tmp_path, raw, counts, caplog):
    metadata = np.array(json.dumps({'measurement_domain': 'normalised', 'nphotons': 7e6}))
    assert mean_counts(read(tmp_path, raw, np.sqrt(counts) / 9, _metadata=metadata)) == pytest.approx(7e6)
    assert 'the first is taken' in caplog.text


def test_npz_14_a_directory_of_float_counts_with_a_gain(tmp_path, raw, counts):
    write_scan(tmp_path / 'scan', raw, name='scan', settings='')
    with h5py.File(tmp_path / 'scan' / 'diffraction.h5', 'r+') as file:
        del file['patterns']
        file['patterns'] = (counts * 2.5).astype(np.float32)
    scan = load_scan(tmp_path / 'scan')
    np.testing.assert_allclose(scan.raw.diffraction**2, counts, rtol=1e-4)
    assert load_scan(tmp_path / 'scan', nphotons=5e5).raw.assumed[-1].startswith('a pattern is taken to have')


def test_npz_20_what_is_no_counts_stays_so_when_it_is_written(tmp_path):
    raw = small_scan(6, 32)
    found = read(tmp_path, raw, np.random.default_rng(0).random(raw.diffraction.shape))
    found.to_file(tmp_path / 'y.npz')
    assert not RawData.from_file(tmp_path / 'y.npz').counted


def test_npz_14_a_lattice_is_seen_through_values_that_occur_once():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, 5000) * 0.7
    found = find_lattice(np.concatenate([counts[counts > 0], rng.random(200) * 7]))
    assert found is not None
    assert found.step == pytest.approx(0.7)
    assert find_lattice(rng.random(5000)) is None


def test_npz_14_the_smallest_numbers_of_a_type_are_no_lattice(tmp_path):
    """Half precision has steps of 6e-8 below 6e-5, on which smooth values are then."""
    raw = small_scan(points=4, photons=3e3)
    smooth = ndimage.gaussian_filter(np.square(raw.diffraction.astype(float)), (0, 2, 2))
    for factor in (1e-3, 3e-3, 1e-2):
        assert not read(tmp_path, raw, (np.sqrt(smooth) * factor).astype(np.float16)).counted
