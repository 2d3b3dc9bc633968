"""A scan corrects its own experiment; one that is right stays as it is (CAL-* of specs/physics.md)."""

import logging
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho_engine import reconstruct
from ptycho_engine.backends.base import create_backend
from ptycho_engine.commands import main
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.config.inference import CALIBRATED_PARTS
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import Cancelled, ConfigError
from ptycho_engine.events import IterationDone
from ptycho_engine.formats.packaged import NO_MODEL, load_model
from ptycho_engine.physics.calibration import ExperimentRefinement
from ptycho_engine.physics.coherent import CoherentModes
from ptycho_engine.physics.detector import unexplained_pixels
from ptycho_engine.physics.forward import BACKGROUND, cut_patches, predict_intensity
from ptycho_engine.physics.geometry import PatchPlacement, place_patches
from ptycho_engine.physics.information import position_information
from ptycho_engine.physics.likelihood import Residuals
from ptycho_engine.physics.probe import with_first_modes
from ptycho_engine.physics.probe_changes import (
    defocused,
    shifted_on_detector,
    with_more_modes,
)
from ptycho_engine.physics.scan_likelihood import NumpyScanPhysics
from ptycho_engine.reconstruction.evaluate import evaluate, read_object
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.centring import off_probe
from ptycho_engine.scan.scan import Scan, load_scan
from ptycho_engine.scoring.scores import scanned_box, score
from ptycho_engine.whole_scan import calibrate, judgement
from ptycho_engine.whole_scan.calibrate import Calibrator
from ptycho_engine.whole_scan.corrections import _of_the_probe as of_the_probe
from ptycho_engine.whole_scan.held_out import fit_on_device, scan_patterns
from ptycho_engine.whole_scan.judgement import HOPELESS, OPTIONS, Judge, Trial
from ptycho_engine.whole_scan.object_solver import IterationCount, ObjectSolver
from ptycho_engine.whole_scan.object_solver import _limit as limit_of
from ptycho_engine.whole_scan.paired import limited_difference, paired_difference
from ptycho_engine.whole_scan.remaining import IN_WORDS, Remaining, probe_scatter, remaining
from ptycho_engine.whole_scan.scan_model import ScanModel
from ptycho_engine.whole_scan.varying import DRIFTS, LITTLE, main_modes, probe_drift, with_stretches
from tests.whole_scan.test_refine import dense_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')


def run(raw, **options):
    """Return (NRMSE, Reconstruction) of physics alone."""
    scan = Scan.from_raw(raw)
    for event in reconstruct(scan, load_model(NO_MODEL), InferenceConfig(**options), execution=CPU):
        if isinstance(event, Reconstructed):
            result = event.reconstruction
    return score(raw.objectGuess, result.object_array, scanned_box(scan)).nrmse, result


@pytest.fixture(scope='module')
def right():
    return dense_scan(points=9, photons=1e5).raw


@pytest.fixture(scope='module')
def clean(right):
    return run(right)


def counts_of(raw):
    return np.rint(np.square(raw.diffraction, dtype=np.float64))


def with_counts(raw, counts):
    return replace(raw, diffraction=np.sqrt(counts).astype(np.float32))


def with_background(raw):
    return with_counts(raw, counts_of(raw) + np.random.default_rng(1).poisson(8.0, raw.diffraction.shape))


