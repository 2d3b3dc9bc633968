"""Calibration in the background of a live session (clauses LIVE-30 to LIVE-32 of specs/live.md)."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine import reconstruct
from ptycho_engine.commands.inputs import Opening
from ptycho_engine.commands.live import write_image
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig
from ptycho_engine.formats.measurement import Geometry
from ptycho_engine.formats.packaged import NO_MODEL, load_model
from ptycho_engine.formats.product import read_product
from ptycho_engine.live import calibration
from ptycho_engine.live import session as session_module
from ptycho_engine.live.experiment import Experiment
from ptycho_engine.live.image import LiveImage
from ptycho_engine.live.session import open_session
from ptycho_engine.physics.geometry import ObjectGrid
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scanned_box, score
from ptycho_engine.whole_scan.scan_model import ScanModel
from tests.conftest import small_scan

CPU = PyTorchExecutionConfig(accelerator='cpu')


@pytest.fixture(scope='module')
def raw():
    return small_scan(points=11, size=32, step=3.0)


def session(raw, calibrate='auto', grid=None):
    return open_session(
        raw.probeGuess,
        grid,
        domain='amplitude',
        execution=CPU,
        model=load_model(NO_MODEL),
        config=InferenceConfig(calibrate=calibrate),
    )


def pushed(raw, live):
    for start in range(0, len(raw), 8):
        part = np.arange(start, min(start + 8, len(raw)))
        live.push(raw.diffraction[part], np.stack([raw.ycoords[part], raw.xcoords[part]], axis=1), part)
    return live


def idle(live, most=1500):
    """Use idle time until there is nothing left to calibrate, and a little more."""
    for _ in range(most):
        live.improve()
        if not live._calibrating:
            break
    assert not live._calibrating
    for _ in range(25):
        live.improve()
    return live.snapshot()


def nrmse(raw, live):
    shot = live.snapshot()
    return score(raw.objectGuess, shot.object_array, scanned_box(Scan.from_raw(raw))).nrmse


def out_of_focus(raw):
    square = np.square(np.fft.fftfreq(raw.N))[:, None] + np.square(np.fft.fftfreq(raw.N))
    spread = np.fft.fft2(raw.probeGuess)
    width = (np.abs(spread) ** 2 * square).sum() / (np.abs(spread) ** 2).sum()
    probe = np.fft.ifft2(spread * np.exp(1.5j * square / width)).astype(np.complex64)
    return replace(raw, probeGuess=probe)


def with_background(raw):
    counts = np.square(raw.diffraction).round()
    more = np.random.default_rng(1).poisson(4.0, counts.shape)
    return replace(raw, diffraction=np.sqrt(counts + more).astype(np.float32))


def with_an_uneven_beam(raw):
    rng = np.random.default_rng(2)
    counts = np.square(raw.diffraction).round().astype(np.int64)
    thinned = rng.binomial(counts, rng.uniform(0.3, 1.0, (len(raw), 1, 1)))
    return replace(raw, diffraction=np.sqrt(thinned).astype(np.float32))


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (out_of_focus, 'the probe'),
        (with_background, 'a background of'),
        (with_an_uneven_beam, 'beam intensities from'),
    ],
)
def test_live_30_what_is_not_as_it_was_told_is_found_while_frames_come(raw, wrong, words):
    scan, grid = wrong(raw), Scan.from_raw(raw).grid
    as_told = pushed(scan, session(scan, 'off', grid))
    for _ in range(25):
        as_told.improve()
    live = pushed(scan, session(scan, grid=grid))
    shot = idle(live)
    assert len(shot.quality.calibrated) == 1
    assert words in shot.quality.calibrated[0]
    assert words in shot.quality.sentence
    assert nrmse(raw, live) < 0.6 * nrmse(raw, as_told)
    assert len(live.curve.points)
    assert shot.counts.used == len(raw)


def test_live_30_of_a_right_scan_nothing_is_found(raw):
    live = pushed(raw, session(raw, grid=Scan.from_raw(raw).grid))
    shot = idle(live)
    assert shot.quality.calibrated == ()
    assert shot.experiment.probe is live._image.experiment.probe
    assert nrmse(raw, live) < 0.06


def test_live_30_it_plays_no_part_in_the_end(raw):
    """Nor does what is left out or found on the way get into the scan that is kept."""
    scan = with_background(raw)
    live = pushed(scan, session(scan, grid=Scan.from_raw(scan).grid))
    assert idle(live).experiment.found
    *_, last = reconstruct(Scan.from_raw(scan), load_model(NO_MODEL), InferenceConfig(), execution=CPU)
    assert isinstance(last, Reconstructed)
    whole = last.reconstruction
    result = live.close()
    np.testing.assert_array_equal(result.background, whole.background)


def test_live_31_what_is_found_holds_for_frames_to_come(raw):
    """Axes map every position, and map those again that a later calibration finds."""
    place = np.random.default_rng(0).uniform(0, 50, (30, 2))
    turn = np.array([[1.02, -0.05], [0.05, 1.02]])

    def model(positions):
        y, x = positions.T
        part = replace(raw.select(np.arange(30)), ycoords=y, xcoords=x, objectGuess=None)
        return ScanModel(Scan(part, ObjectGrid.around_scan(x, y, raw.N)))

    told, middle = Experiment(raw.probeGuess), place.mean(axis=0)
    first = told.corrected(model(place), model(place), model((place - middle) @ turn.T + middle))
    np.testing.assert_allclose(first.place(place), (place - middle) @ turn.T + middle, atol=1e-4)
    assert 'the axes of the scan' in first.found[0]
    again = first.place(place)
    second = first.corrected(model(place), model(again), model((again - middle) @ turn.T + middle))
    np.testing.assert_allclose(second.place(place), (place - middle) @ turn.T @ turn.T + middle, atol=1e-3)
    assert len(second.found) == 1
    single = place + np.random.default_rng(1).normal(0, 1, place.shape)
    alone = told.corrected(model(place), model(place), model(single))
    np.testing.assert_allclose(alone.place(place), place, atol=1e-9)
    assert alone.found == ()


def test_live_31_a_second_image_that_explains_the_frames_worse_is_left(raw, monkeypatch):
    scan = with_background(raw)
    deviance = iter(range(100))
    monkeypatch.setattr(LiveImage, 'unexplained', lambda self: next(deviance))
    live = pushed(scan, session(scan))
    shot = idle(live)
    assert next(deviance) == 2
    assert shot.experiment.found == ()


def test_live_32_it_takes_a_tenth_of_the_time_where_there_is_no_idle_time(raw, monkeypatch):
    now, slices = [0.0], []
    monkeypatch.setattr(session_module.time, 'perf_counter', lambda: now[0])

    def takes_a_second(function):
        def timed(*given):
            now[0] += 1
            return function(*given)

        return timed

    live = session(raw)
    monkeypatch.setattr(calibration, 'SAMPLE', 40)
    live._calibration._next = 40
    monkeypatch.setattr(live._image, 'take_in', takes_a_second(live._image.take_in))
    monkeypatch.setattr(
        live._calibration, 'work', takes_a_second(lambda image: slices.append(len(image.used)))
    )
    for again in range(8):
        for start in range(0, 120, 8):
            part = np.arange(start, start + 8)
            place = np.stack([raw.ycoords[part], raw.xcoords[part]], axis=1)
            live.push(raw.diffraction[part], place, 1000 * again + part)
    assert slices[0] == 40
    # Of 116 batches after the first 32 frames.
    assert len(slices) in (11, 12)


def test_live_30_nothing_is_looked_for_where_calibration_is_off(raw, monkeypatch):
    monkeypatch.setattr(calibration.LiveCalibration, 'work', lambda *given: pytest.fail('it was'))
    live = pushed(out_of_focus(raw), session(out_of_focus(raw), 'off'))
    for _ in range(10):
        live.improve()


def test_live_13_the_product_on_the_way_has_probe_and_positions_that_were_found(raw, tmp_path):
    live = pushed(raw, session(raw, 'off'))
    shot = live.snapshot()
    found = Experiment(1j * raw.probeGuess, origin=np.array([2.0, -3.0]), found=('the probe',))
    opened = Opening(geometry=Geometry(object_pixel_m=1e-8))
    for name, experiment in (('told', shot.experiment), ('found', found)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name, replace(shot, experiment=experiment), live, None, opened)
    before, after = (read_product(tmp_path / name / 'product.h5') for name in ('told', 'found'))
    np.testing.assert_allclose(before.probe, raw.probeGuess[None], rtol=1e-6)
    np.testing.assert_allclose(after.probe, 1j * before.probe, rtol=1e-6)
    moved = np.stack([after.position_y_m - before.position_y_m, after.position_x_m - before.position_x_m])
    np.testing.assert_allclose(moved, np.broadcast_to([[2e-8], [-3e-8]], moved.shape), atol=1e-12)
