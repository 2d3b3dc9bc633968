"""Training on simulated objects before there is a scan."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.errors import ConfigError, DataValueError
from ptycho_engine.formats.product import read_product, write_product
from ptycho_engine.physics.forward import deviance, predict_intensity
from ptycho_engine.scan.product_exchange import ExportMeta, export_product_from_rawdata
from ptycho_engine.scan.scan import Scan
from ptycho_engine.simulate import (
    OBJECT_FAMILIES,
    illuminated_width,
    make_object,
    vary_probe,
    without_truth,
)
from ptycho_engine.simulate.template import load_templates
from ptycho_engine.training import simulated
from ptycho_engine.training.simulated import ObjectVariety, SimulatedScans, with_truth
from tests.conftest import small_scan

CONFIG = TrainingConfig(
    model=ModelConfig(n_filters_scale=1, architecture='cnn', gridsize=2), n_groups=320, batch_size=10
)
BAD = np.zeros((32, 32), bool)
BAD[3:5, 10] = True


@pytest.fixture(scope='module')
def blind() -> Scan:
    """A scan with bad pixels and two modes as an instrument gives it: no truth."""
    return Scan.from_raw(without_truth(small_scan(size=32, modes=2, bad_pixels=BAD)))


def batches(source, epoch=1):
    return [item.ready().prepared.batch(item.groups[:4]) for item in source.training(epoch)]


def test_sim_11_simulated_objects_differ_and_their_labels_predict_the_patterns(blind):
    source = SimulatedScans(blind, CONFIG)
    drawn = source.training(1)
    assert [len(item.groups) for item in drawn] == [64, 64, 64, 64, 64]
    first = batches(source)
    for batch in first:
        assert batch.labels.shape == (4, 4, 32, 32)
        assert np.ptp(np.abs(batch.labels)) + np.ptp(np.angle(batch.labels)) > 0.05
        light = batch.illumination
        rate = predict_intensity(
            batch.labels.reshape(-1, 32, 32), light.probe.astype(complex), batch.subpixel_shift.reshape(-1, 2)
        )
        counts = batch.amplitude.reshape(-1, 32, 32) ** 2.0
        assert deviance(counts, rate, light.valid).mean() < 1.3
        assert not light.valid[3, 10]
    for one, same, other in zip(first, batches(source), batches(source, 2), strict=True):
        np.testing.assert_array_equal(one.amplitude, same.amplitude)
        assert (one.labels != other.labels).any()
    assert SimulatedScans(blind, replace(CONFIG, validation_fraction=0.0)).validation() == []
    held_out, again = source.validation()[0], source.validation()[0]
    np.testing.assert_array_equal(
        held_out.prepared.batch(held_out.groups).amplitude, again.prepared.batch(again.groups).amplitude
    )


def test_sim_11_and_17_families_take_turns_from_epoch_to_epoch_and_each_validates(blind):
    source = SimulatedScans(blind, replace(CONFIG, n_groups=128))
    drawn = [item.ready().prepared for epoch in (1, 2, 3, 4) for item in source.training(epoch)]
    names = [item.scan.raw.source.split()[0] for item in drawn]
    turns = 'composite dead-leaves composite lines composite siemens smooth composite'
    assert ' '.join(names) == turns
    held_out = [item.prepared.scan.raw.source.split()[0] for item in source.validation()]
    assert sorted(held_out) == sorted(OBJECT_FAMILIES)


@pytest.mark.parametrize(('n_groups', 'fewest'), [(40, 10), (300, 50), (1000, 96), (4000, 200)])
def test_sim_17_enough_groups_validate_that_no_chance_picks_the_best_epoch(blind, n_groups, fewest):
    drawn = SimulatedScans(blind, replace(CONFIG, n_groups=n_groups)).validation()
    assert fewest <= sum(len(item.groups) for item in drawn) < fewest + 10


def test_sim_16_doses_scatter_around_that_of_the_scan_and_of_what_is_asked_for(blind):
    for photons, expected in ((None, 1e5), (1e3, 1e3)):
        source = SimulatedScans(blind, replace(CONFIG, n_groups=400, batch_size=10), photons=photons)
        probes = [item.ready().prepared.illumination.probe for item in source.training(1)]
        level = [float((np.abs(probe) ** 2).sum()) for probe in probes]
        assert np.exp(np.mean(np.log(level))) == pytest.approx(expected, rel=0.3)
        assert 2 < max(level) / min(level) <= 9 * (1 + 1e-5)
    steady = SimulatedScans(blind, CONFIG, photons=1e4, variety=ObjectVariety(photon_factor=1.0))
    counts = [(batch.amplitude**2.0).sum() / 16 for batch in batches(steady)]
    assert counts == pytest.approx([1e4] * 5, rel=0.3)


def test_sim_16_contrasts_are_a_third_to_all_of_the_largest_and_the_mean_intensity_is_1(blind, monkeypatch):
    """-log amplitude and phase are drawn apart, log-uniform."""
    drawn = []

    def watched(family, shape, rng, *, absorption, phase):
        drawn.append((absorption / 0.6, phase / 1.2))
        return make_object(family, shape, rng, absorption=absorption, phase=phase)

    monkeypatch.setattr(simulated, 'make_object', watched)
    variety = ObjectVariety(absorption=0.6, phase=1.2)
    source = SimulatedScans(blind, replace(CONFIG, n_groups=64 * 40), variety=variety)
    first, *others = [item.ready() for item in source.training(1)]
    logarithm = -np.log(drawn) / np.log(3)
    assert len(others) == 39
    assert logarithm.min() >= 0
    assert logarithm.max() <= 1
    assert logarithm.min() < 0.1
    assert logarithm.max() > 0.9
    np.testing.assert_allclose(logarithm.mean(axis=0), 0.5, atol=0.12)
    assert abs(np.corrcoef(logarithm.T)[0, 1]) < 0.4
    batch = first.prepared.batch(first.groups)
    light = (np.abs(batch.illumination.probe) ** 2).sum(axis=0)
    power = (np.abs(batch.labels) ** 2 * light).sum(axis=(-2, -1)) / light.sum()
    assert power.mean() == pytest.approx(1, abs=0.03)


def test_several_templates_take_turns_and_must_have_one_size(blind):
    other = Scan.from_raw(small_scan(size=32, modes=1, seed=3))
    drawn = SimulatedScans([blind, other], CONFIG).training(1)
    assert [len(item.ready().prepared.illumination.probe) for item in drawn] == [1, 2, 1, 2, 1]
    for wrong in (0, np.inf):
        with pytest.raises(ConfigError, match=f'photons is {wrong}'):
            SimulatedScans(blind, CONFIG, photons=wrong)
    with pytest.raises(DataValueError, match=r'patterns of \[32, 64\] pixels'):
        SimulatedScans([blind, Scan.from_raw(small_scan())], CONFIG)


def test_sim_12_varied_probes_keep_their_kind(blind):
    probe = blind.raw.probeGuess
    widths = [illuminated_width(vary_probe(probe, np.random.default_rng(seed), 1.0)) for seed in range(8)]
    assert 1.05 < max(widths) / min(widths) < 2
    np.testing.assert_allclose(
        vary_probe(probe, np.random.default_rng(0), 0.0), probe, atol=1e-3 * abs(probe).max()
    )
    source = SimulatedScans(blind, CONFIG, variety=ObjectVariety(probe_variation=1.0, photon_factor=1.0))
    first, second, *_ = (item.ready().prepared.illumination.probe for item in source.training(1))
    assert abs(first - second).max() > 0.05 * abs(first).max()
    with pytest.raises(ConfigError, match='photon_factor is 0'):
        ObjectVariety(photon_factor=0.5)
    for wrong in (0.0, 1.1):
        with pytest.raises(ConfigError, match='weakest'):
            ObjectVariety(weakest=wrong)
    for name in ('absorption', 'phase', 'photon_factor', 'probe_variation'):
        for wrong in (np.inf, np.nan):
            with pytest.raises(ConfigError, match=f'{name} is {wrong}'):
                ObjectVariety(**{name: wrong})
    with pytest.raises(ConfigError, match=r'families is \(\); expected one or more'):
        ObjectVariety(families=())
    with pytest.raises(
        ConfigError, match=r"families is \('smooth', 'line'\); expected one or more of dead-leaves, "
    ):
        ObjectVariety(families=('smooth', 'line'))


class FixedDraws:
    """Stands for a generator: no turns, and normal numbers that are given."""

    def __init__(self, *aberrations, width=0.0):
        self._aberrations, self._width = np.array(aberrations, float), width

    def uniform(self, low, high, count):
        return np.zeros(count)

    def standard_normal(self, count=None):
        return self._width if count is None else self._aberrations


def test_sim_12_aberrations_and_width_have_the_stated_size():
    """Of a pupil that is a disc: its edge, inside of which nine tenths of the power lie, is at √0.9 of it."""
    frequency = np.fft.fftshift(np.fft.fftfreq(64))
    radius = np.hypot(frequency[:, None], frequency)
    pupil = radius < 0.25
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))[None]
    r = radius[pupil] / (0.25 * np.sqrt(0.9))
    theta = np.arctan2(*(np.broadcast_to(f, (64, 64))[pupil] for f in (frequency[:, None], frequency)))
    shapes = {
        (1, 0, 0): 2 * r**2,
        (0, 1, 0): 2 * 0.5 * r**2 * np.cos(2 * theta),
        (0, 0, 1): 2 * 0.5 * (3 * r**3 - 2 * r) * np.cos(theta),
    }

    def pupil_of(field):
        return np.fft.fftshift(np.fft.fft2(field[0]))[pupil]

    for draws, expected in shapes.items():
        varied = vary_probe(probe, FixedDraws(*draws), 2.0)
        turn = np.angle(pupil_of(varied) * np.conj(pupil_of(probe)))
        # The edge is found to a pixel of the pupil.
        assert np.abs(np.angle(np.exp(1j * (turn - expected)))).max() < 0.1
        assert np.ptp(turn) > 0.9
    wider = vary_probe(probe, FixedDraws(0, 0, 0, width=1.0), 2.0)
    assert illuminated_width(wider) / illuminated_width(probe) == pytest.approx(np.exp(0.2), rel=0.02)


def test_the_truth_counts_unless_the_losses_say_so_themselves():
    assert with_truth(CONFIG) == replace(CONFIG, realspace_mae_weight=1.0)
    own = replace(CONFIG, realspace_mae_weight=0.5)
    assert with_truth(own) == own


def test_sim_10_and_14_a_product_without_patterns_is_enough(blind, tmp_path):
    path = tmp_path / 'product.h5'
    export_product_from_rawdata(blind.raw, path)
    for asked in (path, tmp_path):
        (found,) = load_templates(asked)
        np.testing.assert_allclose(found.raw.probeGuess, blind.raw.probeGuess)
        np.testing.assert_allclose(np.diff(found.raw.xcoords), np.diff(blind.raw.xcoords), atol=1e-6)
        source = SimulatedScans(found, CONFIG)
        power = float((np.abs(blind.raw.probeGuess) ** 2).sum())
        assert source.reference.scale.mean_counts == pytest.approx(power, rel=1e-3)
        assert batches(source)[0].amplitude.shape == (4, 4, 32, 32)
    assert load_templates(path, 777.0)[0].raw.diffraction[0].sum() > 0
    assert SimulatedScans(load_templates(path, 777.0), CONFIG).reference.scale.mean_counts == pytest.approx(
        777
    )
    export_product_from_rawdata(blind.raw, path, ExportMeta(probe_photon_count=5e3))
    assert SimulatedScans(load_templates(path), CONFIG).reference.scale.mean_counts == pytest.approx(5e3)
    # Those of the positions stand above that of the probe.
    each = np.linspace(1e3, 3e3, len(blind.raw))
    write_product(path, replace(read_product(path), position_photon_counts=each))
    assert SimulatedScans(load_templates(path), CONFIG).reference.scale.mean_counts == pytest.approx(2e3)


def test_sim_10_and_14_a_probe_alone_gets_a_raster(blind, tmp_path):
    probe = blind.raw.probeGuess
    np.savez(tmp_path / 'probe.npz', probeGuess=probe, bad_pixels=BAD)
    (found,) = load_templates(tmp_path / 'probe.npz')
    assert len(found.raw) == 256
    assert found.raw.bad_pixels[3, 10]
    (tmp_path / 'corrupt.npz').write_bytes((tmp_path / 'probe.npz').read_bytes()[:-100])
    with pytest.raises(DataValueError, match=r'corrupt\.npz is not a readable NPZ file'):
        load_templates(tmp_path / 'corrupt.npz')
    step = np.sqrt(np.ptp(found.raw.xcoords) * np.ptp(found.raw.ycoords)) / 15
    assert step == pytest.approx(illuminated_width(probe) / 4, rel=0.1)
    np.savez(tmp_path / 'more.npz', probeGuess=probe, xcoords=blind.raw.xcoords, ycoords=blind.raw.ycoords)
    assert len(load_templates(tmp_path / 'more.npz')[0].raw) == len(blind.raw)
    np.save(tmp_path / 'unit.npy', probe / np.linalg.norm(probe))
    with pytest.raises(DataValueError, match='power of 1, which is no number of photons'):
        load_templates(tmp_path / 'unit.npy')
    assert load_templates(tmp_path / 'unit.npy', 1e4)
