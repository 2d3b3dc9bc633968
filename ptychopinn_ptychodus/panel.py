"""The settings panel of PtychoPINN in the window. Imported only where the window is."""

from __future__ import annotations

import logging
from typing import Any

from ptychodus.controller.processing import ReconstructorViewControllerFactory
from ptychodus.controller.ptychopinn import PtychoPINNViewControllerFactory
from PyQt5.QtWidgets import QWidget

from ptycho_engine.backends.base import why_unavailable
from ptycho_engine.config.execution import ACCELERATORS, PRECISIONS
from ptycho_engine.config.inference import REFINE_METHODS
from ptycho_engine.config.model import AMPLITUDE_ACTIVATIONS, ARCHITECTURES
from ptycho_engine.config.training import BACKENDS

from .compat import parameter_views
from .library import PtychoPINNLibrary

__all__ = ['PanelFactory']

logger = logging.getLogger('ptychopinn')


class PanelFactory(ReconstructorViewControllerFactory):
    """Makes the panel of each of our algorithms; on any error Ptychodus' own panel is shown."""

    def __init__(self, model: Any, file_dialog_factory: Any) -> None:
        super().__init__()
        self._model = model
        self._file_dialog_factory = file_dialog_factory
        self._built_in = PtychoPINNViewControllerFactory(model, file_dialog_factory)

    @property
    def name(self) -> str:
        """The library that the panel belongs to."""
        return self._built_in.name

    def create_view_controller(self, reconstructor_name: str) -> QWidget:
        """Return the panel of 'pinn' or 'supervised'."""
        try:
            return _build(self._model, self._file_dialog_factory, reconstructor_name.casefold())
        except Exception as error:  # noqa: BLE001  the window must open
            logger.warning('Ptychodus shows its own PtychoPINN panel (%s: %s).', type(error).__name__, error)
            return self._built_in.create_view_controller(reconstructor_name)


def _build(library: PtychoPINNLibrary, file_dialog_factory: Any, model_type: str) -> QWidget:
    views = parameter_views()
    builder = views.ParameterViewBuilder(file_dialog_factory)
    _add_model(builder, library)
    _add_cnn(builder, library)
    _add_training(builder, views, library)
    if model_type == 'pinn':
        _add_losses(builder, library)
    _add_inference(builder, library)
    _add_device(builder, library)
    widget: QWidget = builder.build_widget()
    return widget


def _add_model(builder: Any, library: PtychoPINNLibrary) -> None:
    group = 'Model'
    builder.add_combo_box(
        library.engine_settings.architecture,
        ARCHITECTURES,
        'Architecture:',
        tool_tip='unrolled: steps of a classical solver, each corrected by a small network; knows the probe. '
        'cnn: the encoder and decoders of the first PtychoPINN; sees the patterns only.',
        group=group,
    )
    builder.add_spin_box(
        library.model_settings.gridsize,
        'Grid size:',
        tool_tip='g × g neighbouring patterns are solved together, so that their overlap helps. 1: each '
        'pattern by itself. Memory and time grow with g².',
        group=group,
    )
    builder.add_spin_box(
        library.model_settings.n_filters_scale,
        'Filters scale:',
        tool_tip='Width of the network. Twice the width takes about three times the time.',
        group=group,
    )
    builder.add_spin_box(
        library.engine_settings.unrolled_steps,
        'Unrolled steps:',
        tool_tip='Steps of "apply the measured modulus, then correct by a small CNN". Time grows in '
        'proportion; 3 is a good start. Only unrolled.',
        group=group,
    )
    builder.add_check_box(
        library.model_settings.object_big,
        'Merge groups:',
        tool_tip='Make the patches of a group agree where they overlap. No effect at grid size 1.',
        group=group,
    )
    builder.add_check_box(
        library.training_settings.probe_trainable,
        'Refine probe:',
        tool_tip='Learn a correction of the probe while training; it goes into the product.',
        group=group,
    )
    builder.add_check_box(
        library.model_settings.probe_mask,
        'Mask probe:',
        tool_tip="Remove the light of the probe outside a disk of half the pattern's width.",
        group=group,
    )
    builder.add_decimal_line_edit(
        library.model_settings.gaussian_smoothing_sigma,
        'Smooth probe [px]:',
        tool_tip='Standard deviation of a Gaussian that smooths the probe; 0 for none.',
        group=group,
    )


def _add_cnn(builder: Any, library: PtychoPINNLibrary) -> None:
    group = 'Only architecture cnn'
    settings = library.model_settings
    builder.add_combo_box(
        settings.amp_activation,
        AMPLITUDE_ACTIVATIONS,
        'Amplitude activation:',
        tool_tip='sigmoid is bounded; softplus and relu are not negative; swish may fall below zero.',
        group=group,
    )
    builder.add_decimal_line_edit(
        settings.probe_scale,
        'Amplitude range:',
        tool_tip='Largest amplitude of sigmoid, slope of the others, if the mean is 1; at least 2.',
        group=group,
    )
    builder.add_check_box(
        settings.pad_object,
        'Decode the centre:',
        tool_tip='Decode the central half of each patch in full and the rest coarsely: less work.',
        group=group,
    )
    builder.add_check_box(
        settings.probe_big,
        'Decode the outer part:',
        tool_tip='Predict the outer part of each patch too; otherwise it stays flat.',
        group=group,
    )
    builder.add_check_box(
        library.training_settings.intensity_scale_trainable,
        'Train intensity scale:',
        tool_tip='Learn one factor between predicted and measured counts.',
        group=group,
    )


