import logging
import math
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from ptycho_engine.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_engine.errors import ArchiveError, Cancelled, ConfigError, DataValueError, FolderInUseError
from ptycho_engine.events import BatchDone, EpochDone, ModelSaved, PatchesDone
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.reconstruction.reconstruct import reconstruct
from ptycho_engine.reconstruction.result import Reconstructed
from ptycho_engine.scan.scan import Scan
from ptycho_engine.scoring.scores import scan_box, score
from ptycho_engine.simulate import without_truth
from ptycho_engine.training.sources import MeasuredScans
from ptycho_engine.training.train import train
from tests.conftest import small_scan

SMALL = TrainingConfig(model=ModelConfig(n_filters_scale=1, architecture='cnn'), nepochs=3, n_groups=128)


@pytest.fixture(scope='module')
def blind(raw) -> Scan:
    """The scan as an instrument gives it: no truth."""
    return Scan.from_raw(without_truth(raw))


@pytest.fixture(scope='module')
def trained(blind, tmp_path_factory):
    path = tmp_path_factory.mktemp('model')
    return list(train([blind], SMALL, path)), path


def test_events_come_in_order_and_the_loss_falls(trained):
    events, path = trained
    epochs = [e for e in events if isinstance(e, EpochDone)]
    assert [e.epoch for e in epochs] == [1, 2, 3]
    assert epochs[-1].validation_loss < epochs[0].validation_loss
    assert all(math.isfinite(e.validation_deviance) for e in epochs)
    fractions = [e.fraction for e in events if isinstance(e, BatchDone)]
    assert fractions.count(1.0) == 3
    assert events[-1] == ModelSaved(path / 'wts.h5.zip')
    archive = load_archive(path)
    assert archive.config.model.N == 64
    assert [record['epoch'] for record in archive.history] == [1, 2, 3]


def test_one_line_per_epoch_is_logged(blind, tmp_path, caplog):
    with caplog.at_level(logging.INFO, 'ptychopinn'):
        list(train([blind], replace(SMALL, nepochs=2), tmp_path))
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith('Epoch')]
    assert len(lines) == 2
    assert 'training deviance' in lines[0]
    assert 'validation deviance' in lines[0]


def test_run_01_equal_seeds_give_equal_weights(blind, tmp_path):
    config = replace(SMALL, nepochs=1, n_groups=32)
    results = []
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        list(train([blind], replace(config, seed=seed), tmp_path / name))
        results.append(load_archive(tmp_path / name).weights)
    for key in results[0]:
        np.testing.assert_array_equal(results[0][key], results[1][key])
    assert any((results[0][key] != results[2][key]).any() for key in results[0])


def test_a_network_too_large_for_a_model_file_is_refused_at_once(scan, tmp_path):
    raw = small_scan(points=2, size=32)
    huge = replace(SMALL, model=replace(SMALL.model, N=1024, n_filters_scale=4))
    large = replace(
        raw,
        diffraction=np.ones((4, 1024, 1024), np.float32),
        probeGuess=np.ones((1, 1024, 1024), np.complex64),
    )
    with pytest.raises(ConfigError, match=r'has \d+ million weights.*lower n_filters_scale'):
        next(train([Scan.from_raw(large)], huge, tmp_path))


def test_run_03_stop_keeps_the_best_model_and_comes_at_once(blind, tmp_path):
    seen = []
    config = replace(SMALL, nepochs=1000)
    tic = math.inf
    for event in train([blind], config, tmp_path, should_stop=lambda: len(seen) >= 6):
        if isinstance(event, BatchDone):
            seen.append(event)
            tic = time.perf_counter()
    assert len(seen) == 6
    assert time.perf_counter() - tic < 1.0
    assert load_archive(tmp_path).weights


def test_run_03_a_stop_before_the_first_step_leaves_an_earlier_model_alone(blind, tmp_path):
    (tmp_path / 'wts.h5.zip').write_bytes(b'a model of an earlier run')
    with pytest.raises(Cancelled, match='before its first step'):
        list(train([blind], SMALL, tmp_path, should_stop=lambda: True))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'a model of an earlier run']


def test_run_02_early_stop_restores_the_best_weights(blind, tmp_path):
    """With a learning rate that ruins the network the first epoch stays the best."""
    config = replace(SMALL, nepochs=30, learning_rate=0.5, scheduler='Default', early_stop_patience=2)
    epochs = [e for e in train([blind], config, tmp_path) if isinstance(e, EpochDone)]
    assert len(epochs) < 30
    best = min(epochs, key=lambda e: e.validation_loss)
    archive = load_archive(tmp_path)
    source = MeasuredScans([blind], archive.config)
    from ptycho_engine.backends.base import create_backend
    from ptycho_engine.network.plan import build_plan

    backend = create_backend('pytorch')
    backend.build(build_plan(archive.config.model), archive.weights)
    backend.prepare_training(archive.config)
    (held_out,) = source.validation()
    loss = backend.evaluate(held_out.batch(held_out.groups)).loss
    assert loss == pytest.approx(best.validation_loss, rel=1e-3)