def with_uneven_background(raw):
    y, x = np.mgrid[: raw.N, : raw.N] / raw.N
    counts = 1 + 7 * x + 10 / (1 + ((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.15**2)
    return with_counts(raw, counts_of(raw) + np.random.default_rng(1).poisson(counts, raw.diffraction.shape))


def with_intensities(raw):
    rng = np.random.default_rng(2)
    part = rng.uniform(0.3, 1.2, (len(raw), 1, 1))
    return with_counts(raw, rng.binomial(counts_of(raw).astype(int), part / 1.2))


def with_hot_pixel(raw):
    counts = counts_of(raw)
    counts[:, 4, 27] = 5000
    return with_counts(raw, counts)


def with_gap(raw):
    counts = counts_of(raw)
    counts[:, :, 19] = 0
    return with_counts(raw, counts)


def with_wrong_focus(raw):
    return replace(raw, probeGuess=defocused(raw.probeGuess, 4.0))


def with_wrong_positions(raw):
    rng = np.random.default_rng(4)
    dx, dy = rng.normal(0, 0.4, (2, len(raw)))
    return replace(raw, xcoords=raw.xcoords + dx, ycoords=raw.ycoords + dy)


def with_turned_axes(raw):
    x, y = raw.xcoords - raw.xcoords.mean(), raw.ycoords - raw.ycoords.mean()
    cosine, sine = np.cos(0.12), np.sin(0.12)
    return replace(
        raw,
        xcoords=cosine * x - sine * y + raw.xcoords.mean(),
        ycoords=sine * x + cosine * y + raw.ycoords.mean(),
    )


def with_stretched_axes(raw):
    """By 2 %, which hardly shows in the deviance."""
    x, y = raw.xcoords.mean(), raw.ycoords.mean()
    return replace(raw, xcoords=x + 1.02 * (raw.xcoords - x), ycoords=y + 1.02 * (raw.ycoords - y))


def with_shifted_patterns(raw):
    """By two pixels and one; what would come in at the other side was not measured."""
    bad = np.zeros(raw.diffraction.shape[1:], bool)
    bad[:2] = bad[:, -1:] = True
    counts = np.where(bad, 0, np.roll(counts_of(raw), (2, -1), axis=(1, 2)))
    return replace(with_counts(raw, counts), bad_pixels=bad)


WRONG = {
    'background': (with_background, 'a background of 8', 1.4),
    'uneven background': (with_uneven_background, 'a background of 6.', 1.4),
    'intensities': (with_intensities, 'beam intensities from 0.4', 1.6),
    'hot pixel': (with_hot_pixel, '1 bad pixel of the detector left out', 1.2),
    'gap': (with_gap, 'bad pixels of the detector left out', 1.3),
    'focus': (with_wrong_focus, 'the probe (overlap', 1.5),
    'positions': (with_wrong_positions, 'positions by 0.', 1.7),
    'axes': (with_turned_axes, 'the axes of the scan (turned by -6.', 1.5),
    'middle': (with_shifted_patterns, 'off the middle of the detector by 2 px along y, -1 px along x', 2.0),
}


@pytest.mark.parametrize('kind', WRONG)
def test_cal_02_and_08_what_is_wrong_is_found_corrected_and_told(right, clean, kind):
    change, phrase, limit = WRONG[kind]
    wrong = change(right)
    before, _ = run(wrong, calibrate='off')
    after, result = run(wrong)
    assert before > 1.5 * clean[0]
    assert after < limit * clean[0]
    assert phrase in result.comments


def forces_at_the_end(raw):
    """Return the forces that are left at the image of physics alone."""
    config = InferenceConfig(calibrate='off')
    with closing(create_backend(config.backend, CPU)) as backend:
        solver = ObjectSolver(
            ScanModel(Scan.from_raw(raw)), backend, config, IterationCount(lambda: False, None)
        )
        list(solver.descend())
        return remaining(solver.patterns, solver.physics, solver.current)


def test_cal_10_a_right_scan_asks_for_nothing(right):
    forces = forces_at_the_end(right)
    assert not [option for option in OPTIONS if forces.speaks_of(option) or forces.allows(option)]
    assert not forces.sure
    # By a margin, so that it is no chance.
    assert forces.intensities < 1.15
    assert forces.axes > 1e-2
    assert forces.probe < 1.3
    assert forces.positions < 1.5
    assert forces.background < 0.02


def looked_at_by_forces(physics, monkeypatch):
    """Return a list that grows by the patterns whose forces are asked for."""
    looked_at = []
    every = physics.experiment_gradient

    def counted(obj, indices, **options):
        looked_at.extend(indices)
        return every(obj, indices, **options)

    monkeypatch.setattr(physics, 'experiment_gradient', counted)
    return looked_at


def test_cal_10_of_a_large_scan_some_patterns_tell(right, monkeypatch):
    """All of ten thousand told of the least bias that an image has, and parts of a right scan were tried."""
    patterns = scan_patterns(ScanModel(Scan.from_raw(right)), 0)
    physics = NumpyScanPhysics(patterns)
    looked_at = looked_at_by_forces(physics, monkeypatch)
    monkeypatch.setattr('ptycho_engine.whole_scan.remaining.MOST_PATTERNS', 40)
    remaining(patterns, physics, np.ones(patterns.shape, np.complex64))
    assert len(set(looked_at)) == len(looked_at) == 40 < len(right)
    assert np.ptp(looked_at) > 0.8 * len(right)


@pytest.mark.parametrize(
    ('change', 'option'),
    [
        (with_background, 'background'),
        (with_intensities, 'intensities'),
        (with_turned_axes, 'axes'),
        (with_stretched_axes, 'axes'),
        (with_wrong_focus, 'probe'),
        (with_wrong_positions, 'single positions'),
    ],
)
def test_cal_10_a_wrong_part_is_told_by_the_force_on_it(right, change, option):
    forces = forces_at_the_end(change(right))
    assert forces.speaks_of(option)
    assert IN_WORDS[option] in forces.sure
    if change is with_stretched_axes:
        # Steps must become shorter.
        assert np.trace(forces.axes_force) > 0


def test_cal_10_slightly_stretched_axes_are_found_though_the_deviance_is_near_noise(right, clean):
    wrong = with_stretched_axes(right)
    before, _ = run(wrong, calibrate='off')
    after, result = run(wrong)
    assert after < 1.05 * clean[0] < 0.95 * before
    assert 'the axes of the scan' in result.comments


@pytest.mark.parametrize(
    ('forces', 'sure'),
    [
        (Remaining(background=0.4, counts=200), ('a background',)),
        (Remaining(background=0.4, counts=2e4), ()),
        (Remaining(intensities=1.4, unexplained=1.1), ('the intensity of the beam',)),
        (Remaining(intensities=1.4, unexplained=2.3), ()),
        (Remaining(positions=3.0), ('single positions',)),
        (Remaining(positions=3.0, unexplained=1.6), ()),
        (Remaining(probe=1.7), ()),
        (Remaining(probe=2.1, axes=1e-5), ('the axes of the scan', 'the probe')),
    ],
)
def test_doubt_04_what_an_image_far_from_noise_leaves_is_told_less_soon(forces, sure):
    assert forces.sure == sure


def test_cal_10_few_patterns_say_nothing(right):
    forces = forces_at_the_end(with_intensities(right).select(np.arange(12)))
    assert not [option for option in OPTIONS if forces.speaks_of(option)]


def test_cal_10_the_information_on_a_position_is_that_of_finite_differences(right):
    patterns = scan_patterns(ScanModel(Scan.from_raw(with_gap(right))), 0)
    rng = np.random.default_rng(6)
    obj = np.exp(0.2 * rng.standard_normal(patterns.shape) + 0.3j * rng.standard_normal(patterns.shape))
    chosen = np.array([3, 17, 40])
    found = position_information(patterns, obj, chosen)
    corner, subpixel_shift = patterns.placement.corner[chosen], patterns.placement.subpixel_shift[chosen]
    patches = cut_patches(obj, PatchPlacement(corner, subpixel_shift), patterns.size)

    def rate(dy, dx):
        return predict_intensity(patches, patterns.probe, subpixel_shift + np.array([dy, dx]))

    step = 1e-4
    slopes = [(rate(*(step * axis)) - rate(*(-step * axis))) / (2 * step) for axis in np.eye(2)]
    weight = patterns.valid / (rate(0, 0) + BACKGROUND)
    for a in range(2):
        for b in range(2):
            expected = (slopes[a] * slopes[b] * weight).sum(axis=(1, 2))
            np.testing.assert_allclose(found[:, a, b], expected, rtol=1e-4)


def test_cal_04_patterns_off_the_middle_are_told_by_their_mean(right):
    probe = right.probeGuess
    far_field = np.fft.fftshift((np.abs(np.fft.fft2(probe)) ** 2).sum(axis=0))
    for shift in ((0, 0), (2, -1), (-5, 3)):
        moved = np.roll(far_field, shift, axis=(0, 1))
        assert off_probe(moved, probe)[0] == (-shift[0], -shift[1])
        tilted = shifted_on_detector(probe, shift)
        np.testing.assert_allclose(
            np.fft.fftshift((np.abs(np.fft.fft2(tilted)) ** 2).sum(axis=0)),
            moved,
            rtol=1e-3,
            atol=1e-3 * moved.max(),
        )
    valid = np.ones(far_field.shape, bool)
    valid[:, 4] = False
    hot = np.where(valid, np.roll(far_field, 1, axis=0), 100 * far_field.max())
    assert off_probe(np.where(valid, hot, 0), probe, valid)[0] == (-1, 0)


def test_cal_02_a_scan_that_is_right_stays_as_it_is(right, clean):
    off, result = run(right, calibrate='off')
    np.testing.assert_array_equal(clean[1].object_array, result.object_array)
    assert 'calibrated' not in clean[1].comments
    on, result = run(right, calibrate='on')
    assert on == pytest.approx(off, rel=0.01)
    assert result.probe is None
    assert result.position_shift is None


def test_api_32_that_the_experiment_is_looked_at_is_told_while_it_lasts(right, caplog):
    """And how far it is, though nobody knows how long it takes."""
    config, told = InferenceConfig(), {}
    caplog.set_level(logging.INFO, 'ptychopinn.calibrate')
    for name, raw in (('right', right), ('wrong', with_wrong_positions(right))):
        events = reconstruct(Scan.from_raw(raw), load_model(NO_MODEL), config, execution=CPU)
        told[name] = [event for event in events if isinstance(event, IterationDone)]
    assert not any(event.calibrating for event in told['right'])
    (line,) = [record.message for record in caplog.records if 'looking for the cause' in record.message]
    assert line.startswith('The image leaves ')
    marks = [event.calibrating for event in told['wrong']]
    assert any(marks)
    assert not marks[0]
    assert not marks[-1], 'the end is an image as any'
    parts = [event.iteration / event.n_iterations for event in told['wrong']]
    first = marks.index(True)
    assert parts[first] < 0.7
    assert np.mean(np.array(parts) > 0.97) < 0.2


def begun(raw):
    """Return a solver that has begun, by NumPy."""
    backend = SimpleNamespace(scan_physics=NumpyScanPhysics)
    config, count = InferenceConfig(), IterationCount(lambda: False, None)
    solver = ObjectSolver(ScanModel(Scan.from_raw(raw)), backend, config, count)
    list(solver.begin())
    return solver


def test_cal_02_an_image_that_will_leave_much_is_not_brought_to_its_end(right):
    """By where the falls of its first steps lead; what comes to its end nevertheless goes on from there."""
    whole, hopeful, hopeless = (begun(right) for _ in range(3))
    list(whole.finish(patiently=False))
    noise = fit_on_device(whole.patterns, whole.physics, whole.current).noise
    list(hopeful.finish(patiently=False, hopeless=HOPELESS * noise))
    np.testing.assert_array_equal(whole.current, hopeful.current)
    list(hopeless.finish(patiently=False, hopeless=0.0))
    assert not hopeless.finished
    assert hopeless._taken < whole._taken / 1.5
    list(hopeless.finish())
    assert hopeless.finished
    reached = whole.physics.held_out(whole.current)
    assert hopeless.physics.held_out(hopeless.current) == pytest.approx(reached, rel=0.02)


@pytest.mark.parametrize(
    ('reached', 'limit'),
    [
        ((9.0, 5.0), -np.inf),
        ((9.0, 5.0, 3.0), 1.0),
        ((20.0, 9.0, 5.0, 3.0), 1.0),
        ((9.0, 7.0, 4.0), -np.inf),
        ((9.0, 7.0, 7.5), 7.5),
    ],
)
def test_cal_02_falls_of_equal_parts_lead_somewhere(reached, limit):
    assert limit_of(list(reached)) == pytest.approx(limit)


def test_cal_02_a_wrong_probe_is_found_though_nothing_pulls_at_it(right, clean, monkeypatch):
    monkeypatch.setattr(judgement, 'remaining', lambda *_: Remaining())
    found, result = run(with_wrong_focus(right))
    assert found < 1.5 * clean[0]
    assert 'the probe (overlap' in result.comments


def test_cal_14_focus_and_axes_are_searched_together(right, monkeypatch):
    """Another focus magnifies what a pattern shows."""
    asked = []

    def search(solver, patterns, options, *more):
        asked.append(options)
        yield from ()

    monkeypatch.setattr(calibrate, 'best_change', search)
    monkeypatch.setattr(judgement, 'remaining', lambda *_: Remaining(axes=1e-9))
    run(with_turned_axes(right))
    assert asked[0] == ['axes', 'probe']


@pytest.mark.parametrize('far', [False, True])
def test_cal_14_beside_a_corrected_probe_only_what_pulls_is_tried(right, monkeypatch, far):
    """And modes, for which a probe makes up; before, all are: an object makes up for a wrong probe."""
    tried = []
    ask = Calibrator._tried

    def asked(self, state, options, others, forces):
        tried.append((tuple(self._kept), tuple(options), tuple(others)))
        return (yield from ask(self, state, options, others, forces))

    monkeypatch.setattr(Calibrator, '_tried', asked)
    monkeypatch.setattr(judgement, 'remaining', lambda *_: Remaining(background=1.0))
    monkeypatch.setattr(judgement, 'FAR', 0.0)
    monkeypatch.setattr(calibrate, 'FAR', 0.0 if far else 1e9)
    run(with_wrong_focus(right))
    kept, options, others = tried[0]
    assert kept == ()
    assert {*options, *others} == set(OPTIONS)
    assert ('probe' in others) == far
    kept, options, others = tried[1]
    assert kept == ('probe',)
    assert options + others == ('background', 'uneven background', 'modes')
    assert others == (('modes',) if far else ())


def test_cal_14_modes_move_the_probe(right, monkeypatch):
    """Once they are kept it is not tried by itself any more, whatever pulls."""
    tried = []

    def asked(self, state, options, others, forces):
        tried.append(tuple(options))
        yield from ()
        return {} if self._kept else {'modes': state}

    monkeypatch.setattr(Calibrator, '_tried', asked)
    monkeypatch.setattr(judgement, 'remaining', lambda *_: Remaining(probe=9.0))
    run(right)
    assert 'probe' in tried[0]
    assert tried[1] == ()


def test_cal_02_of_few_photons_the_focus_is_looked_for_though_all_is_near_noise():
    right = dense_scan(points=9, photons=1e4).raw
    clean, untouched = run(right)
    assert 'calibrated' not in untouched.comments
    wrong = replace(right, probeGuess=defocused(right.probeGuess, -4.0))
    assert run(wrong, calibrate='off')[0] > 5 * clean
    found, result = run(wrong)
    assert found < 1.2 * clean
    assert 'the probe (overlap' in result.comments


def test_cal_04_a_probe_is_made_from_the_mean_pattern_where_that_of_the_file_is_none(right, clean):
    side = np.arange(right.N) - (right.N - 1) / 2
    beam = np.exp(-(side[:, None] ** 2 + side**2) / (2 * 5.0**2)).astype(np.complex64)
    found, result = run(replace(right, probeGuess=beam[None]))
    assert found < 2 * clean[0]
    assert 'calibrated: another probe, made from the patterns (overlap' in result.comments


def test_cal_02_what_was_tried_in_vain_leaves_nothing_behind(right, monkeypatch):
    _, plain = run(right, calibrate='off')
    monkeypatch.setattr(Judge, 'likely', lambda self, before, after: False)
    _, result = run(right, calibrate='probe,positions,intensities')
    np.testing.assert_array_equal(result.object_array, plain.object_array)
    # What follows, the prior too, sees the experiment as the file has it.
    assert result.quality.held_out == plain.quality.held_out


def test_cal_02_a_scan_of_many_counts_is_not_judged_by_its_first_steps():
    """Two iterations leave 8 times the deviance of noise, though nothing is wrong."""
    right = dense_scan(points=7, photons=1e6).raw
    iterations = [
        run(right, calibrate=words)[1].comments.split(' iterations')[0] for words in ('off', 'auto')
    ]
    assert iterations[0] == iterations[1]


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_cal_02_the_backends_find_the_same(right, backend):
    wrong = with_intensities(with_hot_pixel(right))
    ours, result = run(wrong)
    theirs, other = run(wrong, backend=backend)
    assert theirs == pytest.approx(ours, rel=0.01)
    assert other.comments.split('calibrated')[1] == result.comments.split('calibrated')[1]


def test_a_calibration_can_be_stopped(right):
    asked = iter([False] * 45 + [True] * 1000)
    events = reconstruct(
        Scan.from_raw(with_background(right)),
        load_model(NO_MODEL),
        execution=CPU,
        should_stop=lambda: next(asked),
    )
    with pytest.raises(Cancelled):
        list(events)


@pytest.mark.parametrize(('left', 'found'), [(1.42, set()), (1.38, {'uneven background'})])
def test_cal_16_an_uneven_background_must_take_away_most(monkeypatch, left, found):
    """Of 2 where 1 is noise; an even one need not."""

    def state(deviance, background):
        patterns = SimpleNamespace(background=background)
        return Trial(None, patterns, None, None, deviance + 1e-3 * np.arange(40) % 7)

    calibrator = Calibrator.__new__(Calibrator)
    calibrator._judge, calibrator._near_noise = Judge(1.0), False

    def attempt(start, option):
        return state(left, np.ones((4, 4)))
        yield

    monkeypatch.setattr(calibrator, '_attempt', attempt)
    alike = state(2.0, None)
    options = dict.fromkeys(('background', 'uneven background'), alike)
    with pytest.raises(StopIteration) as done:
        next(calibrator._compared(alike, options))
    assert set(done.value.value) == {'background'} | found


@pytest.mark.parametrize(
    ('change', 'phrase'),
    [
        (
            lambda p: np.roll(p[:, ::-1, ::-1].conj(), 3, axis=2),
            'the probe, into that of the file inverted and',
        ),
        (lambda p: p[:, ::-1, ::-1].conj() + 0.5 * p, 'the probe, into that of the file inverted and'),
        (lambda p: p + 0.1 * p[:, ::-1, ::-1].conj(), 'the probe (overlap'),
        (lambda p: defocused(p, 1.0), 'the probe (overlap'),
    ],
)
def test_cal_17_a_probe_that_has_become_its_twin_is_told(change, phrase):
    """The probe is no twin of itself: it has a coma."""
    y, x = np.mgrid[:32, :32] / 16 - 1
    radius = np.hypot(y, x)
    pupil = np.where((radius < 0.6) & (radius > 0.2), np.exp(1j * (12 * radius**2 + 20 * x * radius**2)), 0)
    old = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))[None].astype(np.complex64)
    told = [correction.phrase for correction in of_the_probe(old, change(old).astype(np.complex64))]
    assert len(told) == 1
    assert told[0].startswith(phrase)


