"""The line that says what a run will do, presets, choices and the loaded model, without a window (API-6x)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('ptychodus.api.settings')

from scan_maker import simulated_scan, write_model

from ptycho_engine.config import InferenceConfig
from ptycho_engine.errors import ArchiveError, BackendUnavailableError, ConfigError
from ptycho_engine.formats import packaged
from ptycho_engine.formats.archive import load_archive, save_archive
from ptycho_engine.formats.packaged import PACKAGED_PRIOR
from ptycho_engine.scan.scan import Scan
from ptychopinn_ptychodus import choices
from ptychopinn_ptychodus.conversion import UNSIZED
from ptychopinn_ptychodus.forecast import inference_forecast, spoken_time, training_forecast
from ptychopinn_ptychodus.loaded_model import (
    PRIOR,
    LoadedModel,
    ModelMemory,
    ScanFacts,
    packaged_prior,
    physics_alone,
    probe_fingerprint,
)
from ptychopinn_ptychodus.meters import InferenceMeter, TrainingMeter
from ptychopinn_ptychodus.presets import CUSTOM, PRESETS, apply_preset, preset_shown
from ptychopinn_ptychodus.reference_speeds import guessed_solution, guessed_training
from ptychopinn_ptychodus.settings import ADOPTABLE, ReconstructorSettings
from ptychopinn_ptychodus.settings_table import SETTINGS
from ptychopinn_ptychodus.speeds import (
    MACHINE_KEY,
    SpeedBook,
    inference_key,
    refinement_key,
    solution_key,
    start_key,
    training_key,
)

pytestmark = pytest.mark.ptychodus


@pytest.fixture
def settings() -> ReconstructorSettings:
    settings = ReconstructorSettings.with_defaults()
    settings.engine.accelerator.set_value('cpu')
    return settings


@pytest.fixture
def speeds(tmp_path: Path) -> SpeedBook:
    return SpeedBook(tmp_path / 'cache' / 'speeds.json')


SCAN = ScanFacts(529, 64, 64, np.ones((1, 64, 64), np.complex64))


def test_training_forecast(settings: ReconstructorSettings, speeds: SpeedBook) -> None:
    """API-66: groups, and the time from a measured step."""
    settings.engine.architecture.set_value('cnn')
    settings.model.gridsize.set_value(2)
    settings.engine.n_groups.set_value(0)
    settings.training.batch_size.set_value(16)
    line = training_forecast(settings, 'pinn', SCAN, speeds)
    assert line.startswith(
        'Train: 529 patterns, 64×64, grid size 2: 503 sets of 2×2 patterns per epoch; how long'
    )
    config = settings.training_config('pinn')
    speeds.note(training_key(config, 64, settings.execution_config(), 1), 1.25)
    # 503 groups in batches of 16 are 32 steps.
    line = training_forecast(settings, 'pinn', SCAN, speeds).replace('\N{NO-BREAK SPACE}', ' ')
    assert line.endswith('about 40 s per epoch on this CPU, at most 33 min for 50 epochs.')
    settings.engine.train_on.set_value('simulation')
    line = training_forecast(settings, 'pinn', SCAN, speeds).replace('\N{NO-BREAK SPACE}', ' ')
    assert line.startswith('Train: simulated objects in place of 529 patterns')
    assert line.endswith('at most 33 min for 50 epochs.')
    settings.engine.train_on.set_value('auto')
    settings.model.n_filters_scale.set_value(3)
    assert 'how long' in training_forecast(settings, 'pinn', SCAN, speeds)


@pytest.mark.parametrize('size', [64, 50])
def test_forecast_of_training_the_prior(
    settings: ReconstructorSettings, speeds: SpeedBook, size: int
) -> None:
    """API-66, API-79: it is trained on all patterns, of any size."""
    scan = replace(SCAN, height=size, width=size)
    settings.engine.n_groups.set_value(0)
    line = training_forecast(settings, 'pinn', scan, speeds)
    assert line.startswith(f'Train: 529 patterns, {size}×{size}, grid size 1: 529 patterns per epoch; how')
    speeds.note(training_key(settings.training_config('pinn'), size, settings.execution_config(), 1), 0.1)
    # 529 patterns in batches of 4 are 133 steps.
    line = training_forecast(settings, 'pinn', scan, speeds).replace('\N{NO-BREAK SPACE}', ' ')
    assert line.endswith('about 13 s per epoch on this CPU, at most 11 min for 50 epochs.')
    settings.engine.architecture.set_value('cnn')
    refused = 'multiples of 8' in training_forecast(settings, 'pinn', scan, speeds)
    assert refused == (size == 50)


def test_forecast_tells_what_is_wrong(settings: ReconstructorSettings, speeds: SpeedBook) -> None:
    """API-66."""
    assert training_forecast(settings, 'pinn', None, speeds, 'None.') == 'Train: None.'
    assert 'needs square ones' in training_forecast(settings, 'pinn', replace(SCAN, height=32), speeds)
    settings.engine.train_on.set_value('folder')
    assert 'in the folder' in training_forecast(settings, 'pinn', SCAN, speeds)
    settings.engine.train_on.set_value('barrel')
    assert 'PtychoPINNEngine.TrainOn' in training_forecast(settings, 'pinn', SCAN, speeds)
    settings.engine.train_on.set_value('auto')
    settings.engine.start_from.set_value('modell')
    assert 'PtychoPINNEngine.StartFrom' in training_forecast(settings, 'pinn', SCAN, speeds)
    assert inference_forecast(settings, None, SCAN, speeds, why_no_model='Damaged.') == 'Damaged.'


def test_inference_forecast(settings: ReconstructorSettings, speeds: SpeedBook, tmp_path: Path) -> None:
    """API-66: start, patterns beyond the first batch, and iterations."""
    model = LoadedModel.open(write_model(tmp_path / 'm.zip', np.ones((1, 64, 64))))
    config, execution = settings.inference_config(), settings.execution_config()
    network = (model.config.model, config, execution, 1)
    assert 'how long' in inference_forecast(settings, model, SCAN, speeds)
    speeds.note(start_key(*network), 5.0)
    speeds.note(inference_key(*network), 0.01)
    speeds.note(refinement_key(64, config, execution, 1), 1e-3)
    line = inference_forecast(settings, model, SCAN, speeds).replace('\N{NO-BREAK SPACE}', ' ')
    # 5 s + 465 patterns + 25 iterations of 529 patterns.
    assert line == '529 patterns, then at most 25 refinement iterations: about 23 s on this CPU.'
    assert '32×32 patterns' not in line
    small = ScanFacts(529, 32, 32)
    assert 'is for 64×64 patterns' in inference_forecast(settings, model, small, speeds)


@pytest.mark.parametrize('size', [64, 50])
def test_forecast_without_training(settings: ReconstructorSettings, speeds: SpeedBook, size: int) -> None:
    """API-66, API-88, API-89: of the learned prior and of physics alone, for patterns of any size."""
    scan = replace(SCAN, height=size, width=size, probe=np.ones((2, size, size), np.complex64))
    config, execution = settings.inference_config(), settings.execution_config()
    for model, words in (
        (packaged_prior(), 'with the learned prior that comes with PtychoPINN'),
        (physics_alone(), 'by physics with total variation'),
    ):
        line = inference_forecast(settings, model, scan, speeds)
        assert line.startswith(f'529 patterns, {words}; how long')
        speeds.note(start_key(model.config.model, config, execution, 2), 5.0)
        speeds.note(solution_key(model.config.model, size, config, execution, 2), 0.1)
        line = inference_forecast(settings, model, scan, speeds).replace('\N{NO-BREAK SPACE}', ' ')
        longer = 'many times that where the scan has to be corrected'
        assert line == f'529 patterns, {words}: about 58 s on this CPU, {longer}.'
        settings.engine.calibrate.set_value('off')
        assert 'corrected' not in inference_forecast(settings, model, scan, speeds)
        settings.engine.calibrate.set_value('auto')
        settings.engine.refine_positions.set_value(True)
        assert 'how long' in inference_forecast(settings, model, scan, speeds)
        settings.engine.refine_positions.set_value(False)
    assert 'square' in inference_forecast(settings, physics_alone(), replace(scan, height=3), speeds)
    assert inference_forecast(settings, physics_alone(), replace(scan, sized=False), speeds) == UNSIZED


def test_the_meter_of_a_solution_measures_what_its_forecast_reads(settings: ReconstructorSettings) -> None:
    """API-66."""
    scan = Scan.from_raw(simulated_scan(grid=3))
    model, config, execution = packaged_prior().config.model, InferenceConfig(), settings.execution_config()
    meter = InferenceMeter(model, config, execution, scan)
    meter.iterate(1)
    assert list(meter.speeds()) == []
    meter.iterate(2)
    ((key, seconds),) = meter.speeds()
    assert key == solution_key(model, 64, config, execution, 1)
    assert seconds > 0
    meter.iterate(3, calibrating=True)
    meter.iterate(4)
    assert list(meter.speeds()) == [], 'other scans need not be corrected'


def test_meters_measure_what_the_forecast_reads(settings: ReconstructorSettings) -> None:
    """API-66: the child's keys are the window's."""
    scan = Scan.from_raw(simulated_scan(grid=3))
    settings.engine.architecture.set_value('cnn')
    config, execution = settings.training_config('pinn'), settings.execution_config()
    known = replace(config, model=replace(config.model, N=64))
    meter = TrainingMeter(config, execution, scan)
    for _ in range(4):
        meter.count()
    assert list(meter.epoch(2.0)) == [(training_key(config, 64, execution, 1), 0.5)]
    assert list(meter.epoch(2.0)) == []
    inference = InferenceMeter(known.model, settings.inference_config(), execution, scan)
    inference.patches(4)
    inference.patches(9)
    inference.iterate(2)
    keys = dict(inference.speeds())
    assert set(keys) == {
        inference_key(known.model, settings.inference_config(), execution, 1),
        refinement_key(64, settings.inference_config(), execution, 1),
    }
    assert min(keys.values()) >= 0


@pytest.mark.parametrize(('architecture', 'told'), [('cnn', 2), ('prior', 6)])
def test_the_first_epochs_are_measured(settings: ReconstructorSettings, architecture: str, told: int) -> None:
    """API-66: of a prior those too after the images that it learns from are made."""
    settings.engine.architecture.set_value(architecture)
    config, execution = settings.training_config('pinn'), settings.execution_config()
    meter = TrainingMeter(config, execution, Scan.from_raw(simulated_scan(grid=3)))
    measured = []
    for number in range(1, 13):
        meter.count()
        measured += [number] * len(list(meter.epoch(1.0)))
    assert measured == [*range(1, told + 1), 11]


def test_before_the_first_run_the_time_is_guessed(
    settings: ReconstructorSettings, speeds: SpeedBook, tmp_path: Path
) -> None:
    """API-66: from the speed of one core; twice the speed, twice the pixels and a GPU are seen in it."""
    speeds.note(MACHINE_KEY, 1.0)
    line = training_forecast(settings, 'pinn', SCAN, speeds).replace('\N{NO-BREAK SPACE}', ' ')
    # 50 epochs of 128 steps of 0.055 s, and five images of 529 patterns at 5 ms each.
    assert line.endswith(
        ', roughly 6 min on this CPU (a guess until the first run has measured it) for 50 epochs.'
    )
    settings.engine.architecture.set_value('cnn')
    speeds.note(MACHINE_KEY, 0.5)
    # 50 epochs of 128 steps of 0.16 s in half the time.
    assert 'roughly 9 min' in training_forecast(settings, 'pinn', SCAN, speeds).replace(
        '\N{NO-BREAK SPACE}', ' '
    )
    model = LoadedModel.open(write_model(tmp_path / 'm.zip', np.ones((1, 64, 64))))
    for one in (model, packaged_prior(), physics_alone()):
        assert ': roughly ' in inference_forecast(settings, one, SCAN, speeds)
    alone, prior, wide = (
        guessed_solution(one.config.model, size, 100, 1, 1.0)
        for one, size in ((physics_alone(), 64), (packaged_prior(), 64), (physics_alone(), 128))
    )
    assert alone < prior < wide
    config = settings.training_config('pinn')
    start = guessed_training(config, 0, 529, 1.0)
    small, large = (guessed_training(config, size, 529, 1.0) - start for size in (64, 128))
    assert large == pytest.approx(4 * small)


def test_the_guess_for_a_large_scan_is_that_of_its_parts(settings: ReconstructorSettings) -> None:
    """API-66: physics makes no image of the whole of it."""
    config = settings.training_config('pinn')
    seconds = [guessed_training(config, 64, n, 1.0) for n in (1000, 4096, 5000, 500_000)]
    assert seconds[0] < seconds[1]
    assert seconds[2] == seconds[3]


def test_the_speed_of_the_machine_is_measured_beside_the_window(speeds: SpeedBook) -> None:
    """API-66."""
    assert speeds.machine() is None
    assert speeds._measuring is not None
    speeds._measuring.join(60)
    measured = speeds.machine()
    assert measured is not None
    assert measured > 0


def test_damaged_speeds_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / 'speeds.json'
    for text in ('{', '[]', '{"a": "x", "b": -1}'):
        path.write_text(text)
        assert SpeedBook(path).seconds('a') is None
        assert SpeedBook(path).seconds('b') is None
    SpeedBook(path).note('a', 0.123456)
    assert json.loads(path.read_text())['a'] == 0.1235
    SpeedBook(tmp_path / 'speeds.json' / 'below' / 'x.json').note('a', 1)


def test_spoken_times() -> None:
    said = [spoken_time(s).replace('\N{NO-BREAK SPACE}', ' ') for s in (0.01, 0.44, 40.2, 700, 12600)]
    assert said == ['0.1 s', '0.4 s', '40 s', '12 min', '3.5 h']


def test_presets(settings: ReconstructorSettings) -> None:
    """API-61: balanced are the defaults; a preset sets what has an effect; a change makes it custom."""
    assert preset_shown(settings) == 'balanced'
    for name, architecture in product(PRESETS, ('prior', 'cnn')):
        settings.engine.architecture.set_value(architecture)
        apply_preset(settings, name)
        assert preset_shown(settings) == name
        assert settings.training_config('pinn').nepochs == PRESETS[name]['training', 'nepochs']
        assert not list(settings.remarks('pinn'))
        if architecture == 'prior':
            assert not list(settings.remarks_without_cnn())
        # The next begins from the defaults again.
        apply_preset(settings, 'balanced')
    settings.training.nepochs.set_value(51)
    assert preset_shown(settings) == CUSTOM
    # As the tool tip and docs/window.md say.
    drawn = {
        name: values['training', 'nepochs'] * values['engine', 'n_groups'] for name, values in PRESETS.items()
    }
    assert 10 * drawn['fast'] == drawn['balanced'] == drawn['best'] / 4


def test_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """API-61: what cannot be chosen has a reason."""
    monkeypatch.setattr(choices, '_has_gpu', lambda: False)
    monkeypatch.setattr(choices, '_built_for_gpu', lambda backend: backend == 'pytorch')
    monkeypatch.setattr(choices, 'why_unavailable', lambda name: None)
    monkeypatch.setattr(choices.platform, 'system', lambda: 'Linux')
    assert 'no NVIDIA or AMD GPU' in choices.device_obstacles('pytorch')['cuda']
    assert 'build for the CPU only' in choices.device_obstacles('tensorflow')['gpu']
    assert set(choices.device_obstacles('pytorch')) == {'cuda', 'gpu', 'mps'}
    assert choices.computes_on('pytorch', 'auto') == 'CPU'
    monkeypatch.setattr(choices, '_has_gpu', lambda: True)
    assert set(choices.device_obstacles('pytorch')) == {'mps'}
    assert choices.computes_on('pytorch', 'auto') == 'GPU'
    assert choices.computes_on('pytorch', 'cpu') == 'CPU'
    monkeypatch.setattr(choices, 'why_unavailable', lambda name: f'{name}: run: pip install it')
    with pytest.raises(BackendUnavailableError, match='pip install it'):
        choices.require_backend('tensorflow')
    assert set(choices.backend_obstacles()) == {'pytorch', 'tensorflow'}


def test_tool_tips_say_limits_and_default(settings: ReconstructorSettings) -> None:
    """API-61."""
    defaults = ReconstructorSettings.with_defaults()
    tips = {each.row.label: settings.tool_tip(each, defaults) for each in SETTINGS if each.row}
    assert tips['Grid size:'].endswith('From 1 to 5; default 1.')
    assert tips['Refine [iterations]:'].endswith('At least 0; default 25.')
    assert tips['Joint object:'].endswith('Default: on.')
    assert tips['Backend:'].endswith('Default: pytorch.')
    assert all(len(line) <= 100 for tip in tips.values() for line in tip.splitlines())


def test_model_and_data_are_compared(tmp_path: Path) -> None:
    """API-67."""
    rng = np.random.default_rng(0)
    probe = (rng.standard_normal((2, 64, 64)) + 1j * rng.standard_normal((2, 64, 64))).astype(np.complex64)
    model = LoadedModel.open(write_model(tmp_path / 'm.zip', probe))
    facts = ScanFacts(9, 64, 64, probe)
    assert model.remark(facts) is None
    # The same probe in another scale is the same probe.
    assert model.remark(replace(facts, probe=probe * (3 - 4j))) is None
    assert 'overlaps with it by' in (model.remark(replace(facts, probe=probe[::-1].copy())) or '')
    assert '1 instead of 2 modes' in (model.remark(replace(facts, probe=probe[:1])) or '')
    assert 'square' in (model.why_unusable(replace(facts, height=32)) or '')
    assert model.why_unusable(facts) is None
    assert model.is_trained_for(facts)
    assert not model.is_trained_for(replace(facts, probe=probe[:1]))
    assert not model.is_trained_for(replace(facts, height=32, width=32))
    assert probe_fingerprint(probe) in model.sentence


def test_model_is_remembered_and_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    """API-12 (ModelPath)."""
    settings = ReconstructorSettings.with_defaults()
    memory = ModelMemory(settings.inference.model_path)
    assert memory.current is None
    assert not memory.problem
    path = write_model(tmp_path / 'm.zip', np.ones((1, 64, 64)))
    settings.inference.model_path.set_value(path)
    assert memory.current is not None
    assert ModelMemory(settings.inference.model_path).current is not None
    path.unlink()
    assert memory.current is None
    assert str(path) in memory.problem
    with pytest.raises(ArchiveError):
        memory.open(path)
    assert memory.open(write_model(tmp_path / 'n.zip', np.ones((1, 32, 32)))).config.model.N == 32
    assert settings.inference.model_path.get_value() == (tmp_path / 'n.zip').resolve()


def test_the_prior_serves_where_no_model_is_named_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-88: a model that is named comes first, and is an error where it cannot be used."""
    memory = ModelMemory(ReconstructorSettings.with_defaults().inference.model_path)
    prior = memory.in_use
    assert prior is not None
    assert prior.name == PRIOR
    for size in (64, 50):
        assert prior.why_unusable(ScanFacts(9, size, size)) is None
    assert prior.remark(SCAN) is None
    own = memory.open(write_model(tmp_path / 'm.zip', np.ones((1, 64, 64))))
    assert memory.in_use is own
    own.path.write_bytes(b'PK')
    assert memory.in_use is None
    assert str(own.path) in memory.problem
    memory.forget()
    assert memory.in_use is prior
    assert not memory.problem
    packaged_prior.cache_clear()
    monkeypatch.setattr(packaged, 'PACKAGED_PRIOR', own.path)
    assert memory.in_use is None
    assert 'install the package again' in memory.problem


