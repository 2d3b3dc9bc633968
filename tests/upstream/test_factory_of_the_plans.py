"""The factory by the names of the original's plans (CFG-04, CFG-08 to CFG-13, CFG-20 and CFG-21)."""

from dataclasses import is_dataclass

import numpy as np
import pytest

from ptycho_engine import config_factory as factory
from ptycho_engine import save_archive
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.upstream import params
from ptycho_engine.upstream.torch_configs import (
    PTDataConfig,
    PTInferenceConfig,
    PTModelConfig,
    PTTrainingConfig,
)
from tests.formats.test_archive import tiny_model


@pytest.fixture(autouse=True)
def clean_params():
    params.cfg.clear()
    yield
    params.cfg.clear()


def write_npz(path, size):
    """A file as the plans have it: random amplitudes, positions close together, scan points counted."""
    rng = np.random.default_rng(1)
    n = 20
    np.savez(
        path,
        diffraction=rng.random((n, size, size), np.float32),
        probeGuess=rng.random((size, size)).astype(np.complex64),
        objectGuess=rng.random((256, 256)).astype(np.complex64),
        xcoords=np.linspace(100, 101, n),
        ycoords=np.linspace(100, 101, n),
        scan_index=np.arange(n, dtype=np.int32),
    )
    return path


@pytest.fixture
def mock_train_npz(tmp_path):
    return write_npz(tmp_path / 'train.npz', 64)


@pytest.fixture
def mock_test_npz(tmp_path):
    return write_npz(tmp_path / 'test.npz', 64)


@pytest.fixture
def mock_checkpoint_dir(tmp_path):
    folder = tmp_path / 'model'
    folder.mkdir()
    save_archive(folder / 'wts.h5.zip', tiny_model())
    return folder


@pytest.fixture
def training(mock_train_npz, tmp_path):
    def make(execution=None, **overrides):
        overrides = {'n_groups': 512, **overrides}
        return factory.create_training_payload(mock_train_npz, tmp_path / 'out', overrides, execution)

    return make


class TestTrainingPayloadStructure:
    def test_training_payload_returns_dataclass(self, training):
        payload = training(batch_size=16)
        assert is_dataclass(payload)
        assert isinstance(payload, factory.TrainingPayload)

    def test_training_payload_contains_tf_config(self, training):
        assert isinstance(training().tf_training_config, TrainingConfig)

    def test_training_payload_contains_pytorch_configs(self, training):
        payload = training()
        assert isinstance(payload.pt_data_config, PTDataConfig)
        assert isinstance(payload.pt_model_config, PTModelConfig)
        assert isinstance(payload.pt_training_config, PTTrainingConfig)

    def test_training_payload_contains_overrides_dict(self, training):
        applied = training(batch_size=8).overrides_applied
        assert applied['n_groups'] == 512
        assert applied['batch_size'] == 8
        assert applied['batch_size'] != 9

    @pytest.mark.parametrize('gridsize', [1, 2])
    def test_gridsize_sets_channel_count(self, training, gridsize):
        payload = training(gridsize=gridsize)
        channels = (
            payload.pt_data_config.C,
            payload.pt_model_config.C_forward,
            payload.pt_model_config.C_model,
        )
        assert channels == (gridsize**2,) * 3

    def test_training_payload_infers_probe_size_for_pt_data_config(self, tmp_path):
        path = write_npz(tmp_path / 'wide.npz', 128)
        payload = factory.create_training_payload(path, tmp_path, {'n_groups': 512})
        assert payload.pt_data_config.N == payload.tf_training_config.model.N == 128

    def test_training_payload_maps_model_type_override_to_pt_mode(self, training):
        payload = training(mode='Supervised')
        assert payload.pt_model_config.mode == 'Supervised'
        assert payload.tf_training_config.model.model_type == 'supervised'
        assert training(model_type='Supervised').tf_training_config.model.model_type == 'supervised'


class TestInferencePayloadStructure:
    @pytest.fixture
    def inference(self, mock_checkpoint_dir, mock_test_npz, tmp_path):
        return factory.create_inference_payload(
            mock_checkpoint_dir, mock_test_npz, tmp_path / 'out', {'n_groups': 12}
        )

    def test_inference_payload_returns_dataclass(self, inference):
        assert is_dataclass(inference)
        assert isinstance(inference, factory.InferencePayload)

    def test_inference_payload_contains_tf_config(self, inference):
        assert isinstance(inference.tf_inference_config, InferenceConfig)

    def test_inference_payload_contains_pytorch_configs(self, inference):
        assert isinstance(inference.pt_data_config, PTDataConfig)
        assert isinstance(inference.pt_inference_config, PTInferenceConfig)
        assert isinstance(inference.execution_config, PyTorchExecutionConfig)


