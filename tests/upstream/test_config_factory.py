"""Payloads: structure, precedence, errors, the legacy dictionary, and runs that follow them (R6)."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from ptycho_engine import (
    EpochDone,
    Reconstructed,
    config_factory,
    create_inference_payload,
    create_training_payload,
    infer_probe_size,
    load_archive,
    reconstruct_from_payload,
    train_from_payload,
)
from ptycho_engine.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    precedence,
)
from ptycho_engine.config.precedence import Level
from ptycho_engine.config.setup import TrainingSetup
from ptycho_engine.errors import ConfigError, DataKeyError, DataValueError, EngineError
from ptycho_engine.upstream import payload as payload_runs
from ptycho_engine.upstream.legacy import KEY_MAPPINGS, params, populate_legacy_params, update_legacy_dict
from tests.conftest import small_scan

pytestmark = pytest.mark.usefixtures('slim_cnn')

QUICK = {
    'n_groups': 8,
    'nepochs': 1,
    'batch_size': 4,
    'n_filters_scale': 1,
    'architecture': 'cnn',
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    small_scan(points=5).to_file(folder / 'scan.npz')
    small_scan(points=5, modes=3).to_file(folder / 'modes.npz')
    return folder


@pytest.fixture(scope='module')
def model(data, tmp_path_factory):
    out = tmp_path_factory.mktemp('model')
    overrides = {**QUICK, 'grid_size': (2, 2), 'test_data_file': data / 'scan.npz'}
    payload = create_training_payload(data / 'scan.npz', out, overrides)
    events = list(train_from_payload(payload))
    assert sum(isinstance(event, EpochDone) for event in events) == 1
    assert isinstance(events[-1], Reconstructed)
    return out


@pytest.fixture(autouse=True)
def clean_params():
    params.cfg.clear()
    yield
    params.cfg.clear()


def names(payload):
    return [field.name for field in dataclasses.fields(payload)]


def test_cfg_05_and_08_training_payload_says_the_same_in_both_vocabularies(data, tmp_path):
    overrides = {'n_groups': 32, 'max_epochs': 5, 'grid_size': (2, 2), 'K': 6, 'mode': 'Unsupervised'}
    payload = create_training_payload(data / 'scan.npz', tmp_path / 'new' / 'out', overrides)
    assert names(payload) == [
        *('tf_training_config', 'pt_data_config', 'pt_model_config', 'pt_training_config'),
        *('execution_config', 'overrides_applied'),
    ]
    run = payload.tf_training_config
    assert isinstance(run, TrainingConfig)
    assert (run.model.N, run.model.gridsize, run.model.model_type) == (64, 2, 'pinn')
    assert (run.n_groups, run.nepochs, run.neighbor_count) == (32, 5, 6)
    assert run.train_data_file == data / 'scan.npz'
    assert run.output_dir.is_dir()
    seen = payload.pt_data_config
    assert (seen.N, seen.grid_size, seen.C, seen.K) == (64, (2, 2), 4, 6)
    assert (payload.pt_model_config.mode, payload.pt_model_config.C_model) == ('Unsupervised', 4)
    assert payload.pt_training_config.epochs == 5
    assert payload.execution_config == PyTorchExecutionConfig()
    applied = payload.overrides_applied
    assert (applied['nepochs'].value, applied['nepochs'].level) == (5, Level.OVERRIDE)
    assert applied['nepochs'].replaced == ((Level.CANONICAL, TrainingConfig().nepochs),)
    assert (applied['N'].value, applied['N'].level) == (64, Level.DATA)


def test_cfg_20_inference_payload(data, model, tmp_path):
    payload = create_inference_payload(
        model,
        data / 'scan.npz',
        tmp_path / 'out',
        {'n_groups': 3, 'neighbor_count': 5},
        PyTorchExecutionConfig(inference_batch_size=2),
    )
    assert names(payload) == [
        *('tf_inference_config', 'pt_data_config', 'pt_inference_config'),
        *('execution_config', 'overrides_applied'),
    ]
    run = payload.tf_inference_config
    assert (run.batch_size, run.neighbor_count, run.n_subsample, run.model.gridsize) == (2, 5, 12, 2)
    assert payload.overrides_applied['batch_size'].level is Level.EXECUTION
    assert payload.pt_inference_config.batch_size == 2
    assert payload.pt_data_config.C == 4
    (result,) = [e for e in reconstruct_from_payload(payload) if isinstance(e, Reconstructed)]
    assert result.reconstruction.n_patterns == 12


@pytest.mark.parametrize(
    ('overrides', 'words'),
    [
        ({'n_groups': -1}, 'n_groups is -1; expected a whole number at least 1'),
        ({'n_groups': '4'}, "n_groups is '4'; expected a whole number"),
        ({'n_groups': 3, 'n_subsample': 12}, 'n_groups and n_subsample were both given'),
    ],
)
def test_cfg_09_groups_of_a_reconstruction_that_cannot_be_are_named(overrides, words, data, model, tmp_path):
    with pytest.raises(ConfigError, match=words):
        create_inference_payload(model, data / 'scan.npz', tmp_path / 'out', overrides)
    assert not (tmp_path / 'out').exists()


def test_cfg_09_all_groups_is_a_statement_too(data, model, tmp_path):
    overrides, command_line = {'n_groups': None}, {'n_groups': 3}
    payload = create_inference_payload(
        model, data / 'scan.npz', tmp_path, overrides, command_line=command_line
    )
    assert payload.tf_inference_config.n_subsample is None
    assert payload.overrides_applied['n_subsample'].replaced[0] == (Level.COMMAND_LINE, 12)
    both = {'n_groups': None, 'n_subsample': 5}
    assert create_inference_payload(model, data / 'scan.npz', tmp_path, both).pt_data_config.n_subsample == 5


def test_cfg_04_five_levels_through_the_factory(data, tmp_path, monkeypatch):
    monkeypatch.setitem(precedence.BACKEND_DEFAULTS, 'pytorch', {'learning_rate': 5e-3})
    levels = [
        {'overrides': {'n_groups': 8, 'learning_rate': 1e-3}},
        {'execution_config': PyTorchExecutionConfig(learning_rate=2e-3)},
        {'command_line': {'n_groups': 8, 'learning_rate': 3e-3}},
        {},
    ]
    for start, expected in enumerate([1e-3, 2e-3, 3e-3, 5e-3]):
        stated = {'overrides': {'n_groups': 8}}
        for level in reversed(levels[start:]):
            stated |= level
        payload = create_training_payload(data / 'scan.npz', tmp_path, **stated)
        assert payload.tf_training_config.learning_rate == expected
        assert payload.pt_training_config.learning_rate == expected
        assert payload.overrides_applied['learning_rate'].value == expected
    monkeypatch.setitem(precedence.BACKEND_DEFAULTS, 'pytorch', {})
    payload = create_training_payload(data / 'scan.npz', tmp_path, {'n_groups': 8})
    assert payload.tf_training_config.learning_rate == TrainingConfig().learning_rate
    assert 'learning_rate' not in payload.overrides_applied


def test_cfg_08_an_execution_config_reaches_the_archive(data, tmp_path):
    execution = PyTorchExecutionConfig(learning_rate=1e-4, scheduler='Default', logger_backend='none')
    payload = create_training_payload(data / 'scan.npz', tmp_path, QUICK, execution)
    list(train_from_payload(payload))
    archive = load_archive(tmp_path)
    assert (archive.config.learning_rate, archive.config.scheduler) == (1e-4, 'Default')
    assert archive.history[-1]['learning_rate'] == pytest.approx(1e-4)
    assert archive.config == payload.tf_training_config.settings


@pytest.fixture
def reconstructed(monkeypatch):
    """Scans and settings that a training's end asks to reconstruct, instead of doing it."""
    asked = []
    monkeypatch.setattr(
        payload_runs, 'reconstruct', lambda scan, archive, config, **_: asked.append((scan, config)) or ()
    )
    return asked