def test_a_prior_of_ones_own_is_a_model_like_any_other(tmp_path: Path) -> None:
    """API-67, API-88."""
    path = tmp_path / 'mine.zip'
    path.write_bytes(PACKAGED_PRIOR.read_bytes())
    model = LoadedModel.open(path)
    assert model.of_objects
    assert model.name == str(path)
    assert model.sentence == f'mine.zip: {PRIOR}, for patterns of any size.'


def adapted(path: Path, probe: np.ndarray, change: float = 0.0) -> LoadedModel:
    """Write a prior that was trained on a scan with a probe (P, N, N), its weights changed by so much."""
    archive = load_archive(PACKAGED_PRIOR)
    weights = {name: value + np.float32(change) for name, value in archive.weights.items()}
    history = [{'epoch': float(number), 'training_deviance': 1.25} for number in (1, 2)]
    save_archive(path, replace(archive, probe=probe, weights=weights, history=history))
    return LoadedModel.open(path)


def test_a_prior_that_was_trained_says_whether_that_has_changed_it(tmp_path: Path) -> None:
    """API-67."""
    probe = np.ones((1, 64, 64), np.complex64)
    kept, changed = adapted(tmp_path / 'kept.zip', probe), adapted(tmp_path / 'm.zip', probe, 1e-3)
    assert kept.sentence == (
        f'kept.zip: {PRIOR}, for patterns of any size; 2 epochs of training by pytorch made it no better.'
    )
    assert changed.sentence == (
        'm.zip: learned prior for patterns of any size, trained for 2 epochs by pytorch to deviance 1.25.'
    )


