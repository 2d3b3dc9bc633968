"""The fields of the settings panel: words, units and tool tips. Knows no Qt."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from ptychodus.api.parameters import Parameter

from ptycho_engine.config.execution import ACCELERATORS, PRECISIONS
from ptycho_engine.config.inference import AUTO, OFF, ON, REFINE_METHODS
from ptycho_engine.config.model import AMPLITUDE_ACTIVATIONS, ARCHITECTURES
from ptycho_engine.config.training import BACKENDS

from .settings import START_FROM, TRAIN_ON, ReconstructorSettings

__all__ = ['FIELDS', 'TIP_WIDTH', 'Field', 'tool_tip']

TIP_WIDTH = 100

Kind = Literal['number', 'decimal', 'fraction', 'power of two', 'switch', 'choice', 'folders']


@dataclass(frozen=True)
class Field:
    """One row of the panel."""

    group: str
    kind: Kind
    owner: str
    """Group of settings: model, training, inference or engine."""
    attribute: str
    label: str
    tip: str
    items: tuple[str, ...] = ()
    """What a choice offers."""
    model_type: str = ''
    """The algorithm that has it, 'pinn' or 'supervised'; empty for both."""
    physics: bool = False
    """Whether physics alone has it too."""
    architecture: str = ''
    """The architecture that has it, 'cnn'; empty for both. Another does not show it."""
    advanced: bool = True
    """Whether it is under *Advanced*, out of sight until that is opened."""

    def belongs_to(self, algorithm: str) -> bool:
        """Return whether the panel of 'pinn', 'supervised' or 'physics' shows it."""
        return self.physics if algorithm == 'physics' else self.model_type in ('', algorithm)

    def parameter(self, settings: ReconstructorSettings) -> Parameter[Any]:
        """Return the setting that the row shows."""
        parameter: Parameter[Any] = getattr(getattr(settings, self.owner), self.attribute)
        return parameter


def tool_tip(field: Field, settings: ReconstructorSettings, defaults: ReconstructorSettings) -> str:
    """Return the tool tip of a field: what it means, then its limits and default."""
    text = f'{field.tip}\n{_range(field, settings, defaults)}'
    # Qt does not wrap a tool tip by itself.
    return '\n'.join(textwrap.fill(line, TIP_WIDTH) for line in text.splitlines())


def _range(field: Field, settings: ReconstructorSettings, defaults: ReconstructorSettings) -> str:
    parameter, default = field.parameter(settings), field.parameter(defaults).get_value()
    if isinstance(default, bool):
        return f'Default: {"on" if default else "off"}.'
    if isinstance(default, str):
        return f'Default: {default or "none"}.'
    limits = [getattr(parameter, name)() for name in ('get_minimum', 'get_maximum')]
    low, high = (None if limit is None else f'{limit:g}' for limit in limits)
    if low is not None and high is not None:
        return f'From {low} to {high}; default {default:g}.'
    if low is not None:
        return f'At least {low}; default {default:g}.'
    return f'Default: {default:g}.'


FIELDS = (
    Field(
        *('Reconstruction', 'number', 'engine', 'refine_iterations', 'Refine [iterations]:'),
        "Iterations over all patterns that fit the network's image to the measured counts, at most. A flat "
        'start is tried too;\nwhat best predicts pixels that were not fitted is kept. 0: the image of the '
        'network alone.',
        advanced=False,
        architecture='cnn',
    ),
    Field(
        *('Reconstruction', 'choice', 'engine', 'calibrate', 'Calibrate:'),
        'Without a trained network: correct the probe, its modes, positions, intensities, background and '
        'bad pixels. The result has the new probe and positions; log and comments tell what was found.\n'
        'auto: where the image does not explain the patterns. on: in any case. off: never.\n'
        'What does not predict held-out pixels better is left as it is.',
        (AUTO, OFF, ON),
        advanced=False,
        physics=True,
    ),
    Field(
        *('Reconstruction', 'switch', 'engine', 'refine_probe', 'Refine probe:'),
        'Correct the probe too; the result has the new one.\n'
        'A probe that is some way out of focus wants about 40 iterations.',
        advanced=False,
        physics=True,
    ),
    Field(
        *('Reconstruction', 'switch', 'engine', 'refine_positions', 'Refine positions:'),
        'Correct the scan positions too; the result has the new ones.\n'
        'Errors of a pixel want about 60 iterations.',
        advanced=False,
        physics=True,
    ),
    Field(
        *('Training', 'choice', 'engine', 'train_on', 'Train on:'),
        'auto: the scan in the folder that "Train" asks for, or the chosen product if that folder holds '
        'none. '
        'Where it holds another scan than the chosen product, you are asked.\n'
        'product: the chosen product; the folder only takes the model. folder: the scans in the folder.\n'
        'simulation: no measured pattern, but simulated objects with the probe, positions and photons of the '
        'product, or of a product.h5 in the folder.',
        TRAIN_ON,
        advanced=False,
    ),
    Field(
        *('Training', 'choice', 'engine', 'start_from', 'Start from:'),
        'scratch: the learned prior that comes with PtychoPINN, or for the architecture cnn a fresh network. '
        'model: the loaded model, trained further.\n'
        'checkpoint: go on with a training that was stopped, in its folder, as if it had never stopped.',
        START_FROM,
        advanced=False,
    ),
    Field(
        *('Training', 'number', 'training', 'nepochs', 'Epochs:'),
        'How often the network sees the patterns of an epoch, at most. Training ends earlier when patterns, '
        'or pixels, that were kept out of it are predicted no better.',
        advanced=False,
    ),
    Field(
        *('Training', 'number', 'engine', 'n_groups', 'Patterns per epoch:'),
        'Drawn anew for each epoch (so many sets of g × g patterns at a grid size g above 1). 0: all.',
        advanced=False,
    ),
    Field(
        *('Network', 'choice', 'engine', 'architecture', 'Architecture:'),
        'prior: a network that knows what objects look like and takes part in the solver, for patterns of '
        'any size. It needs no training; training adapts it to a scan, and keeps it as it is where that '
        'gains nothing.\n'
        'cnn: the encoder and decoders of the first PtychoPINN; sees the patterns only.',
        ARCHITECTURES,
        advanced=False,
    ),
    Field(
        *('Computer', 'choice', 'engine', 'backend', 'Backend:'),
        'Library that computes, in training and reconstruction; a model runs on either.',
        BACKENDS,
        advanced=False,
        physics=True,
    ),
    Field(
        *('Computer', 'choice', 'engine', 'accelerator', 'Compute on:'),
        'auto: a GPU where there is one, else the CPU.',
        ACCELERATORS,
        advanced=False,
        physics=True,
    ),
    Field(
        *('More on reconstruction', 'choice', 'engine', 'refine_method', 'Refine by:'),
        'accelerated: fits the photon statistics of the counts, with momentum, and keeps the object smooth.\n'
        'rpie: regularised PIE, which begins to fit the noise sooner.',
        REFINE_METHODS,
        architecture='cnn',
    ),
    Field(
        *('More on reconstruction', 'decimal', 'engine', 'refine_smoothing', 'Refine smoothing:'),
        'Total variation of the accelerated method, in units of the photon noise: more for smoother images. '
        '0: none.',
        physics=True,
    ),
    Field(
        *('More on reconstruction', 'number', 'engine', 'inference_batch_size', 'Patterns at a time:'),
        'Changes memory and speed, not the result. Halve it if the memory runs out.',
        architecture='cnn',
    ),
    Field(
        *('More on training', 'folders', 'engine', 'more_training_data', 'And on:'),
        'More folders or files to train on in the same run, separated by semicolons: *.npz files of "Export '
        'Training Data", or diffraction.h5 with product.h5.\nAll patterns must have one size.',
    ),
    Field(
        *('More on training', 'power of two', 'training', 'batch_size', 'Batch size:'),
        'Patterns from which the network learns in one step. More are faster on a GPU; with fewer it learns '
        'more from each. Halve it if the memory runs out.',
    ),
    Field(
        *('More on training', 'decimal', 'engine', 'learning_rate', 'Learning rate:'),
        'Size of the largest step of the training; the prior takes a tenth of it. Lower it if the loss '
        'jumps.',
    ),
    Field(
        *('More on training', 'fraction', 'engine', 'validation_fraction', 'Validation fraction:'),
        'Fraction of the patterns that the network never learns from, so that they can judge it. The prior '
        'is judged by pixels of all patterns, however large this is; 0: not at all.',
    ),
    Field(
        *('More on training', 'number', 'engine', 'early_stop_patience', 'Patience [epochs]:'),
        'Training ends after so many epochs in which what judges it was predicted no better; the best model '
        'is kept.',
    ),
    Field(
        *('More on training', 'number', 'engine', 'seed', 'Seed:'),
        'Start of all random choices: the same seed repeats a run.',
    ),
    Field(
        *('What the network minimises', 'fraction', 'training', 'nll_weight', 'Photon statistics (NLL):'),
        'Weight of the Poisson deviance between predicted and measured counts, per pixel; it is 1 at the '
        'noise. '
        'The usual choice.',
        model_type='pinn',
    ),
    Field(
        *('What the network minimises', 'fraction', 'training', 'mae_weight', 'Amplitude (MAE):'),
        'Weight of the mean error of the predicted diffraction amplitudes (roots of the counts).',
        model_type='pinn',
    ),
    Field(
        *('What the network minimises', 'fraction', 'training', 'realspace_mae_weight', 'Object (MAE):'),
        'Weight of the error against a known object; needs training data that hold one.',
        model_type='pinn',
    ),
    Field(
        *('What the network minimises', 'fraction', 'training', 'realspace_weight', 'Smoothness (TV):'),
        'Weight of the total variation of the object; smooths the image.',
        model_type='pinn',
    ),
    Field(
        *('More on the network', 'number', 'model', 'gridsize', 'Grid size:'),
        'g × g neighbouring patterns are solved together, so that their overlap helps; at 1 each pattern by '
        'itself.\nMemory and time grow with g².',
    ),
    Field(
        *('More on the network', 'number', 'inference', 'n_nearest_neighbors', 'Neighbours:'),
        'Out of how many nearest positions the g × g patterns are drawn. Matters at a grid size above 1 '
        'only.',
    ),
    Field(
        *('More on the network', 'number', 'model', 'n_filters_scale', 'Width:'),
        'Twice the width takes about three times the time.',
        architecture='cnn',
    ),
    Field(
        *('More on the network', 'switch', 'model', 'object_big', 'Joint object:'),
        'Let neighbouring patterns, and in the end those of the whole scan, share one object.',
    ),
    Field(
        *('More on the network', 'switch', 'training', 'probe_trainable', 'Learn probe:'),
        'Learn a correction of the probe while training; the result has it.',
        architecture='cnn',
    ),
    Field(
        *('More on the network', 'switch', 'model', 'probe_mask', 'Mask probe:'),
        "Remove the probe outside a disk of half the pattern's width.",
    ),
    Field(
        *('More on the network', 'decimal', 'model', 'gaussian_smoothing_sigma', 'Smooth probe [px]:'),
        'Standard deviation of a Gaussian that smooths the probe; 0 for none.',
    ),
    Field(
        *('Architecture cnn', 'choice', 'model', 'amp_activation', 'Amplitude activation:'),
        'sigmoid is bounded; softplus and relu are not negative; swish may fall below zero.',
        AMPLITUDE_ACTIVATIONS,
        architecture='cnn',
    ),
    Field(
        *('Architecture cnn', 'decimal', 'model', 'probe_scale', 'Amplitude range:'),
        'Largest amplitude of sigmoid, slope of the others, if the mean is 1; at least 2.',
        architecture='cnn',
    ),
    Field(
        *('Architecture cnn', 'switch', 'model', 'pad_object', 'Decode the centre:'),
        'Decode the central half of each patch in full and the rest coarsely: less work.',
        architecture='cnn',
    ),
    Field(
        *('Architecture cnn', 'switch', 'model', 'probe_big', 'Decode the outer part:'),
        'Predict the outer part of each patch too; otherwise it stays flat.',
        architecture='cnn',
    ),
    Field(
        *('Architecture cnn', 'switch', 'training', 'intensity_scale_trainable', 'Train intensity scale:'),
        'Learn one factor between predicted and measured counts.',
        architecture='cnn',
    ),
    Field(
        *('More on the computer', 'choice', 'engine', 'precision', 'Precision:'),
        'Number of bits of the network; the physics is in single precision, but in double with 64-true.',
        PRECISIONS,
        physics=True,
    ),
)
"""All rows, in the order of the panel."""
