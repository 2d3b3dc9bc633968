"""Runs that wait, folders of models and what speaks against a training, without a window (API-7x)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('ptychodus.api.settings')

from scan_maker import simulated_scan, write_scan

from ptycho_engine.errors import ArchiveNotFoundError, OutputError
from ptychopinn_ptychodus import model_folder
from ptychopinn_ptychodus.loaded_model import ScanFacts
from ptychopinn_ptychodus.readiness import scan_obstacle, training_obstacle
from ptychopinn_ptychodus.run_queue import RunQueue
from ptychopinn_ptychodus.settings import ReconstructorSettings
from ptychopinn_ptychodus.training_start import (
    NO_DATA,
    Folders,
    Question,
    folders_of_product,
    look_at_folder,
)

pytestmark = pytest.mark.ptychodus

SCAN = ScanFacts(64, 64, 64, np.ones((1, 64, 64), np.complex64), name='gold 3/a')


@pytest.fixture
def settings() -> ReconstructorSettings:
    return ReconstructorSettings.with_defaults()


def test_an_inference_belongs_to_the_last_training_before_it() -> None:
    """API-76."""
    queue, seen = RunQueue(), []
    queue.on_change(lambda: seen.append(queue.sentence()))
    alone = queue.add('Infer', 'a')
    first, second = queue.add('Train', 'a'), queue.add('Train', 'b')
    behind = queue.add('Infer', 'b')
    assert alone.after is None
    assert behind.after is second
    assert queue.sentence() == 'Now: Infer on a; then: Train on a; then: Train on b; then: Infer on b.'
    queue.remove(alone)
    assert queue.stop() == [second, behind]
    assert first.stopped
    assert second.stopped
    assert queue.sentence() == 'Stopping: Train on a.'
    # Nothing that is queued from now on waits for what was stopped.
    assert queue.add('Infer', 'a').after is None
    assert len(seen) == 7


def test_models_go_beside_the_patterns_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: ReconstructorSettings
) -> None:
    """API-77."""
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path / 'data'))
    assert model_folder.default_folder('gold 3/a', None) == tmp_path / 'data/ptychopinn/models/gold_3_a'
    assert model_folder.default_folder('..', Path('/proc/1/task')).parent.parent.parent == tmp_path / 'data'
    scan = replace(SCAN, folder=tmp_path)
    folder = tmp_path / 'gold_3_a_model'
    assert folders_of_product(scan, settings) == Folders(NO_DATA, folder)
    assert not list(tmp_path.iterdir()), 'looking has left something behind'
    for name in (folder, tmp_path / 'gold_3_a_model-2'):
        name.mkdir()
        (name / 'wts.h5.zip').touch()
    assert folders_of_product(scan, settings).model == tmp_path / 'gold_3_a_model-3'
    settings.engine.start_from.set_value('checkpoint')
    with pytest.raises(ArchiveNotFoundError, match=r'gold_3_a_model holds no checkpoint.zip'):
        folders_of_product(scan, settings)
    (tmp_path / 'gold_3_a_model-2/checkpoint.zip').touch()
    assert folders_of_product(scan, settings).model == tmp_path / 'gold_3_a_model-2'


def test_a_folder_is_looked_at_first(tmp_path: Path, settings: ReconstructorSettings) -> None:
    """API-78."""
    asked: list[Question] = []

    def first(question: Question) -> int:
        asked.append(question)
        return 0

    data = write_scan(tmp_path / 'IN', simulated_scan(grid=3))
    assert look_at_folder(data, replace(SCAN, n=9), settings).decide(lambda question: -1) is None
    assert look_at_folder(data, SCAN, settings).decide(first) == Folders(data, data)
    assert '9 patterns of 64×64 pixels' in asked.pop().details
    # The same scan, under any name of its folder, needs no question.
    counts = np.rint(simulated_scan(grid=3).diffraction[0].astype(float) ** 2)
    for same in ({'sample': counts}, {'folder': data}):
        seen = look_at_folder(data, replace(SCAN, n=9, **same), settings)
        assert seen.decide(first) == Folders(data, data)
    assert not asked
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match='is a file'):
        look_at_folder(tmp_path / 'file', SCAN, settings)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'height': 80}, 'needs square ones. Crop them to 64×64'),
        ({'height': 65, 'width': 65}, 'Crop or pad them to 64×64'),
        ({'height': 20, 'width': 20}, 'Crop or pad them to 32×32'),
        ({'far_field': False}, 'The product says Near Field, which is not modelled'),
        ({'n': 0}, 'No pattern of the dataset has a position'),
        ({'dark': True}, 'All diffraction patterns are dark'),
        ({'finite': False}, 'NaN or infinite'),
    ],
)
def test_scans_that_cannot_be_worked_on(
    settings: ReconstructorSettings, change: dict[str, int], words: str
) -> None:
    """API-79."""
    settings.engine.architecture.set_value('cnn')
    scan = replace(SCAN, **change)
    assert words in (scan_obstacle(scan) or '')
    assert words in (training_obstacle(settings, 'pinn', scan, '') or '')
    settings.engine.train_on.set_value('folder')
    assert training_obstacle(settings, 'pinn', scan, '') is None


@pytest.mark.parametrize('side', [20, 65])
def test_the_prior_trains_on_patterns_of_any_size(settings: ReconstructorSettings, side: int) -> None:
    """API-79."""
    assert training_obstacle(settings, 'pinn', replace(SCAN, height=side, width=side), '') is None


def test_supervised_training_needs_an_object(settings: ReconstructorSettings) -> None:
    """API-79."""
    flat = replace(SCAN, object_known=False)
    assert training_obstacle(settings, 'supervised', SCAN, '') is None
    assert 'is flat' in (training_obstacle(settings, 'supervised', flat, '') or '')
    assert training_obstacle(settings, 'pinn', flat, '') is None
    assert training_obstacle(settings, 'pinn', None, 'Nothing chosen.') == 'Nothing chosen.'
