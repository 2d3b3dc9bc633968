"""The names that a user of Ptychodus knows for the fields of the engine's configurations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ptycho_engine.errors import ConfigError

__all__ = ['ENGINE_GROUP', 'OUR_GROUPS', 'REMOVED', 'SETTING_OF_FIELD', 'setting_names']

ENGINE_GROUP = 'PtychoPINNEngine'
OUR_GROUPS = ('PtychoPINNModel', 'PtychoPINNTraining', 'PtychoPINNInference', ENGINE_GROUP)
"""The sections of a settings file that are PtychoPINN's."""

REMOVED = ('PhysicsSteps', 'UnrolledSteps', 'SimulatedEpochs')
"""Settings that files of version 0.1 have in the section of ours."""

SETTING_OF_FIELD = {
    'ModelConfig.gridsize': 'PtychoPINNModel.GridSize',
    'ModelConfig.n_filters_scale': 'PtychoPINNModel.NumFiltersScale',
    'ModelConfig.architecture': f'{ENGINE_GROUP}.Architecture',
    'ModelConfig.amp_activation': 'PtychoPINNModel.AmpActivation',
    'ModelConfig.object_big': 'PtychoPINNModel.ObjectBig',
    'ModelConfig.probe_big': 'PtychoPINNModel.ProbeBig',
    'ModelConfig.probe_mask': 'PtychoPINNModel.ProbeMask',
    'ModelConfig.pad_object': 'PtychoPINNModel.PadObject',
    'ModelConfig.probe_scale': 'PtychoPINNModel.ProbeScale',
    'ModelConfig.gaussian_smoothing_sigma': 'PtychoPINNModel.GaussianSmoothingSigma',
    'TrainingConfig.backend': f'{ENGINE_GROUP}.Backend',
    'TrainingConfig.batch_size': 'PtychoPINNTraining.BatchSize',
    'TrainingConfig.nepochs': 'PtychoPINNTraining.NumEpochs',
    'TrainingConfig.mae_weight': 'PtychoPINNTraining.MAEWeight',
    'TrainingConfig.nll_weight': 'PtychoPINNTraining.NLLWeight',
    'TrainingConfig.realspace_mae_weight': 'PtychoPINNTraining.RealspaceMAEWeight',
    'TrainingConfig.realspace_weight': 'PtychoPINNTraining.RealspaceWeight',
    'TrainingConfig.probe_trainable': 'PtychoPINNTraining.ProbeTrainable',
    'TrainingConfig.intensity_scale_trainable': 'PtychoPINNTraining.IntensityScaleTrainable',
    'TrainingConfig.neighbor_count': 'PtychoPINNInference.NumNearestNeighbors',
    'TrainingConfig.n_groups': f'{ENGINE_GROUP}.NumGroups',
    'TrainingConfig.learning_rate': f'{ENGINE_GROUP}.LearningRate',
    'TrainingConfig.validation_fraction': f'{ENGINE_GROUP}.ValidationFraction',
    'TrainingConfig.early_stop_patience': f'{ENGINE_GROUP}.EarlyStopPatience',
    'TrainingConfig.seed': f'{ENGINE_GROUP}.Seed',
    'InferenceConfig.backend': f'{ENGINE_GROUP}.Backend',
    'InferenceConfig.neighbor_count': 'PtychoPINNInference.NumNearestNeighbors',
    'InferenceConfig.batch_size': f'{ENGINE_GROUP}.InferenceBatchSize',
    'InferenceConfig.refine_iterations': f'{ENGINE_GROUP}.RefineIterations',
    'InferenceConfig.refine_method': f'{ENGINE_GROUP}.RefineMethod',
    'InferenceConfig.refine_smoothing': f'{ENGINE_GROUP}.RefineSmoothing',
    'InferenceConfig.calibrate': f'{ENGINE_GROUP}.Calibrate',
    'InferenceConfig.refine_probe': f'{ENGINE_GROUP}.RefineProbe',
    'InferenceConfig.refine_positions': f'{ENGINE_GROUP}.RefinePositions',
    'InferenceConfig.seed': f'{ENGINE_GROUP}.Seed',
    'PyTorchExecutionConfig.accelerator': f'{ENGINE_GROUP}.Accelerator',
    'PyTorchExecutionConfig.precision': f'{ENGINE_GROUP}.Precision',
}
"""Where the user finds each field."""


@contextmanager
def setting_names() -> Iterator[None]:
    """Restate a :class:`ConfigError` in the names that a user of Ptychodus knows."""
    try:
        yield
    except ConfigError as error:
        sentence = re.sub(
            r'\b[A-Z]\w+Config\.\w+', lambda match: SETTING_OF_FIELD.get(match[0], match[0]), str(error)
        )
        raise ConfigError(f'Setting {sentence}') from error