def test_cal_06_the_setting_names_parts():
    """`refine_probe` and `refine_positions` are names of two of them (SOLVE-06)."""
    assert InferenceConfig().calibrated_parts == CALIBRATED_PARTS
    assert InferenceConfig(calibrate='off').calibrated_parts == ()
    assert InferenceConfig(calibrate='probe, background').calibrated_parts == ('background', 'probe')
    old = InferenceConfig(calibrate='off', refine_probe=True, refine_positions=True)
    assert old.calibrated_parts == ('probe', 'positions')
    assert old.calibrates_anyway
    assert not InferenceConfig().calibrates_anyway
    with pytest.raises(ConfigError, match='calibrate is'):
        InferenceConfig(calibrate='probe,focus')


def test_cal_07_a_difference_is_told_by_its_scatter_over_the_patterns():
    rng = np.random.default_rng(0)
    noise = rng.normal(1, 1, 400)
    found = paired_difference(noise, noise - 0.01 + rng.normal(0, 0.02, 400))
    assert found.mean == pytest.approx(-0.01, abs=0.003)
    assert found.error == pytest.approx(0.001, rel=0.1)
    assert found.score == pytest.approx(-10, abs=3)
    assert paired_difference(noise, noise).score == 0
    assert paired_difference(noise[:1], noise[:1] - 1).score == 0
    assert paired_difference(noise, noise * np.nan).score == np.inf