def test_cfg_11_a_stated_photon_number_scales_normalised_amplitudes(data, tmp_path, reconstructed):
    with np.load(data / 'scan.npz') as file:
        arrays = dict(file)
    arrays['diffraction'] = arrays['diffraction'] * 1e-4
    del arrays['_metadata']
    np.savez(tmp_path / 'normalised.npz', **arrays)
    path = tmp_path / 'normalised.npz'
    overrides = {**QUICK, 'nphotons': 2e4, 'test_data_file': path}
    payload = create_training_payload(path, tmp_path, overrides)
    assert payload.pt_data_config.nphotons == 2e4
    list(train_from_payload(payload))
    assert load_archive(tmp_path).scale.mean_counts == pytest.approx(2e4, rel=1e-3)
    [(test, _)] = reconstructed
    assert np.sum(test.raw.diffraction**2.0, axis=(1, 2)).mean() == pytest.approx(2e4, rel=1e-3)


def test_cfg_11_the_test_scan_is_reconstructed_as_the_training_was_run(data, tmp_path, reconstructed):
    overrides = QUICK | {'backend': 'tensorflow', 'seed': 7, 'neighbor_count': 5}
    overrides['test_data_file'] = data / 'scan.npz'
    list(train_from_payload(create_training_payload(data / 'scan.npz', tmp_path, overrides)))
    [(_, config)] = reconstructed
    assert (config.backend, config.seed, config.neighbor_count) == ('tensorflow', 7, 5)


