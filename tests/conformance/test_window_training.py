"""Runs that wait, folders, data that do not fit, and the rows of the panel, in the real window (API-6x)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptychopinn_ptychodus.settings_table import SETTINGS

pytestmark = [pytest.mark.ptychodus, pytest.mark.gui, pytest.mark.usefixtures('window_libraries')]

Report = dict[str, Any]
Tell = Callable[..., Report]


@pytest.fixture
def own_scan(scan_with_models: Path, tmp_path: Path) -> Path:
    """Return a scan's directory, with models and another scan beside it, for a story that leaves files."""
    from scan_maker import simulated_scan, write_scan

    folder = Path(shutil.copytree(scan_with_models, tmp_path / 'IN'))
    shutil.copy(scan_with_models.parent / 'model.zip', tmp_path / 'model.zip')
    write_scan(tmp_path / 'OTHER', simulated_scan(size=32, grid=5))
    return folder


def test_the_story_of_the_queue(tell: Tell) -> None:
    """API-33, API-62, API-76: Stop ends all; an inference uses the model of the training before it."""
    report = tell('queue')
    assert report['head_running'] == 'Now: Train on sim.'
    assert report['head_queued'] == 'Now: Train on sim; then: Infer on sim; then: Infer on sim.'
    assert report['train_while_training'] == {
        'enabled': False,
        'tip': 'Train on sim is not over; wait for it, or press Stop.',
    }
    assert report['infer_while_training']['enabled']
    at, end = report['pane_at_end']
    assert at == end > 0, 'the pane no longer shows its last line'
    assert report['head_after'] == []
    assert report['products_kept']
    assert report['stopped_files'] == ['checkpoint.zip', 'model.zip', 'wts.h5.zip']
    assert report['train_after']['enabled']
    assert report['pane'].count('Infer on sim is not run either, because Stop was pressed.') == 2

    assert f'Model: {report["work"]}/second/model.zip' in report['comments']
    assert report['failure'].startswith('Training failed. ')
    assert 'Infer on sim is not run, because the training before it' in report['dependent_pane']
    assert report['dependent_kept']


def test_one_click_trains_and_reconstructs(tell: Tell, own_scan: Path) -> None:
    """API-77: no folder question, no model replaced, no training where the loaded model serves; API-86."""
    report = tell('one_click', own_scan)
    assert f'the model goes to {own_scan}/sim_model' in report['tip']
    assert report['head'] == 'Now: Train on sim; then: Infer on sim.'
    assert report['products'] == ['Unnamed', 'sim', 'sim_ptychopinn_pinn']
    assert f'The model of "sim" goes to {own_scan}/sim_model.' in report['pane']
    assert f'Model: {own_scan}/sim_model/model.zip' in report['comments']
    assert report['tip_again'].startswith('Reconstructs the chosen product at once')
    assert report['head_again'] == 'Now: Infer on sim.'
    assert report['folders'] == {
        'sim_model': ['model.zip', 'wts.h5.zip'],
        'sim_model-2': ['model.zip', 'wts.h5.zip'],
    }
    assert f'Model: {own_scan}/sim_model-2/model.zip' in report['prior_comments']
    assert 'holds no checkpoint.zip. The run there has come to its end.' in report['no_checkpoint']
    assert not report['folder_only']
    assert report['tried_by_the_window'] == []


def test_folders_are_looked_at_before_a_training(tell: Tell, own_scan: Path) -> None:
    """API-78: a model and another scan are asked about; what cannot work is refused at once."""
    report = tell('questions', own_scan)
    for answer in ('Cancel', 'Keep both', 'Replace'):
        (said,) = report[answer]['said']
        assert 'holds the model of another training already (wts.h5.zip)' in said
    assert report['Cancel'] | {'said': []} == {'said': [], 'old_kept': True, 'files': ['wts.h5.zip']}
    assert report['Keep both']['old_kept']
    assert report['Keep both']['files'] == ['model', 'wts.h5.zip']
    assert not report['Replace']['old_kept']
    assert report['Replace']['files'] == ['model', 'model.zip', 'wts.h5.zip']

    cancelled, product = report['other scan: Cancel'], report['other scan: Train on "sim"']
    (said,) = cancelled['said']
    assert 'Found: diffraction.h5 with product.h5, 25 patterns of 32×32 pixels.' in said
    assert 'The chosen product "sim" has 64 patterns of 64×64 pixels.' in said
    assert 'their patterns differ in size' in said
    assert cancelled['files'] == ['diffraction.h5', 'product.h5', 'settings.ini']
    assert 'model.zip' in product['files']
    assert re.search(r'Training on the current product\.\n', product['pane'])
    assert report['same'] == {'asked': [], 'queued': True}

    assert report['no_checkpoint'].startswith('Training failed. "Start from" is set to checkpoint, but ')
    assert not report['no_checkpoint_ran']
    assert 'cannot be an output directory' in report['read_only']
    assert not report['read_only_ran']


def test_what_cannot_be_worked_on_is_said_at_once(tell: Tell) -> None:
    """API-62, API-79: both buttons are grey and say why, as the panel does."""
    report = tell('unfit')
    for name, words in {
        'dark': 'All diffraction patterns are dark',
        'oblong': 'patterns are 64×80 pixels; PtychoPINN needs square ones. Crop them to 64×64',
        'odd': 'patterns are 65×65 pixels; the network cnn takes sides that are multiples of 8, from 32 up. '
        'Crop or pad them to 64×64',
        'unbound': 'has no diffraction dataset: choose one for it on the Products page.',
    }.items():
        seen = report[name]
        assert not seen['train']['enabled'], name
        assert not seen['both'], name
        assert words in seen['train']['tip']
        assert words in seen['panel'][0]
        assert 'ModelConfig' not in seen['train']['tip']
        assert not seen['infer']['enabled'], name
        assert seen['infer']['why_not']
    # Only the cnn asks for certain sizes.
    assert report['odd_by_the_prior']['infer'] == {'enabled': True, 'why_not': ''}
    assert not report['odd_by_the_prior']['train']['enabled']
    assert report['odd_for_the_prior']['train']['enabled']
    assert report['odd_for_the_prior']['panel'][0].startswith('Train: 64 patterns, 65×65, ')
    assert not report['flat']['train']['enabled']
    assert 'that of this product is flat' in report['flat']['train']['tip']


def test_twelve_rows_are_in_sight(tell: Tell) -> None:
    """API-61: the others are under Advanced, and those of another architecture are not shown."""
    report = tell('panel')
    assert len(report['closed_cnn']) == 12
    assert report['closed_again'] == report['closed']
    labels = [row.split(':')[0] for row in report['closed']]
    assert labels[:4] == ['Preset', 'Calibrate', 'Refine probe', 'Refine positions']
    assert report['closed_cnn'][1].startswith('Refine [iterations]')
    rows = [s for s in SETTINGS if s.shown_by('pinn') and s.architecture != 'cnn']
    assert len(report['open']) == len(rows) + 1
    for row in ('Amplitude activation', 'Width', 'Learn probe', 'Refine by'):
        assert row not in [text.split(':')[0] for text in report['open']]
        assert row in [text.split(':')[0] for text in report['cnn']]
    for row in report['open'] + report['cnn']:
        label, tip = row.split(':', 1)
        assert len(tip.split()) >= 5, label
        assert not re.search(r'ModelConfig|\bgroups\b|gauge|sweep', tip), row