def test_cal_08_a_few_patterns_do_not_hide_what_is_better_in_all_others():
    rng = np.random.default_rng(0)
    first = np.ones(100)
    second = first - 0.05 + rng.normal(0, 0.02, 100)
    second[:2] -= 50
    assert paired_difference(first, second).score > -2
    assert limited_difference(first, second).score < -10
    second[:3] += 100
    assert limited_difference(first, second).score < -10


def test_cal_08_patterns_without_light_are_told_by_the_intensity_of_the_beam(right, clean):
    counts = counts_of(right)
    counts[[17, 50]] = 0
    found, result = run(with_counts(right, counts))
    assert found < 1.2 * clean[0]
    assert 'beam intensities from' in result.comments


def test_cal_03_pixels_at_fault_are_told_from_dark_ones():
    """A dark corner, and a dead pixel beside a hot one and a gap that reaches into it."""
    y, x = np.mgrid[:32, :32] - 16
    expected = 1e4 * np.exp(-(x**2 + y**2) / 40)
    counts = np.random.default_rng(0).poisson(expected).astype(float)
    counts[16, 20], counts[5, 5], counts[:, 14] = 0, 900, 0
    misfits = 50.0 * (np.abs(counts - expected) > 5 * np.sqrt(expected + 1))

    def residuals(rate):
        images = (np.fft.ifftshift(a) for a in (counts, rate, misfits, np.full((32, 32), 50.0)))
        return Residuals(*images)

    bad = unexplained_pixels(residuals(expected), residuals(expected))
    assert bad[16, 20]
    assert bad[5, 5]
    lit = expected[:, 14] > 3
    assert bad[lit, 14].all()
    assert bad.sum() == 2 + lit.sum()
    # More than 15 % are none.
    counts[:] = 0
    assert not unexplained_pixels(residuals(expected), residuals(expected)).any()


