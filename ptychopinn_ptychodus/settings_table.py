"""Every setting of PtychoPINN in Ptychodus: its name in a file, the fields it fills, its row in the panel.

Knows no Qt. What the settings are by default and within which limits is with their parameters
(:mod:`.settings` for ours, Ptychodus for the others).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from ptycho_engine.config.execution import ACCELERATORS, PRECISIONS
from ptycho_engine.config.inference import AUTO, OFF, ON, REFINE_METHODS
from ptycho_engine.config.model import AMPLITUDE_ACTIVATIONS, ARCHITECTURES
from ptycho_engine.config.training import BACKENDS
from ptycho_engine.errors import ConfigError

from .setting import Row, Setting

__all__ = ['REMOVED', 'SETTINGS', 'START_FROM', 'TRAIN_ON', 'setting_names', 'settings_of']

REMOVED = ('PhysicsSteps', 'UnrolledSteps', 'SimulatedEpochs')
"""Settings that files of version 0.1 have in the section of ours."""

START_FROM = ('scratch', 'model', 'checkpoint')
TRAIN_ON = ('auto', 'product', 'folder', 'simulation')

SETTINGS = (
    Setting(
        *('engine', 'refine_iterations', 'RefineIterations'),
        ('InferenceConfig.refine_iterations',),
        Row(
            *('Reconstruction', 'number', 'Refine [iterations]:'),
            "Iterations over all patterns that fit the network's image to the measured counts, at most. A "
            'flat start is tried too;\n'
            'what best predicts pixels that were not fitted is kept. 0: the image of the network alone.',
            advanced=False,
        ),
        architecture='cnn',
    ),
    Setting(
        *('engine', 'calibrate', 'Calibrate'),
        ('InferenceConfig.calibrate',),
        Row(
            *('Reconstruction', 'choice', 'Calibrate:'),
            'Without a trained network: correct the probe, its modes, positions, intensities, background '
            'and bad pixels. The result has the new probe and positions; log and comments tell all.\n'
            'auto: where the image does not explain the patterns. on: in any case. off: never.\n'
            'What does not predict held-out pixels better is left as it is.',
            (AUTO, OFF, ON),
            advanced=False,
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'refine_probe', 'RefineProbe'),
        ('InferenceConfig.refine_probe',),
        Row(
            *('Reconstruction', 'switch', 'Refine probe:'),
            'Correct the probe too; the result has the new one.\n'
            'A probe that is some way out of focus wants about 40 iterations.',
            advanced=False,
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'refine_positions', 'RefinePositions'),
        ('InferenceConfig.refine_positions',),
        Row(
            *('Reconstruction', 'switch', 'Refine positions:'),
            'Correct the scan positions too; the result has the new ones.\n'
            'Errors of a pixel want about 60 iterations.',
            advanced=False,
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'train_on', 'TrainOn'),
        row=Row(
            *('Training', 'choice', 'Train on:'),
            'auto: the scan in the folder that "Train" asks for, or the chosen product if that folder '
            'holds none. Where it holds another scan than the chosen product, you are asked.\n'
            'product: the chosen product; the folder only takes the model. folder: the scans in it.\n'
            'simulation: no measured pattern, but simulated objects with the probe, positions and photons '
            'of the product, or of a product.h5 in the folder.',
            TRAIN_ON,
            advanced=False,
        ),
    ),
    Setting(
        *('engine', 'start_from', 'StartFrom'),
        row=Row(
            *('Training', 'choice', 'Start from:'),
            'scratch: the learned prior that comes with PtychoPINN, or for the architecture cnn a fresh '
            'network. model: the loaded model, trained further.\n'
            'checkpoint: go on with a stopped training, in its folder, as if it had never stopped.',
            START_FROM,
            advanced=False,
        ),
    ),
    Setting(
        *('training', 'nepochs', 'NumEpochs'),
        ('TrainingConfig.nepochs',),
        Row(
            *('Training', 'number', 'Epochs:'),
            'How often the network sees the patterns of an epoch, at most. Training ends earlier when '
            'patterns, or pixels, that were kept out of it are predicted no better.',
            advanced=False,
        ),
    ),
    Setting(
        *('engine', 'n_groups', 'NumGroups'),
        ('TrainingConfig.n_groups',),
        Row(
            *('Training', 'number', 'Patterns per epoch:'),
            'Drawn anew for each epoch (so many sets of g × g patterns at a grid size g above 1). 0: all.',
            advanced=False,
        ),
    ),
    Setting(
        *('engine', 'architecture', 'Architecture'),
        ('ModelConfig.architecture',),
        Row(
            *('Network', 'choice', 'Architecture:'),
            'prior: a network that knows what objects look like and takes part in the solver, for '
            'patterns of any size. It needs no training; training adapts it to a scan, and keeps it as it '
            'is where that gains nothing.\n'
            'cnn: the encoder and decoders of the first PtychoPINN; sees the patterns only.',
            ARCHITECTURES,
            advanced=False,
        ),
    ),
    Setting(
        *('engine', 'backend', 'Backend'),
        ('TrainingConfig.backend', 'InferenceConfig.backend'),
        Row(
            *('Computer', 'choice', 'Backend:'),
            'Library that computes, in training and reconstruction; a model runs on either.',
            BACKENDS,
            advanced=False,
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'accelerator', 'Accelerator'),
        ('PyTorchExecutionConfig.accelerator',),
        Row(
            *('Computer', 'choice', 'Compute on:'),
            'auto: a GPU where there is one, else the CPU.',
            ACCELERATORS,
            advanced=False,
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'refine_method', 'RefineMethod'),
        ('InferenceConfig.refine_method',),
        Row(
            *('More on reconstruction', 'choice', 'Refine by:'),
            'accelerated: fits the photon statistics, with momentum, and keeps the object smooth.\n'
            'rpie: regularised PIE, which begins to fit the noise sooner.',
            REFINE_METHODS,
        ),
        architecture='cnn',
    ),
    Setting(
        *('engine', 'refine_smoothing', 'RefineSmoothing'),
        ('InferenceConfig.refine_smoothing',),
        Row(
            *('More on reconstruction', 'decimal', 'Refine smoothing:'),
            'Total variation of the accelerated method, in units of the photon noise: more for smoother '
            'images. 0: none.',
            physics=True,
        ),
    ),
    Setting(
        *('engine', 'inference_batch_size', 'InferenceBatchSize'),
        ('InferenceConfig.batch_size',),
        Row(
            *('More on reconstruction', 'number', 'Patterns at a time:'),
            'Changes memory and speed, not the result. Halve it if the memory runs out.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('engine', 'more_training_data', 'MoreTrainingData'),
        row=Row(
            *('More on training', 'folders', 'And on:'),
            'More folders or files to train on in the same run, separated by semicolons: *.npz files of '
            '"Export Training Data", or diffraction.h5 with product.h5.\n'
            'All patterns must have one size.',
        ),
    ),
    Setting(
        *('training', 'batch_size', 'BatchSize'),
        ('TrainingConfig.batch_size',),
        Row(
            *('More on training', 'power of two', 'Batch size:'),
            'Patterns from which the network learns in one step. More are faster on a GPU; with fewer it '
            'learns more from each. Halve it if the memory runs out.',
        ),
    ),
    Setting(
        *('engine', 'learning_rate', 'LearningRate'),
        ('TrainingConfig.learning_rate',),
        Row(
            *('More on training', 'decimal', 'Learning rate:'),
            'Size of the largest step of the training; the prior takes a tenth of it. Lower it if the '
            'loss jumps.',
        ),
    ),
    Setting(
        *('engine', 'validation_fraction', 'ValidationFraction'),
        ('TrainingConfig.validation_fraction',),
        Row(
            *('More on training', 'fraction', 'Validation fraction:'),
            'Fraction of the patterns that the network never learns from, so that they can judge it. The '
            'prior is judged by pixels of all patterns, however large this is; 0: not at all.',
        ),
    ),
    Setting(
        *('engine', 'early_stop_patience', 'EarlyStopPatience'),
        ('TrainingConfig.early_stop_patience',),
        Row(
            *('More on training', 'number', 'Patience [epochs]:'),
            'Training ends after so many epochs in which what judges it was predicted no better; the best '
            'model is kept.',
        ),
    ),
    Setting(
        *('engine', 'seed', 'Seed'),
        ('TrainingConfig.seed', 'InferenceConfig.seed'),
        Row(
            *('More on training', 'number', 'Seed:'),
            'Start of all random choices: the same seed repeats a run.',
        ),
    ),
    Setting(
        *('training', 'nll_weight', 'NLLWeight'),
        ('TrainingConfig.nll_weight',),
        Row(
            *('What the network minimises', 'fraction', 'Photon statistics (NLL):'),
            'Weight of the Poisson deviance between predicted and measured counts, per pixel; it is 1 at '
            'the noise. The usual choice.',
        ),
        model_type='pinn',
    ),
    Setting(
        *('training', 'mae_weight', 'MAEWeight'),
        ('TrainingConfig.mae_weight',),
        Row(
            *('What the network minimises', 'fraction', 'Amplitude (MAE):'),
            'Weight of the mean error of the predicted diffraction amplitudes (roots of the counts).',
        ),
        model_type='pinn',
    ),
    Setting(
        *('training', 'realspace_mae_weight', 'RealspaceMAEWeight'),
        ('TrainingConfig.realspace_mae_weight',),
        Row(
            *('What the network minimises', 'fraction', 'Object (MAE):'),
            'Weight of the error against a known object; needs training data that hold one.',
        ),
        model_type='pinn',
    ),
    Setting(
        *('training', 'realspace_weight', 'RealspaceWeight'),
        ('TrainingConfig.realspace_weight',),
        Row(
            *('What the network minimises', 'fraction', 'Smoothness (TV):'),
            'Weight of the total variation of the object; smooths the image.',
        ),
        model_type='pinn',
    ),
    Setting(
        *('model', 'gridsize', 'GridSize'),
        ('ModelConfig.gridsize',),
        Row(
            *('More on the network', 'number', 'Grid size:'),
            'g × g neighbouring patterns are solved together, so that their overlap helps; at 1 each '
            'pattern by itself. Memory and time grow with g².',
        ),
    ),
    Setting(
        *('inference', 'n_nearest_neighbors', 'NumNearestNeighbors'),
        ('TrainingConfig.neighbor_count', 'InferenceConfig.neighbor_count'),
        Row(
            *('More on the network', 'number', 'Neighbours:'),
            'Of how many nearest positions the g × g patterns are drawn, at a grid size above 1.',
        ),
    ),
    Setting(
        *('model', 'n_filters_scale', 'NumFiltersScale'),
        ('ModelConfig.n_filters_scale',),
        Row(
            *('More on the network', 'number', 'Width:'), 'Twice the width takes about three times the time.'
        ),
        architecture='cnn',
    ),
    Setting(
        *('model', 'object_big', 'ObjectBig'),
        ('ModelConfig.object_big',),
        Row(
            *('More on the network', 'switch', 'Joint object:'),
            'Let neighbouring patterns, and in the end those of the whole scan, share one object.',
        ),
    ),
    Setting(
        *('training', 'probe_trainable', 'ProbeTrainable'),
        ('TrainingConfig.probe_trainable',),
        Row(
            *('More on the network', 'switch', 'Learn probe:'),
            'Learn a correction of the probe while training; the result has it.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('model', 'probe_mask', 'ProbeMask'),
        ('ModelConfig.probe_mask',),
        Row(
            *('More on the network', 'switch', 'Mask probe:'),
            "Remove the probe outside a disk of half the pattern's width.",
        ),
    ),
    Setting(
        *('model', 'gaussian_smoothing_sigma', 'GaussianSmoothingSigma'),
        ('ModelConfig.gaussian_smoothing_sigma',),
        Row(
            *('More on the network', 'decimal', 'Smooth probe [px]:'),
            'Standard deviation of a Gaussian that smooths the probe; 0 for none.',
        ),
    ),
    Setting(
        *('model', 'amp_activation', 'AmpActivation'),
        ('ModelConfig.amp_activation',),
        Row(
            *('Architecture cnn', 'choice', 'Amplitude activation:'),
            'sigmoid is bounded; softplus and relu are not negative; swish may fall below zero.',
            AMPLITUDE_ACTIVATIONS,
        ),
        architecture='cnn',
    ),
    Setting(
        *('model', 'probe_scale', 'ProbeScale'),
        ('ModelConfig.probe_scale',),
        Row(
            *('Architecture cnn', 'decimal', 'Amplitude range:'),
            'Largest amplitude of sigmoid, slope of the others, if the mean is 1; at least 2.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('model', 'pad_object', 'PadObject'),
        ('ModelConfig.pad_object',),
        Row(
            *('Architecture cnn', 'switch', 'Decode the centre:'),
            'Decode the central half of each patch in full and the rest coarsely: less work.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('model', 'probe_big', 'ProbeBig'),
        ('ModelConfig.probe_big',),
        Row(
            *('Architecture cnn', 'switch', 'Decode the outer part:'),
            'Predict the outer part of each patch too; otherwise it stays flat.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('training', 'intensity_scale_trainable', 'IntensityScaleTrainable'),
        ('TrainingConfig.intensity_scale_trainable',),
        Row(
            *('Architecture cnn', 'switch', 'Train intensity scale:'),
            'Learn one factor between predicted and measured counts.',
        ),
        architecture='cnn',
    ),
    Setting(
        *('engine', 'precision', 'Precision'),
        ('PyTorchExecutionConfig.precision',),
        Row(
            *('More on the computer', 'choice', 'Precision:'),
            'Number of bits of the network; the physics is in single precision, but in double with 64-true.',
            PRECISIONS,
            physics=True,
        ),
    ),
    Setting('training', 'nphotons', 'NumPhotons', idle=True),
    Setting('training', 'positions_provided', 'PositionsProvided', idle=True),
    Setting('inference', 'model_path', 'ModelPath'),
    Setting('inference', 'n_samples', 'NumSamples', idle=True),
)
"""All settings, in the order of the panel; then those that it has no row for."""

_OF_FIELD = {field: setting.full_name for setting in SETTINGS for field in setting.fields}


@cache
def settings_of(configuration: type) -> tuple[tuple[Setting, str], ...]:
    """Return the settings that fill fields of a configuration, each with the name of its field.

    Kept, for the window asks at every change of anything.
    """
    filled = ((setting, setting.fills(configuration)) for setting in SETTINGS)
    return tuple((setting, name) for setting, name in filled if name is not None)


@contextmanager
def setting_names() -> Iterator[None]:
    """Restate a :class:`ConfigError` in the names that a user of Ptychodus knows."""
    try:
        yield
    except ConfigError as error:
        sentence = re.sub(
            r'\b[A-Z]\w+Config\.\w+', lambda match: _OF_FIELD.get(match[0], match[0]), str(error)
        )
        raise ConfigError(f'Setting {sentence}') from error
