"""The real Ptychodus window on an offscreen platform, one story per test run (API-6x)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, Finished

pytestmark = [pytest.mark.ptychodus, pytest.mark.gui, pytest.mark.usefixtures('window_libraries')]


@pytest.fixture(scope='module')
def tell(
    scan: Path, python: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """Return a function that plays a story and returns its report."""

    def play(story: str) -> dict[str, Any]:
        work = tmp_path_factory.mktemp(story)
        run = python(HERE / 'window_driver.py', story, scan, work)
        assert run.code == 0, run.log
        report: dict[str, Any] = json.loads((work / 'report.json').read_text())
        return {**report, 'work': work, 'log': run.log}

    return play


@pytest.fixture(scope='module')
def run_story(tell: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return tell('run')


@pytest.fixture(scope='module')
def trouble_story(tell: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return tell('trouble')


def test_menu_lists_both_entries(run_story: dict[str, Any]) -> None:
    """API-01, API-03."""
    assert {'ptychopinn_pinn', 'ptychopinn_supervised'} <= set(run_story['menu'])
    assert run_story['chosen'] == 'ptychopinn_pinn'


def test_panel_shows_epochs_and_loss_weights(run_story: dict[str, Any]) -> None:
    """API-61."""
    labels = run_story['labels']
    for label in ('Model', 'Training', 'Loss weights', 'Inference', 'Device'):
        assert label in labels
    for label in ('Epochs:', 'Poisson (NLL):', 'Amplitude (MAE):', 'Object (MAE):', 'Smoothness (TV):'):
        assert label in labels
    assert 'shows its own PtychoPINN panel' not in run_story['log']


def test_training_moves_the_bar_and_enables_infer(run_story: dict[str, Any]) -> None:
    """API-32, API-62: an empty folder is trained into from the current product."""
    bar = run_story['bar_training']
    assert len(bar) >= 3
    assert bar == sorted(bar)
    assert 'Training on the current product' in run_story['pane']
    assert run_story['model_files'] == ['model.zip', 'wts.h5.zip']
    assert run_story['infer_enabled']
    assert run_story['infer_text'] == 'Infer'


def test_each_epoch_reaches_the_log_pane_once(run_story: dict[str, Any]) -> None:
    """API-31."""
    lines = [line for line in run_story['pane'].splitlines() if 'Epoch 7/60' in line]
    assert len(lines) == 1


def test_stop_ends_training_within_a_second_and_keeps_the_model(run_story: dict[str, Any]) -> None:
    """API-33."""
    assert run_story['bar_while_training']
    assert run_story['stop_s'] < 1.0
    assert run_story['stopped_files'] == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']
    assert run_story['infer_after_stop']


def test_stop_ends_inference_and_leaves_no_product(run_story: dict[str, Any]) -> None:
    """API-33, API-64."""
    assert run_story['stop_inference_s'] < 1.0
    assert run_story['products_after_stop']


def test_inference_gives_a_product_that_is_saved_and_opened_again(run_story: dict[str, Any]) -> None:
    """API-23, API-24, API-63."""
    from ptychodus.api.io import load_product

    assert 'sim_ptychopinn_pinn' in run_story['products']
    assert run_story['plotted'] == [60]
    assert run_story['saved']
    assert run_story['reopened'].startswith('sim_ptychopinn_pinn')
    assert run_story['dialogs'] == []
    product = load_product(run_story['work'] / 'saved.h5')
    assert len(product.losses) == 60
    assert '64 patterns' in product.metadata.comments


def test_window_loads_no_framework(run_story: dict[str, Any]) -> None:
    """API-04."""
    assert run_story['frameworks'] == []
    assert run_story['children_left'] == 0


def test_screenshots_are_made(run_story: dict[str, Any]) -> None:
    for name in ('training.png', 'inferred.png', 'object.png'):
        assert (run_story['work'] / name).stat().st_size > 10_000


def test_infer_without_a_model_is_told_and_leaves_no_product(trouble_story: dict[str, Any]) -> None:
    """API-64."""
    assert trouble_story['infer_without_model'] == [
        'Reconstruct Local: No model is loaded; train one, or choose "Load Model...".'
    ]
    assert trouble_story['products_kept']


def test_bad_model_is_refused_when_it_is_loaded(trouble_story: dict[str, Any]) -> None:
    """API-52."""
    (dialog,) = trouble_story['bad_model']
    assert 'bad.zip' in dialog


def test_bad_training_data_reach_the_log_pane(trouble_story: dict[str, Any]) -> None:
    """API-58, API-65: neither 'diffraction' nor 'diff3d'."""
    lines = trouble_story['bad_npz_pane'].splitlines()
    (line,) = [line for line in lines if '[ERROR] ptychopinn' in line]
    for word in ('scan.npz', "'diffraction'", "'diff3d'"):
        assert word in line
    assert trouble_story['bad_npz_files'] == ['scan.npz']


def test_stop_before_the_first_batch_leaves_nothing(trouble_story: dict[str, Any]) -> None:
    """API-33."""
    assert trouble_story['stop_at_start_s'] < 1.0
    assert trouble_story['stop_at_start_files'] == []


def test_exported_data_train(trouble_story: dict[str, Any]) -> None:
    """API-27, API-46."""
    assert trouble_story['exported']
    assert trouble_story['export_trained'] == ['model.zip', 'scan.npz', 'wts.h5.zip']


def test_closing_the_window_ends_training_and_keeps_the_model(
    tell: Callable[[str], dict[str, Any]],
) -> None:
    """API-33, API-34."""
    report = tell('close')
    assert report['close_s'] < 3
    assert report['children_left'] == 0
    assert report['files'] == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']