def test_cal_15_a_row_of_stuck_pixels_is_left_out(right, clean):
    """The object follows it: of its pixels only some are far off in most patterns."""
    counts = counts_of(right)
    counts[:, 20] = 500
    found, result = run(with_counts(right, counts))
    assert found < 1.1 * clean[0]
    size = right.N
    assert f'{size} bad pixels of the detector left out' in result.comments


def test_cal_03_pixels_that_hold_the_light_of_a_wrong_probe_are_not_left_out(right, clean):
    """That of one which is the same everywhere is in one pixel: the run ended with an error."""
    found, result = run(replace(right, probeGuess=np.ones_like(right.probeGuess)))
    assert 'bad pixel' not in result.comments
    assert 'another probe, made from the patterns' in result.comments
    assert found < 1.5 * clean[0]


def test_cal_04_a_focus_is_changed_without_loss(right):
    probe = right.probeGuess
    away = defocused(probe, 5.0)
    assert np.linalg.norm(away) == pytest.approx(np.linalg.norm(probe), rel=1e-5)
    assert abs(np.vdot(away, probe)) < 0.5 * np.linalg.norm(probe) ** 2
    np.testing.assert_allclose(defocused(away, -5.0), probe, atol=1e-5 * np.abs(probe).max())


def test_cal_05_a_product_takes_more_modes_and_fewer():
    probes = np.arange(2 * 2 * 4 * 4).reshape(2, 2, 4, 4).astype(np.complex64)
    three = with_first_modes(probes, -np.ones((3, 4, 4), np.complex64))
    assert three.shape == (2, 3, 4, 4)
    assert (three[0] == -1).all()
    np.testing.assert_array_equal(three[1, :2], probes[1])
    assert not three[1, 2].any()
    one = with_first_modes(probes, -np.ones((1, 4, 4), np.complex64))
    np.testing.assert_array_equal(one[1], probes[1, :1])


