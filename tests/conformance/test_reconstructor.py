"""The trainable reconstructor without a window and without a child."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip('ptychodus.api.reconstruct')

from conftest import Trained
from ptychodus.api.reconstruct import TrainableReconstructor

from ptycho_engine.errors import ArchiveError, ArchiveNotFoundError, DataFileNotFoundError, OutputError
from ptycho_engine.formats.archive import load_archive
from ptychopinn_ptychodus.algorithm import PhysicsReconstructor
from ptychopinn_ptychodus.loaded_model import PRIOR, ScanFacts
from ptychopinn_ptychodus.reconstructor import PtychoPINNReconstructor
from ptychopinn_ptychodus.session import Session
from ptychopinn_ptychodus.settings import ReconstructorSettings

pytestmark = pytest.mark.ptychodus


@pytest.fixture
def reconstructor() -> PtychoPINNReconstructor:
    return PtychoPINNReconstructor('PINN', Session.of(ReconstructorSettings.with_defaults()))


def test_is_what_ptychodus_expects(reconstructor: PtychoPINNReconstructor) -> None:
    """API-32, API-42."""
    assert isinstance(reconstructor, TrainableReconstructor)
    assert reconstructor.get_progress_goal() > 0
    assert reconstructor.get_model_file_extension() == '.zip'
    assert '*.zip' in reconstructor.get_model_file_filter()
    assert '*.npz' in reconstructor.get_training_data_file_filter()


def test_physics_alone_has_nothing_to_load_and_nothing_to_train() -> None:
    """API-89: so that Ptychodus offers neither."""
    physics = PhysicsReconstructor(Session.of(ReconstructorSettings.with_defaults()))
    assert physics.name == 'Physics'
    assert not isinstance(physics, TrainableReconstructor)
    assert physics.get_progress_goal() > 0
    assert physics.why_not_ready(ScanFacts(9, 50, 50)) is None
    assert 'square' in (physics.why_not_ready(ScanFacts(9, 50, 60)) or '')


def test_training_needs_data(reconstructor: PtychoPINNReconstructor, tmp_path: Path) -> None:
    """API-46."""
    with pytest.raises(DataFileNotFoundError, match='holds no training data'):
        next(reconstructor.train(tmp_path, tmp_path))


def test_out_01_the_output_is_tried_before_the_child_starts(
    reconstructor: PtychoPINNReconstructor, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that takes no model costs no training."""

    def started(*_: object) -> None:
        raise AssertionError('the child was started')

    monkeypatch.setattr('ptychopinn_ptychodus.training_run.Child', started)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='file is a file'):
        next(reconstructor.train(scan, tmp_path / 'file' / 'out'))
    (tmp_path / 'model.zip').mkdir()
    with pytest.raises(OutputError, match=r'model\.zip cannot be written: a folder has that name'):
        next(reconstructor.train(scan, tmp_path))


def test_a_product_alone_trains_on_simulated_objects(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-12 (TrainOn): before there is a frame."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    settings = ReconstructorSettings.with_defaults()
    settings.engine.train_on.set_value('simulation')
    settings.engine.n_groups.set_value(16)
    settings.engine.architecture.set_value('cnn')
    settings.training.nepochs.set_value(1)
    planned, out = tmp_path / 'planned', tmp_path / 'out'
    planned.mkdir()
    out.mkdir()
    shutil.copyfile(scan / 'product.h5', planned / 'product.h5')
    *_, last = PtychoPINNReconstructor('PINN', Session.of(settings)).train(planned, out)
    assert len(last.training_loss) == 1
    model = load_archive(out / 'model.zip')
    assert [record['simulated'] for record in model.history] == [1.0]
    assert model.origins[0].name == 'product.h5'


def test_a_model_is_checked_when_it_is_loaded(
    reconstructor: PtychoPINNReconstructor, trained: Trained, tmp_path: Path
) -> None:
    """API-52: the model loaded before stays."""
    with pytest.raises(ArchiveNotFoundError):
        reconstructor.load_model_from_file(tmp_path / 'absent.zip')
    assert reconstructor.model is not None
    assert reconstructor.model.name == PRIOR
    reconstructor.load_model_from_file(trained.out / 'model.zip')
    assert reconstructor.is_model_loaded()
    (tmp_path / 'bad.zip').write_bytes(b'PK')
    with pytest.raises(ArchiveError):
        reconstructor.load_model_from_file(tmp_path / 'bad.zip')
    assert reconstructor.model is not None
    assert reconstructor.model.path == (trained.out / 'model.zip').resolve()


def test_a_model_is_saved_as_it_is(
    reconstructor: PtychoPINNReconstructor, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveNotFoundError, match='no model to save'):
        reconstructor.save_model(tmp_path / 'copy.zip')
    reconstructor.load_model_from_file(trained.out / 'model.zip')
    reconstructor.save_model(tmp_path / 'copy.zip')
    assert (tmp_path / 'copy.zip').read_bytes() == (trained.out / 'model.zip').read_bytes()


def test_a_model_that_is_replaced_by_another_is_read_again(
    reconstructor: PtychoPINNReconstructor, trained: Trained, tmp_path: Path
) -> None:
    """API-15, API-52: nothing is kept of an earlier file of the same name."""
    path = tmp_path / 'model.zip'
    shutil.copyfile(trained.out / 'model.zip', path)
    reconstructor.load_model_from_file(path)
    assert reconstructor.is_model_loaded()
    path.write_bytes(b'PK')
    os.utime(path, ns=(1, 1))
    assert not reconstructor.is_model_loaded()
    assert list(tmp_path.iterdir()) == [path], 'nothing is unpacked beside it'