def test_training_goes_on_from_a_model(blind, trained, tmp_path):
    events, path = trained
    before = next(e for e in events if isinstance(e, EpochDone)).training_loss
    more = train([blind], replace(SMALL, nepochs=1), tmp_path, initial=load_archive(path))
    after = next(e for e in more if isinstance(e, EpochDone)).training_loss
    assert after < before
    other = replace(SMALL, model=replace(SMALL.model, n_filters_scale=2))
    with pytest.raises(DataValueError, match='same network'):
        next(train([blind], other, tmp_path, initial=load_archive(path)))


def test_labels_predict_the_measured_patterns(raw):
    """Labels are cut at the right places, for every gridsize."""
    from ptycho_engine.physics.forward import deviance, predict_intensity
    from ptycho_engine.whole_scan.scan_model import ScanModel

    prepared = ScanModel(Scan.from_raw(raw), has_truth=True)
    batch = prepared.batch(np.array([[3, 4, 11, 12]], np.int32))
    probe = prepared.illumination.probe.astype(complex)
    rate = predict_intensity(batch.labels[0], probe, batch.subpixel_shift[0])
    fit = deviance(batch.amplitude[0] ** 2.0, rate, prepared.valid)
    assert fit.max() < 0.7


def test_supervised_training_needs_a_known_object(blind, scan, tmp_path):
    config = replace(SMALL, nepochs=1, model=replace(SMALL.model, model_type='supervised'))
    with pytest.raises(DataValueError, match='no known object'):
        next(train([blind], config, tmp_path))
    events = list(train([scan], config, tmp_path))
    assert isinstance(events[-1], ModelSaved)


def test_mistakes_end_before_anything_is_written(blind, tmp_path):
    out = tmp_path / 'out'
    cases = [
        ([], SMALL, 'no scan'),
        ([blind], replace(SMALL, model=replace(SMALL.model, N=128)), '128-pixel'),
        ([blind, Scan.from_raw(small_scan(3, 32))], SMALL, 'one pattern size'),
        (
            [Scan.from_raw(small_scan(2))],
            replace(SMALL, model=replace(SMALL.model, gridsize=3)),
            'gridsize 3 needs 9',
        ),
    ]
    for scans, config, message in cases:
        with pytest.raises(DataValueError, match=message):
            next(train(scans, config, out))
    assert not out.exists()


@pytest.fixture(scope='module')
def reconstruction(scan, trained):
    events = list(reconstruct(scan, load_archive(trained[1])))
    assert isinstance(events[-1], Reconstructed)
    return events, events[-1].reconstruction


def test_every_pattern_is_reconstructed_on_the_scans_grid(reconstruction, scan):
    events, result = reconstruction
    done = [e for e in events if isinstance(e, PatchesDone)]
    assert done[-1].done == done[-1].total == len(scan.raw)
    assert result.object_array.shape == scan.raw.objectGuess.shape
    assert result.object_array.dtype == np.complex64
    assert result.weight.shape == result.object_array.shape
    assert result.n_patterns == 64
    assert all(value > 0 for _, value in result.losses)
    assert '64 patterns' in result.comments


def test_the_result_is_better_than_flat_and_in_the_right_place(reconstruction, scan):
    _, result = reconstruction
    raw = scan.raw
    box = scan_box(raw.xcoords, raw.ycoords, raw.objectGuess.shape)
    found = score(raw.objectGuess, result.object_array, box)
    flat = score(raw.objectGuess, np.ones_like(raw.objectGuess), box)
    assert found.nrmse < flat.nrmse


def test_gau_02_the_result_predicts_the_measured_counts(reconstruction, scan):
    _, result = reconstruction
    inside = result.weight > 0.3 * result.weight.max()
    truth, found = np.abs(scan.raw.objectGuess[inside]), np.abs(result.object_array[inside])
    assert found.mean() == pytest.approx(truth.mean(), rel=0.05)


def test_the_batch_size_does_not_change_the_result(reconstruction, scan, trained):
    events = list(reconstruct(scan, load_archive(trained[1]), InferenceConfig(batch_size=7)))
    np.testing.assert_allclose(
        events[-1].reconstruction.object_array, reconstruction[1].object_array, atol=1e-4
    )