def test_result_09_what_was_found_is_in_the_file_and_evaluate_predicts_with_it(right, tmp_path):
    path = tmp_path / 'scan.npz'
    with_hot_pixel(with_background(right)).to_file(path)
    main(['reconstruct', str(path), '--model', 'none', '--output', str(tmp_path / 'out'), '--quiet'])
    result = read_object(tmp_path / 'out')
    assert result.background is not None
    assert result.background.mean() == pytest.approx(8, rel=0.05)
    assert result.bad_pixels is not None
    assert result.bad_pixels[4, 27]
    scan = load_scan(path)
    assert evaluate(result, result, scan).deviance < 1.2
    assert evaluate(replace(result, background=None), result, scan).deviance > 2


def test_cal_05_more_modes_have_the_same_power(right):
    probe = right.probeGuess
    modes = with_more_modes(probe)
    assert len(modes) == 3
    assert np.linalg.norm(modes) == pytest.approx(np.linalg.norm(probe), rel=1e-5)
    products = np.abs(np.einsum('pij,qij->pq', modes, modes.conj()))
    assert (products - np.diag(np.diag(products))).max() < 1e-3 * products.max()
    assert len(with_more_modes(modes)) == 3


def test_cal_09_probe_and_positions_are_found_together(right, clean):
    before, _ = run(with_wrong_positions(with_wrong_focus(right)), calibrate='off')
    after, result = run(with_wrong_positions(with_wrong_focus(right)))
    assert before > 4 * clean[0]
    assert after < 3 * clean[0]
    assert 'the probe' in result.comments
    assert 'positions by' in result.comments
    moved = with_wrong_positions(right)
    found = result.position_shift
    errors = np.stack([moved.ycoords - right.ycoords, moved.xcoords - right.xcoords], axis=1)
    left = found + errors - np.median(found + errors, axis=0)
    # Patterns at the edge hardly know where they are.
    assert np.median(np.hypot(*left.T)) < 0.5 * np.median(np.hypot(*errors.T))


