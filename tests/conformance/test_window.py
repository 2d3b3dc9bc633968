"""The real Ptychodus window on an offscreen platform, one story per test run (API-6x).

The stories run in the installed release, those of ``test_window_releases.py`` in the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HERE
from window_checks import (
    check_frameless,
    check_looks,
    check_models,
    check_run,
    check_trouble,
    check_untrained,
)

from ptychopinn_ptychodus.conversion import UNSIZED

pytestmark = [pytest.mark.ptychodus, pytest.mark.gui, pytest.mark.usefixtures('window_libraries')]

Report = dict[str, Any]


@pytest.fixture(scope='module')
def run_story(tell: Callable[..., Report]) -> Report:
    return tell('run')


def test_the_story_of_a_run(run_story: Report) -> None:
    """API-01, API-04, API-24, API-31 to API-33, API-61 to API-64, API-66, API-68, API-81 to API-84."""
    check_run(run_story)
    assert run_story['frameworks'] == []
    assert run_story['children_left'] == 0


def test_the_result_is_stored_with_its_losses(run_story: Report) -> None:
    """API-23, API-24, API-63."""
    from ptychodus.api.io import load_product

    product = load_product(run_story['work'] / 'saved.h5')
    assert len(product.losses) == run_story['epochs']
    assert '64 patterns' in product.metadata.comments


def test_the_panel_shows_all_groups(run_story: Report) -> None:
    """API-61."""
    labels = run_story['panel'].splitlines()
    for label in (
        'Reconstruction',
        'Training',
        'Network',
        'Computer',
        'What the network minimises',
        'Loaded model',
    ):
        assert label in labels
    for label in (
        'Epochs:',
        'Photon statistics (NLL):',
        'Amplitude (MAE):',
        'Object (MAE):',
        'Smoothness (TV):',
    ):
        assert label in labels
    assert 'shows its own PtychoPINN panel' not in run_story['log']


def test_screenshots_are_made(run_story: Report) -> None:
    for name in ('training.png', 'inferred.png', 'object.png'):
        assert (run_story['work'] / name).stat().st_size > 10_000


def test_the_story_of_trouble(tell: Callable[..., Report]) -> None:
    """API-12 (TrainOn, MoreTrainingData, StartFrom), API-27, API-33, API-46, API-58, API-64, API-65."""
    check_trouble(tell('trouble'))


def test_the_story_without_training(tell: Callable[..., Report], tmp_path: Path) -> None:
    """API-62, API-66, API-76, API-81 to API-83, API-88, API-89."""
    # No speed is measured yet.
    check_untrained(tell('untrained', XDG_CACHE_HOME=str(tmp_path)))


def test_the_story_of_models(tell: Callable[..., Report], scan_with_models: Path, tmp_path: Path) -> None:
    """API-12 (ModelPath), API-52, API-53, API-61, API-62, API-67: a new session has the last one's model."""
    report = tell('models')
    check_models(report)
    directory = Path(shutil.copytree(scan_with_models, tmp_path / 'IN'))
    shutil.copy(report['work'] / 'settings.ini', directory / 'settings.ini')
    again = tell('remembered', directory)
    assert again['enabled']
    assert 'model.zip: cnn PINN network' in again['panel']


def test_the_story_without_a_framework(tell: Callable[..., Report]) -> None:
    """API-61, API-65."""
    check_frameless(tell('frameless', PYTHONPATH=f'{HERE / "frameless"}{os.pathsep}{HERE.parents[1]}'))


def test_what_is_drawn_and_said_without_a_run(tell: Callable[..., Report]) -> None:
    """API-81 (Object page), API-84 to API-87."""
    check_looks(tell('looks'))


def test_closing_the_window_ends_training_and_keeps_the_model(tell: Callable[..., Report]) -> None:
    """API-33, API-34."""
    report = tell('close')
    assert report['children_left'] == 0
    assert report['files'] == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']


def test_files_of_ours_open_in_the_window_as_they_are(
    tell: Callable[..., Report], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """API-99: by its own dialogs; sizes of pixels agree with the detector, and *Infer* gives an image."""
    from ptycho_engine.commands import main

    folder = tmp_path_factory.mktemp('simulated') / 'IN'
    sizes = {'': 64, 'odd': 48}
    for name, size in sizes.items():
        words = ['simulate', '--points', '6x6', '--size', str(size), '--pixel-size-m', '4.4e-8']
        assert main([*words, '--output', str(folder / name), '--quiet']) == 0
    assert main(['convert', str(folder), '--output', str(folder / 'scan.cxi'), '--quiet']) == 0
    with np.load(folder / 'scan.npz') as file:
        np.savez(folder / 'unknown.npz', **{key: file[key] for key in file.files if key != '_metadata'})
    report = tell('opening', folder)
    for name in ('diffraction.h5', 'scan.npz', 'scan.cxi', 'odd/diffraction.h5'):
        found, size = report[name], sizes['odd' if 'odd' in name else '']
        assert found['patterns'] == [36, size, size], name
        assert found['type'] == 'uint16', name
        for key in ('implied_m', 'object_m', 'probe_m'):
            assert found[key] == pytest.approx(4.4e-8, rel=1e-6), (name, key)
    assert report['dialogs'] == []
    assert report['products'] == 1, report['pane']
    unsized = report['unsized']
    assert unsized['said'] == UNSIZED
    assert not unsized['enabled']
    assert unsized['titles'] == ['No object']
    assert (unsized['queue'], unsized['left']) == ('', 0)
    assert (unsized['then'], unsized['made']) == (None, 1), report['pane']
    assert [line for line in report['log'].splitlines() if 'wrong scale' in line] == []
