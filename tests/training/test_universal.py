"""Making the learned prior anew."""

import numpy as np
import pytest

from ptycho_engine.commands import main
from ptycho_engine.config import PyTorchExecutionConfig
from ptycho_engine.errors import Cancelled, ConfigError
from ptycho_engine.events import EpochDone, ModelSaved
from ptycho_engine.formats.archive import load_archive
from ptycho_engine.simulate import noisy_images
from ptycho_engine.training import universal
from ptycho_engine.training.universal import train_universal

CPU = PyTorchExecutionConfig(accelerator='cpu')


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(universal, 'EPOCH_STEPS', 4)
    monkeypatch.setattr(universal, 'JUDGED_BATCHES', 2)
    monkeypatch.setattr(noisy_images, 'KEPT_OBJECTS', 4)
    monkeypatch.setattr(noisy_images, 'OBJECT_SIDE', 80)
    monkeypatch.setattr(noisy_images, 'CROPS', ((32, 4), (64, 1)))


def trained(folder, epochs, **options):
    return list(train_universal(epochs, folder, execution=CPU, **options))


def test_it_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(universal, 'EPOCH_STEPS', 20)
    monkeypatch.setattr(universal, 'WARM_UP_STEPS', 5)
    events = trained(tmp_path, 4)
    errors = [event.validation_loss for event in events if isinstance(event, EpochDone)]
    # An untrained denoiser takes no noise away: the root mean square of the noise, and its mean modulus.
    assert errors[-1] < 0.95 * (1 + np.sqrt(np.pi) / 2)
    assert errors[-1] < errors[0]
    model = load_archive(tmp_path)
    assert isinstance(events[-1], ModelSaved)
    assert model.config.model.architecture == 'prior'
    assert len(model.history) == 4


def test_a_run_that_goes_on_ends_as_one_without_a_break(tmp_path):
    whole = trained(tmp_path / 'whole', 3)
    asked = iter([False] * 9 + [True] * 9)
    trained(tmp_path / 'parts', 3, should_stop=lambda: next(asked))
    assert len(load_archive(tmp_path / 'parts').history) == 2
    rest = trained(tmp_path / 'parts', 3, resume=True)
    assert [event.epoch for event in rest if isinstance(event, EpochDone)] == [3]
    assert isinstance(whole[-1], ModelSaved)
    one, other = (load_archive(tmp_path / name).weights for name in ('whole', 'parts'))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_stop_in_the_first_epoch_leaves_nothing(tmp_path):
    with pytest.raises(Cancelled):
        trained(tmp_path / 'out', 2, should_stop=lambda: True)
    assert not (tmp_path / 'out' / 'wts.h5.zip').exists()


def test_another_seed_is_another_training(tmp_path):
    trained(tmp_path, 1)
    with pytest.raises(ConfigError, match='objects of seed 0'):
        trained(tmp_path, 2, seed=5, resume=True)


def test_the_command(tmp_path, capsys):
    words = ['train', '--universal', '--output', str(tmp_path / 'p'), '--epochs', '1', '--quiet']
    assert main(words) == 0
    assert 'Saved the prior to' in capsys.readouterr().out
    assert main(['inspect', str(tmp_path / 'p')]) == 0
    assert 'prior' in capsys.readouterr().out
    assert main([*words, '--start-from', str(tmp_path / 'p')]) == 2
    assert '--universal were both given' in capsys.readouterr().err