def test_cal_09_a_pass_over_subsets_keeps_the_mean_of_the_intensities(right):
    patterns = scan_patterns(ScanModel(Scan.from_raw(with_intensities(right))), 0)
    physics = NumpyScanPhysics(patterns)
    experiment = ExperimentRefinement(physics, patterns, intensities=True)
    flat = np.ones(patterns.shape, np.complex64)
    for subset in np.array_split(np.random.default_rng(0).permutation(len(patterns)), 4):
        experiment.evaluate(flat, subset, 'poisson')
    found = experiment.patterns.intensity
    assert found.mean() == pytest.approx(1, abs=1e-9)
    assert found.std() > 0.1


def with_drifting_beam(raw):
    """Return patterns that wander to and fro by a pixel of the detector while the scan goes on."""
    placement = place_patches(raw.xcoords, raw.ycoords, raw.N)
    rows = np.arange(raw.N)[:, None] / raw.N
    counts = []
    for place, shift in enumerate(np.cos(np.linspace(0, 2 * np.pi, len(raw)))):
        one = placement.subpixel_shift[[place]]
        patch = cut_patches(raw.objectGuess, PatchPlacement(placement.corner[[place]], one), raw.N)
        counts.append(predict_intensity(patch, raw.probeGuess * np.exp(2j * np.pi * shift * rows), one))
    return with_counts(raw, np.random.default_rng(5).poisson(np.concatenate(counts)))