def test_a_prior_that_was_trained_is_for_any_scan(settings: ReconstructorSettings, tmp_path: Path) -> None:
    """API-67, API-77: nothing is said of another probe, but only one for the same is not trained anew."""
    rng = np.random.default_rng(0)
    probe = (rng.standard_normal((1, 64, 64)) + 1j * rng.standard_normal((1, 64, 64))).astype(np.complex64)
    model = adapted(tmp_path / 'm.zip', probe, 1e-3)
    own, other = ScanFacts(9, 64, 64, probe), ScanFacts(9, 64, 64, probe[:, ::-1].copy())
    for scan in (own, other, ScanFacts(9, 50, 50, np.ones((1, 50, 50), np.complex64)), ScanFacts(9, 64, 64)):
        assert model.why_unusable(scan) is None
        assert model.remark(scan) is None
        assert model.is_trained_for(scan) == (scan is own)
    settings.model.gridsize.set_value(2)
    assert model.network_differences(settings.training_config('pinn').model) == {}
    settings.engine.architecture.set_value('cnn')
    differences = model.network_differences(settings.training_config('pinn').model)
    assert differences == {'architecture': 'architecture prior → cnn'}
    assert ADOPTABLE.issuperset(differences)


def test_settings_of_a_model_are_adopted(settings: ReconstructorSettings, tmp_path: Path) -> None:
    """API-67: *Use its settings* makes the networks equal."""
    settings.model.amp_activation.set_value('softplus')
    model = LoadedModel.open(write_model(tmp_path / 'm.zip', np.ones((1, 64, 64)), gridsize=3))
    differences = model.network_differences(settings.training_config('pinn').model)
    assert differences
    assert ADOPTABLE.issuperset(differences)
    settings.adopt_network(model.config.model)
    assert not model.network_differences(settings.training_config('pinn').model)
    assert settings.model.amp_activation.get_value() == 'sigmoid'
    # No setting makes another algorithm of it.
    assert set(model.network_differences(settings.training_config('supervised').model)) == {'model_type'}
    assert 'model_type' not in ADOPTABLE
    # What a prior does not have stays as the user left it.
    settings.model.amp_activation.set_value('softplus')
    settings.adopt_network(packaged_prior().config.model)
    assert not packaged_prior().network_differences(settings.training_config('pinn').model)
    assert settings.model.amp_activation.get_value() == 'softplus'


@pytest.mark.parametrize('name', ['train_on', 'start_from'])
def test_unknown_words_are_errors(settings: ReconstructorSettings, name: str) -> None:
    """API-56."""
    getattr(settings.engine, name).set_value('nowhere')
    with pytest.raises(ConfigError, match='choose one of'):
        getattr(settings, name)()