def _add_training(builder: Any, views: Any, library: PtychoPINNLibrary) -> None:
    group = 'Training'
    engine = library.engine_settings
    builder.add_spin_box(
        library.training_settings.nepochs,
        'Epochs:',
        tool_tip='Passes over the chosen patterns. Training ends earlier when validation stops improving.',
        group=group,
    )
    builder.add_spin_box(
        engine.n_groups,
        'Patterns per epoch:',
        tool_tip='Drawn afresh for each epoch; groups of g × g patterns where the grid size g is above 1. '
        '0: all.',
        group=group,
    )
    builder.add_view_controller(
        views.PowerTwoSpinBoxParameterViewController(
            library.training_settings.batch_size, tool_tip='Patterns (or groups) per step.'
        ),
        'Batch size:',
        group=group,
    )
    builder.add_decimal_line_edit(
        engine.learning_rate,
        'Learning rate:',
        tool_tip='Largest learning rate of AdamW. Lower it if the loss jumps.',
        group=group,
    )
    builder.add_decimal_slider(
        engine.validation_fraction,
        'Validation fraction:',
        tool_tip='Fraction of the patterns that is kept out of training and judges the model.',
        group=group,
    )
    builder.add_spin_box(
        engine.early_stop_patience,
        'Patience [epochs]:',
        tool_tip='Training ends after this many epochs without a better validation loss; the best model '
        'is kept.',
        group=group,
    )
    builder.add_spin_box(
        engine.seed,
        'Seed:',
        tool_tip='Of the initial weights and of the choice and order of patterns.',
        group=group,
    )


def _add_losses(builder: Any, library: PtychoPINNLibrary) -> None:
    group = 'Loss weights'
    settings = library.training_settings
    builder.add_decimal_slider(
        settings.nll_weight,
        'Poisson (NLL):',
        tool_tip='Poisson deviance between predicted and measured counts, per pixel; 1 is at the noise. '
        'The usual choice.',
        group=group,
    )
    builder.add_decimal_slider(
        settings.mae_weight,
        'Amplitude (MAE):',
        tool_tip='Mean absolute error of the predicted diffraction amplitudes.',
        group=group,
    )
    builder.add_decimal_slider(
        settings.realspace_mae_weight,
        'Object (MAE):',
        tool_tip='Error against a known object; needs training data that hold one.',
        group=group,
    )
    builder.add_decimal_slider(
        settings.realspace_weight,
        'Smoothness (TV):',
        tool_tip='Total variation of the object; smooths the image.',
        group=group,
    )


def _add_inference(builder: Any, library: PtychoPINNLibrary) -> None:
    group = 'Inference'
    builder.add_spin_box(
        library.engine_settings.inference_batch_size,
        'Batch size:',
        tool_tip='Patterns (or groups) at a time. Changes memory and speed, not the result.',
        group=group,
    )
    builder.add_spin_box(
        library.inference_settings.n_nearest_neighbors,
        'Neighbours:',
        tool_tip='Nearest positions from which a group is drawn; used where the grid size is above 1, in '
        'training too.',
        group=group,
    )
    builder.add_spin_box(
        library.engine_settings.refine_iterations,
        'Refine [sweeps]:',
        tool_tip="Sweeps of physics over all patterns after the network, at most. The network's image and a "
        'flat one are both tried; what best predicts pixels that were not fitted is kept. 0: network only.',
        group=group,
    )
    builder.add_combo_box(
        library.engine_settings.refine_method,
        REFINE_METHODS,
        'Refine by:',
        tool_tip='accelerated: Poisson likelihood with momentum and total variation. rpie: regularised PIE, '
        'which fits the noise sooner.',
        group=group,
    )
    builder.add_decimal_line_edit(
        library.engine_settings.refine_smoothing,
        'Refine smoothing:',
        tool_tip='Total variation of the accelerated method, in units of the photon noise. 0: none.',
        group=group,
    )


def _add_device(builder: Any, library: PtychoPINNLibrary) -> None:
    group = 'Device'
    backend = library.engine_settings.backend
    missing = {name: why for name in BACKENDS if (why := why_unavailable(name))}
    # What a settings file asks for is shown, installed or not.
    offered = [name for name in BACKENDS if name not in missing or name == backend.get_value()]
    builder.add_combo_box(
        backend,
        offered,
        'Backend:',
        tool_tip='\n'.join(
            ['Framework that trains and reconstructs; a model runs on either.', *missing.values()]
        ),
        group=group,
    )
    builder.add_combo_box(
        library.engine_settings.accelerator,
        ACCELERATORS,
        'Compute on:',
        tool_tip='auto: a GPU where there is one, else the CPU.',
        group=group,
    )
    builder.add_combo_box(
        library.engine_settings.precision,
        PRECISIONS,
        'Precision:',
        tool_tip='Arithmetic of the convolutions; the physics is always in single precision.',
        group=group,
    )