@pytest.mark.parametrize(
    'change', [lambda raw: raw, with_wrong_focus, with_wrong_positions, with_drifting_beam]
)
def test_cal_18_a_probe_that_drifts_is_told_by_the_forces_of_stretches(right, change):
    prepared = ScanModel(Scan.from_raw(change(right)))
    with closing(create_backend('pytorch', CPU)) as backend:
        solver = ObjectSolver(prepared, backend, InferenceConfig(), IterationCount(lambda: False, None))
        for _ in solver.descend():
            pass
        drift = probe_drift(solver.patterns, solver.physics, solver.current)
    assert (drift > DRIFTS) == (change is with_drifting_beam), drift


def test_cal_18_what_the_forces_scatter_by_chance_is_not_found_twice(right, monkeypatch):
    patterns = scan_patterns(ScanModel(Scan.from_raw(right)), 0)
    physics, flat = NumpyScanPhysics(patterns), np.ones(patterns.shape, np.complex64)
    known = remaining(patterns, physics, flat).probe_scatter
    drift = probe_drift(patterns, physics, flat)
    looked_at = looked_at_by_forces(physics, monkeypatch)
    assert probe_drift(patterns, physics, flat, known) == pytest.approx(drift, rel=1e-6)
    np.testing.assert_array_equal(looked_at, np.arange(len(right)))
    # Sets of unlike numbers of patterns, all pulled alike, do not scatter.
    alike = np.array([6, 7])[:, None, None, None] * np.ones((1, 1, 4, 4))
    assert probe_scatter(alike, [np.arange(6), np.arange(7)]) == pytest.approx(0, abs=1e-12)
    # Of some patterns only it is another number.
    monkeypatch.setattr('ptycho_engine.whole_scan.remaining.MOST_PATTERNS', 40)
    assert remaining(patterns, physics, flat).probe_scatter is None


def test_cal_19_a_probe_that_drifts_gets_modes_of_its_own(right, clean):
    raw = with_drifting_beam(right)
    error, result = run(raw)
    plain, _ = run(raw, calibrate='off')
    assert error < 0.25 * plain
    assert error < 3 * clean[0]
    assert 'a probe that varies over the scan' in result.comments


def test_cal_19_the_modes_that_hardly_vary_are_left_out(right):
    patterns = with_stretches(scan_patterns(ScanModel(Scan.from_raw(right)), 0))
    np.testing.assert_allclose(patterns.coherent.factors[:, 1:].sum(axis=1), 1)
    strength = np.linalg.norm(patterns.probe[0])
    rng = np.random.default_rng(6)
    modes = np.linalg.qr(rng.standard_normal((right.N**2, 5)))[0].T.reshape(5, right.N, right.N)
    weights = rng.standard_normal((len(right), 5)) * np.sqrt([0.1, 0.01, 0.003, 0.002, LITTLE / 3])
    found = main_modes(replace(patterns, coherent=CoherentModes(strength * modes.astype(complex), weights)))
    assert len(found.coherent) == 3
    assert np.square(found.coherent.weights).mean(axis=0).min() > LITTLE
    few = main_modes(
        replace(patterns, coherent=CoherentModes(strength * modes[3:].astype(complex), weights[:, 3:]))
    )
    assert len(few.coherent) == 1