class TestConfigBridgeTranslation:
    def test_grid_size_tuple_to_gridsize_int(self, training):
        assert training(grid_size=(2, 2)).tf_training_config.model.gridsize == 2

    @pytest.mark.parametrize('name', ['epochs', 'max_epochs'])
    def test_epochs_to_nepochs_conversion(self, training, name):
        assert training(**{name: 10}).tf_training_config.nepochs == 10

    def test_k_to_neighbor_count_conversion(self, training):
        assert training(K=9).tf_training_config.neighbor_count == 9


class TestLegacyParamsPopulation:
    def test_factory_populates_params_cfg(self, training):
        training(gridsize=2)
        assert (params.cfg['N'], params.cfg['gridsize'], params.cfg['n_groups']) == (64, 2, 512)

    def test_populate_legacy_params_helper(self, training):
        payload = training(gridsize=2)
        params.cfg.clear()
        factory.populate_legacy_params(payload.tf_training_config, force=True)
        assert params.cfg['gridsize'] == 2


class TestOverridePrecedence:
    def test_override_dict_wins_over_defaults(self, training):
        assert TrainingConfig().batch_size != 32
        assert training(batch_size=32).tf_training_config.batch_size == 32

    def test_probe_size_override_wins_over_inference(self, training):
        assert training(N=128).pt_data_config.N == 128


class TestFactoryValidation:
    def test_missing_n_groups_raises_error(self, mock_train_npz, tmp_path):
        with pytest.raises(ValueError, match='n_groups'):
            factory.create_training_payload(mock_train_npz, tmp_path, {})

    def test_nonexistent_train_data_file_raises_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            factory.create_training_payload(tmp_path / 'no.npz', tmp_path, {'n_groups': 512})

    def test_missing_checkpoint_raises_error(self, mock_test_npz, tmp_path):
        (tmp_path / 'empty').mkdir()
        for kind in (ValueError, FileNotFoundError):
            with pytest.raises(kind, match=r'wts\.h5\.zip'):
                factory.create_inference_payload(tmp_path / 'empty', mock_test_npz, tmp_path, {'n_groups': 1})


class TestExecutionConfigOverrides:
    def test_training_payload_execution_config_not_none(self, training):
        assert training().execution_config == PyTorchExecutionConfig()

    def test_execution_config_explicit_instance_propagates(self, training):
        given = PyTorchExecutionConfig(accelerator='cpu', num_workers=4, learning_rate=5e-4)
        assert training(given).execution_config is given

    def test_overrides_applied_records_execution_knobs(self, training):
        applied = training(PyTorchExecutionConfig(learning_rate=5e-4)).overrides_applied
        assert applied['learning_rate'] == 5e-4

    def test_checkpoint_knobs_propagate_through_factory(self, training):
        knobs = {
            'checkpoint_save_top_k': 3,
            'checkpoint_monitor_metric': 'val_loss',
            'checkpoint_mode': 'min',
        }
        payload = training({**knobs, 'enable_checkpointing': True, 'early_stop_patience': 50})
        assert payload.execution_config.checkpoint_save_top_k == 3
        assert payload.tf_training_config.early_stop_patience == 50

    def test_scheduler_override_applied(self, training):
        execution = PyTorchExecutionConfig(scheduler='Exponential', accum_steps=4)
        run = training(execution).tf_training_config
        assert (run.scheduler, run.accum_steps) == ('Exponential', 4)

    @pytest.mark.parametrize('logger', ['csv', 'tensorboard', 'mlflow', None])
    def test_logger_backend(self, training, logger):
        payload = training(PyTorchExecutionConfig(logger_backend=logger))
        assert payload.execution_config.logger_backend == (logger or 'none')


class TestProbeSizeInference:
    def test_infer_probe_size_from_npz(self, mock_train_npz):
        assert factory.infer_probe_size(mock_train_npz) == 64

    def test_infer_probe_size_missing_file_fallback(self, tmp_path):
        assert factory.infer_probe_size(tmp_path / 'no.npz') == 64