def test_a_wrong_test_scan_is_found_before_the_training(data, tmp_path):
    wrong = tmp_path / 'wrong.npz'
    np.savez(wrong, diffraction=np.ones((4, 64, 64)))
    overrides = {**QUICK, 'test_data_file': wrong}
    with pytest.raises(DataKeyError, match=r'wrong\.npz'):
        list(train_from_payload(create_training_payload(data / 'scan.npz', tmp_path / 'out', overrides)))
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize(
    ('overrides', 'words'),
    [
        ({}, 'n_groups is missing'),
        ({'n_groups': 8, 'gridsise': 2}, "did you mean 'gridsize'"),
        ({'n_groups': 8, 'gridsize': 9}, 'from 1 to 5'),
        ({'n_groups': 8, 'backend': 'jax'}, "expected one of 'pytorch'"),
    ],
)
def test_cfg_02_and_09_wrong_settings_are_named(overrides, words, data, tmp_path):
    with pytest.raises(ConfigError) as caught:
        create_training_payload(data / 'scan.npz', tmp_path, overrides)
    assert words in str(caught.value)


def test_cfg_09_missing_files_are_named(data, model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.npz'):
        create_training_payload(tmp_path / 'none.npz', tmp_path, {'n_groups': 8})
    with pytest.raises(FileNotFoundError, match='test'):
        create_training_payload(
            data / 'scan.npz', tmp_path, {'n_groups': 8, 'test_data_file': tmp_path / 'none.npz'}
        )
    with pytest.raises(FileNotFoundError, match=r'none\.npz'):
        create_inference_payload(model, tmp_path / 'none.npz', tmp_path)
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match=r'wts\.h5\.zip'):
            create_inference_payload(tmp_path, data / 'scan.npz', tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        create_inference_payload(model, data / 'scan.npz', tmp_path, {'batch_sise': 2})


def test_cfg_10_the_probe_size_is_that_of_probe_and_patterns(data, tmp_path, caplog):
    assert infer_probe_size(data / 'scan.npz') == 64
    assert infer_probe_size(data / 'modes.npz') == 64
    with np.load(data / 'modes.npz') as file:
        arrays = dict(file)
    legacy = {**arrays, 'diffraction': arrays['diffraction'].transpose(1, 2, 0)}
    np.savez(tmp_path / 'legacy.npz', **legacy)
    assert infer_probe_size(tmp_path / 'legacy.npz') == 64
    np.savez(tmp_path / 'other.npz', **{**arrays, 'probeGuess': arrays['probeGuess'][:, :32, :32]})
    (tmp_path / 'broken.npz').write_bytes(b'PK')
    for name, reason in (
        ('other', 'probeGuess is 32 pixels wide but the patterns are 64'),
        ('none', 'there is no such file'),
        ('broken', 'is not a readable NPZ file'),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert infer_probe_size(tmp_path / f'{name}.npz') == 64
        assert reason in caplog.text
        assert 'assuming a probe of 64 pixels' in caplog.text
    # A payload is made of nothing that was assumed.
    with pytest.raises(DataValueError, match='32 pixels wide but the patterns are 64'):
        create_training_payload(tmp_path / 'other.npz', tmp_path, {'n_groups': 8})


def test_cfg_10_a_stated_size_wins_and_is_said_where_it_is_another(data, tmp_path, caplog):
    payload = create_training_payload(data / 'scan.npz', tmp_path, {**QUICK, 'N': 128})
    assert payload.tf_training_config.model.N == payload.pt_data_config.N == 128
    assert payload.overrides_applied['N'].replaced[0] == (Level.DATA, 64)
    assert 'N is 128 as stated, but the patterns of' in caplog.text
    with pytest.raises(EngineError, match='64'):
        list(train_from_payload(payload))
    caplog.clear()
    create_training_payload(data / 'scan.npz', tmp_path, {**QUICK, 'N': 64})
    assert 'as stated' not in caplog.text


def test_cfg_13_the_factory_fills_the_legacy_dictionary(data, tmp_path):
    create_training_payload(data / 'scan.npz', tmp_path, {'n_groups': 8, 'gridsize': 2})
    cfg = params.cfg
    assert (cfg['N'], cfg['gridsize'], cfg['n_groups']) == (64, 2, 8)
    assert cfg['train_data_file_path'] == str(data / 'scan.npz')
    assert cfg['output_prefix'] == str(tmp_path)
    assert cfg['object.big'] is True
    assert not set(KEY_MAPPINGS) & set(cfg)


def test_cfg_13_no_value_of_an_earlier_run_survives_in_the_legacy_dictionary(caplog):
    config = TrainingConfig(n_subsample=10)
    with caplog.at_level(logging.WARNING):
        populate_legacy_params(config)
    assert caplog.text == ''
    with caplog.at_level(logging.WARNING):
        populate_legacy_params(TrainingConfig())
    assert params.cfg['n_subsample'] is None
    assert 'n_subsample' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        populate_legacy_params(config, force=True)
    assert caplog.text == ''
    assert params.cfg['n_subsample'] == 10
    other: dict[str, object] = {}
    update_legacy_dict(other, config)
    assert other == params.cfg


def test_cfg_13_settings_that_a_configuration_does_not_have_leave_the_legacy_dictionary(caplog):
    params.cfg['data_source'] = 'the caller'
    populate_legacy_params(TrainingSetup(train_data_file=Path('a.npz')))
    with caplog.at_level(logging.WARNING):
        populate_legacy_params(InferenceConfig())
    assert not {'train_data_file_path', 'nepochs', 'gridsize', 'output_prefix'} & set(params.cfg)
    assert 'nepochs' in caplog.text
    assert params.cfg['batch_size'] == InferenceConfig().batch_size
    assert params.cfg['data_source'] == 'the caller'


def test_the_names_callers_know_are_in_the_factory():
    for name in (
        *('create_training_payload', 'create_inference_payload', 'infer_probe_size'),
        *('populate_legacy_params', 'TrainingPayload', 'InferencePayload'),
    ):
        assert hasattr(config_factory, name)


def test_cfg_13_another_configuration_deletes_nothing(data, tmp_path):
    create_training_payload(data, tmp_path, {'n_groups': 4})
    before = dict(params.cfg)
    for other, name in ((ModelConfig(), 'ModelConfig'), ({}, 'dict'), (None, 'NoneType')):
        with pytest.raises(ConfigError, match=f'was given {name}; expected a TrainingConfig') as error:
            populate_legacy_params(other)
        assert isinstance(error.value, TypeError)
    assert params.cfg == before


def test_cfg_08_an_execution_may_be_a_mapping(data, tmp_path):
    payload = create_training_payload(data, tmp_path, {'n_groups': 4}, {'accelerator': 'cpu'})
    assert payload.execution_config == PyTorchExecutionConfig(accelerator='cpu')
    with pytest.raises(ConfigError, match=r"no field 'acelerator'; did you mean 'accelerator'"):
        create_training_payload(data, tmp_path, {'n_groups': 4}, {'acelerator': 'cpu'})


def test_cfg_21_an_execution_is_made_with_the_names_of_the_original(caplog):
    caplog.set_level(logging.INFO)
    theirs = PyTorchExecutionConfig(
        devices='auto',
        deterministic='warn',
        logger_backend=None,
        scheduler='CosineAnnealing',
        pin_memory=True,
        checkpoint_mode='min',
        recon_log_stitch=False,
        ffno_encoder_blocks=24,
        strategy='ddp',
        enable_checkpointing=True,
    )
    assert theirs == PyTorchExecutionConfig(logger_backend='none', scheduler='WarmupCosine')
    for name in ('pin_memory', 'checkpoint_mode', 'recon_log_stitch', 'ffno_encoder_blocks', 'strategy'):
        assert f'{name} = ' in caplog.text
    assert caplog.text.count('is left out: ') == 5
    without = PyTorchExecutionConfig(enable_checkpointing=False, checkpoint_save_top_k=3)
    assert without == PyTorchExecutionConfig(checkpoint_save_top_k=0)
    with pytest.raises(ConfigError, match="enable_checkpointing is 'no'; expected True or False"):
        PyTorchExecutionConfig(enable_checkpointing='no')
    with pytest.raises(ConfigError, match=r"no field 'pin_memories'"):
        PyTorchExecutionConfig(pin_memories=True)
    with pytest.raises(ConfigError, match=r"no field 'num_worker'; did you mean 'num_workers'"):
        PyTorchExecutionConfig(num_worker=2)
    with pytest.raises(ConfigError, match='logger_backend'):
        PyTorchExecutionConfig(logger_backend='wandb')


def test_cfg_11_what_has_no_place_is_left_out_of_the_overrides_with_a_line(data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    payload = create_training_payload(data / 'scan.npz', tmp_path, {**QUICK, 'debug': True, 'fno_modes': 12})
    assert payload.tf_training_config.n_groups == 8
    assert 'debug = True is left out' in caplog.text
    assert 'fno_modes = 12 is left out' in caplog.text
