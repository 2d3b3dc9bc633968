"""The fields of the settings panel: words, units and tool tips. Knows no Qt."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from ptychodus.api.parameters import Parameter

from ptycho_engine.config.execution import ACCELERATORS, PRECISIONS
from ptycho_engine.config.inference import REFINE_METHODS
from ptycho_engine.config.model import AMPLITUDE_ACTIVATIONS, ARCHITECTURES
from ptycho_engine.config.training import BACKENDS

from .settings import START_FROM, TRAIN_ON, ReconstructorSettings

__all__ = ['FIELDS', 'Field', 'tool_tip']

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
        *('Data', 'choice', 'engine', 'train_on', 'Train on:'),
        'auto: the scans in the folder that "Train" asks for, or the current product if it holds none.\n'
        'product: the current product; the folder only takes the model. folder: the scans in the folder.\n'
        'simulation: no scan at all, but simulated objects under the probes, positions and photon levels of '
        'what the folder holds (product.h5 will do), or of the current product.',
        TRAIN_ON,
    ),
    Field(
        *('Data', 'folders', 'engine', 'more_training_data', 'And on:'),
        'More folders or files to train on in the same run, separated by semicolons: exported *.npz files, '
        'or diffraction.h5 with product.h5.\nAll patterns must have one size.',
    ),
    Field(
        *('Model', 'choice', 'engine', 'architecture', 'Architecture:'),
        'unrolled: steps of a classical solver, each corrected by a small network; knows the probe.\n'
        'cnn: the encoder and decoders of the first PtychoPINN; sees the patterns only.',
        ARCHITECTURES,
    ),
    Field(
        *('Model', 'number', 'model', 'gridsize', 'Grid size:'),
        'g × g neighbouring patterns are solved together, so that their overlap helps; at 1 each pattern by '
        'itself.\nMemory and time grow with g².',
    ),
    Field(
        *('Model', 'number', 'model', 'n_filters_scale', 'Filters scale:'),
        'Width of the network. Twice the width takes about three times the time.',
    ),
    Field(
        *('Model', 'number', 'engine', 'physics_steps', 'Physics steps:'),
        'Steps of "apply the measured modulus" alone before the network corrects anything. They are cheap.\n'
        'Only architecture unrolled.',
    ),
    Field(
        *('Model', 'number', 'engine', 'unrolled_steps', 'Unrolled steps:'),
        'Steps of "apply the measured modulus, then correct by a small CNN". Time grows in proportion. Only '
        'architecture unrolled.',
    ),
    Field(
        *('Model', 'switch', 'model', 'object_big', 'Merge groups:'),
        'Let the patterns of a group, and in the end of the whole scan, work on one object.',
    ),
    Field(
        *('Model', 'switch', 'training', 'probe_trainable', 'Learn probe:'),
        'Learn a correction of the probe while training; it goes into the product.',
    ),
    Field(
        *('Model', 'switch', 'model', 'probe_mask', 'Mask probe:'),
        "Remove the light of the probe outside a disk of half the pattern's width.",
    ),
    Field(
        *('Model', 'decimal', 'model', 'gaussian_smoothing_sigma', 'Smooth probe [px]:'),
        'Standard deviation of a Gaussian that smooths the probe; 0 for none.',
    ),
    Field(
        *('Only architecture cnn', 'choice', 'model', 'amp_activation', 'Amplitude activation:'),
        'sigmoid is bounded; softplus and relu are not negative; swish may fall below zero.',
        AMPLITUDE_ACTIVATIONS,
    ),
    Field(
        *('Only architecture cnn', 'decimal', 'model', 'probe_scale', 'Amplitude range:'),
        'Largest amplitude of sigmoid, slope of the others, if the mean is 1; at least 2.',
    ),
    Field(
        *('Only architecture cnn', 'switch', 'model', 'pad_object', 'Decode the centre:'),
        'Decode the central half of each patch in full and the rest coarsely: less work.',
    ),
    Field(
        *('Only architecture cnn', 'switch', 'model', 'probe_big', 'Decode the outer part:'),
        'Predict the outer part of each patch too; otherwise it stays flat.',
    ),
    Field(
        *('Only architecture cnn', 'switch', 'training', 'intensity_scale_trainable'),
        'Train intensity scale:',
        'Learn one factor between predicted and measured counts.',
    ),
    Field(
        *('Training', 'choice', 'engine', 'start_from', 'Start from:'),
        'scratch: fresh weights. model: the weights of the loaded model, which must be the same network.\n'
        'checkpoint: go on with the run that was stopped in the folder that "Train" asks for, as if it had '
        'never stopped.',
        START_FROM,
    ),
    Field(
        *('Training', 'number', 'engine', 'simulated_epochs', 'Simulated epochs first:'),
        'Before the measured patterns the network learns from simulated objects, whose truth is known, under '
        "the scan's own probe, positions, photon level and bad pixels.\nNot where it starts from a model. "
        '0: none.',
        model_type='pinn',
    ),
    Field(
        *('Training', 'number', 'training', 'nepochs', 'Epochs:'),
        'Passes over the chosen patterns. Training ends earlier when validation stops improving.',
    ),
    Field(
        *('Training', 'number', 'engine', 'n_groups', 'Patterns per epoch:'),
        'Drawn afresh for each epoch; groups of g × g patterns where the grid size g is above 1. 0: all.',
    ),
    Field(
        *('Training', 'power of two', 'training', 'batch_size', 'Batch size:'),
        'Patterns (or groups) per step. Larger batches are faster on a GPU; smaller ones learn more from '
        'each pattern.',
    ),
    Field(
        *('Training', 'decimal', 'engine', 'learning_rate', 'Learning rate:'),
        'Largest learning rate of AdamW. Lower it if the loss jumps.',
    ),
    Field(
        *('Training', 'fraction', 'engine', 'validation_fraction', 'Validation fraction:'),
        'Fraction of the patterns that is kept out of training and judges the model.',
    ),
    Field(
        *('Training', 'number', 'engine', 'early_stop_patience', 'Patience [epochs]:'),
        'Training ends after this many epochs without a better validation loss; the best model is kept.',
    ),
    Field(
        *('Training', 'number', 'engine', 'seed', 'Seed:'),
        'Of the initial weights and of the choice and order of patterns.',
    ),
    Field(
        *('Loss weights', 'fraction', 'training', 'nll_weight', 'Poisson (NLL):'),
        'Poisson deviance between predicted and measured counts, per pixel; 1 is at the noise. The usual '
        'choice.',
        model_type='pinn',
    ),
    Field(
        *('Loss weights', 'fraction', 'training', 'mae_weight', 'Amplitude (MAE):'),
        'Mean absolute error of the predicted diffraction amplitudes.',
        model_type='pinn',
    ),
    Field(
        *('Loss weights', 'fraction', 'training', 'realspace_mae_weight', 'Object (MAE):'),
        'Error against a known object; needs training data that hold one.',
        model_type='pinn',
    ),
    Field(
        *('Loss weights', 'fraction', 'training', 'realspace_weight', 'Smoothness (TV):'),
        'Total variation of the object; smooths the image.',
        model_type='pinn',
    ),
    Field(
        *('Inference', 'number', 'engine', 'inference_batch_size', 'Batch size:'),
        'Patterns (or groups) at a time. Changes memory and speed, not the result.',
    ),
    Field(
        *('Inference', 'number', 'inference', 'n_nearest_neighbors', 'Neighbours:'),
        'Nearest positions from which a group is drawn; used where the grid size is above 1, in '
        'training too.',
    ),
    Field(
        *('Inference', 'number', 'engine', 'refine_iterations', 'Refine [sweeps]:'),
        "Sweeps of physics over all patterns after the network, at most. The network's image and a flat one "
        'are both tried;\nwhat best predicts pixels that were not fitted is kept. 0: network only.',
    ),
    Field(
        *('Inference', 'choice', 'engine', 'refine_method', 'Refine by:'),
        'accelerated: Poisson likelihood with momentum and total variation.\n'
        'rpie: regularised PIE, which fits the noise sooner.',
        REFINE_METHODS,
    ),
    Field(
        *('Inference', 'decimal', 'engine', 'refine_smoothing', 'Refine smoothing:'),
        'Total variation of the accelerated method, in units of the photon noise. 0: none.',
    ),
    Field(
        *('Inference', 'switch', 'engine', 'refine_probe', 'Refine probe:'),
        'Change the probe too once one start has been chosen; the product gets the new one.\n'
        'A probe that is some way out of focus wants about 40 sweeps.',
    ),
    Field(
        *('Inference', 'switch', 'engine', 'refine_positions', 'Refine positions:'),
        'Change the scan positions too; the product gets the new ones.\n'
        'Errors of a pixel want about 60 sweeps.',
    ),
    Field(
        *('Device', 'choice', 'engine', 'backend', 'Backend:'),
        'Framework that trains and reconstructs; a model runs on either.',
        BACKENDS,
    ),
    Field(
        *('Device', 'choice', 'engine', 'accelerator', 'Compute on:'),
        'auto: a GPU where there is one, else the CPU.',
        ACCELERATORS,
    ),
    Field(
        *('Device', 'choice', 'engine', 'precision', 'Precision:'),
        'Arithmetic of the convolutions; the physics is in single precision, but in double with 64-true.',
        PRECISIONS,
    ),
)
"""All rows, in the order of the panel."""