def test_geo_03_moving_all_positions_by_half_a_pixel_moves_the_image(raw, trained):
    archive = load_archive(trained[1])
    images = []
    for dx in (0.0, 0.5):
        moved = replace(raw, xcoords=raw.xcoords + dx)
        (*_, last) = reconstruct(Scan.from_raw(moved), archive)
        images.append(last.reconstruction.object_array)
    box = scan_box(raw.xcoords, raw.ycoords, images[0].shape)
    scores = score(images[0], images[1], box)
    # The network sees a probe moved by half a pixel, so its image need not be an exact copy.
    assert scores.shift_x_px == pytest.approx(-0.5, abs=0.1)
    assert scores.shift_y_px == pytest.approx(0, abs=0.1)
    assert scores.nrmse < 0.05


def test_a_model_of_another_size_is_refused(trained):
    other = Scan.from_raw(small_scan(3, 32))
    with pytest.raises(ArchiveError, match='64×64 pixels but the data have 32×32'):
        next(reconstruct(other, load_archive(trained[1])))


def test_a_reconstruction_can_be_stopped(scan, trained):
    with pytest.raises(Cancelled):
        list(reconstruct(scan, load_archive(trained[1]), should_stop=lambda: True))


@pytest.mark.parametrize('gridsize', [1, 2, 3])
def test_every_gridsize_trains_and_reconstructs(blind, tmp_path, gridsize):
    config = replace(SMALL, nepochs=1, n_groups=16, model=replace(SMALL.model, gridsize=gridsize))
    list(train([blind], config, tmp_path))
    (*_, last) = reconstruct(blind, load_archive(tmp_path))
    assert np.isfinite(last.reconstruction.object_array).all()
    assert last.reconstruction.n_patterns == len(blind.raw)


def stopped_after(batches):
    """Return when to stop, and the list to put batches into."""
    seen = []
    return (lambda: len(seen) >= batches), seen


@pytest.mark.parametrize('copies', [(), ('model.zip',)])
def test_run_09_a_run_stopped_in_its_first_epoch_leaves_an_earlier_model_alone(
    blind, trained, tmp_path, caplog, copies
):
    shutil.copy(trained[1] / 'wts.h5.zip', tmp_path)
    before = (tmp_path / 'wts.h5.zip').read_bytes()
    for name in copies:
        (tmp_path / name).write_bytes(before)
    stop, seen = stopped_after(2)
    for event in train([blind], SMALL, tmp_path, should_stop=stop, copies=copies):
        seen.append(event) if isinstance(event, BatchDone) else None
    assert event == ModelSaved(tmp_path / 'wts.stopped.h5.zip')
    assert load_archive(event.path).weights
    for name in ('wts.h5.zip', *copies):
        assert (tmp_path / name).read_bytes() == before
    assert f'{tmp_path / "wts.h5.zip"} stays the earlier model' in caplog.text


def test_run_09_without_an_earlier_model_it_is_the_model(blind, tmp_path, caplog):
    stop, seen = stopped_after(2)
    for event in train([blind], SMALL, tmp_path, should_stop=stop, copies=['model.zip']):
        seen.append(event) if isinstance(event, BatchDone) else None
    assert event == ModelSaved(tmp_path / 'wts.h5.zip')
    assert (tmp_path / 'model.zip').read_bytes() == event.path.read_bytes()
    assert 'hardly learned anything' in caplog.text


def test_run_09_a_completed_epoch_replaces_it(blind, tmp_path):
    (tmp_path / 'wts.h5.zip').write_bytes(b'a model of an earlier run')
    ended = []
    for event in train([blind], SMALL, tmp_path, should_stop=lambda: bool(ended)):
        ended.append(event) if isinstance(event, EpochDone) else None
    assert event == ModelSaved(tmp_path / 'wts.h5.zip')
    assert load_archive(tmp_path).weights
    assert not (tmp_path / 'wts.stopped.h5.zip').exists()


def test_run_10_a_folder_that_is_removed_is_made_again(blind, tmp_path, caplog):
    folder = tmp_path / 'out'
    for event in train([blind], SMALL, folder):
        if isinstance(event, EpochDone) and event.epoch == 2:
            shutil.rmtree(folder)
    assert f'{folder} was removed while the training ran; it is made again.' in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == ['checkpoint.zip', 'history.csv', 'wts.h5.zip']
    lines = (folder / 'history.csv').read_text().splitlines()
    assert [line.split(',')[0] for line in lines] == ['epoch', '1', '2', '3']


def test_disk_05_two_runs_do_not_write_into_one_folder(blind, tmp_path):
    code = (
        'import sys; from pathlib import Path; from ptycho_engine.io.folder_lock import sole_writer\n'
        'with sole_writer(Path(sys.argv[1]), "a training"): print("held", flush=True); sys.stdin.read()'
    )
    command = [sys.executable, '-c', code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(FolderInUseError, match=f'is being written by process {holder.pid}'):
            next(train([blind], SMALL, tmp_path))
        assert list(tmp_path.iterdir()) == []
        holder.stdin.close()
