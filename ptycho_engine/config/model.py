"""What the network is."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import ConfigError
from .checks import check_boolean, check_choice, check_integer, check_number

__all__ = [
    'AMPLITUDE_ACTIVATIONS',
    'ARCHITECTURES',
    'MODEL_TYPES',
    'OF_OBJECTS',
    'SIZE_MULTIPLE',
    'SMALLEST_SIZE',
    'ModelConfig',
    'fits_network',
]

SMALLEST_SIZE, SIZE_MULTIPLE = 32, 8
"""Sides of the patterns that networks are for: at least the first, and a multiple of the second."""

ARCHITECTURES = ('prior', 'cnn')
"""Networks that can be trained on scans."""
OF_OBJECTS = ('prior', 'physics')
"""What works on the object of a scan with patterns of any size: the learned prior of objects, and nothing but
physics, which has no weights."""
REMOVED = 'unrolled'
"""The networks of version 0.1, in whose place the prior is."""
MODEL_TYPES = ('pinn', 'supervised')
AMPLITUDE_ACTIVATIONS = ('sigmoid', 'swish', 'softplus', 'relu')

MOST_PIXELS = 10_000
"""More than any pattern has; a filter of such a width fills the memory."""

_ONLY_CNN = ('amp_activation', 'probe_big', 'pad_object', 'probe_scale')
"""Fields that mean something to 'cnn' alone."""


def fits_network(side: int) -> bool:
    """Return whether patterns of `side` pixels on a side are of a size that networks are for."""
    return side >= SMALLEST_SIZE and side % SIZE_MULTIPLE == 0


@dataclass(frozen=True)
class ModelConfig:
    """The network, the size of what it sees, and the illumination it assumes.

    Raises
    ------
    ConfigError
        If a value is out of range, or a field that only another architecture has is changed.
    """

    N: int = 0
    """Side of a diffraction pattern in pixels for 'cnn': a multiple of 8 from 32 up, or 0 for "as in the
    data". The prior works on the object, whatever the size of the patterns, and leaves it at 0."""
    gridsize: int = 1
    """A group holds gridsize² overlapping patterns, from 1 to 5, which train together. Larger groups cost
    more memory."""
    n_filters_scale: int = 2
    """Multiplies the width of every layer of 'cnn', from 1 to 4. Twice the width costs about three times the
    time."""
    model_type: str = 'pinn'
    """'pinn': learn from the diffraction patterns alone. 'supervised': learn from known objects."""
    architecture: str = 'prior'
    """'prior': a denoiser of objects that takes part in the solver; training goes on from the one that comes
    with the package. 'cnn': PtychoPINN's encoder with two decoders, which sees the patterns only; for
    comparison. 'physics', which is not trained, has no network."""
    object_big: bool = True
    """Let the patterns of a group share one object. False leaves each pattern of 'cnn' its own patch; the
    prior always learns on one, and False lets known patches differ in phase. Of no effect at gridsize 1."""
    amp_activation: str = 'sigmoid'
    """Amplitude head: 'sigmoid' is bounded by probe_scale, 'softplus' and 'relu' are not negative, 'swish'
    may fall a little below zero. Each is shifted to give 1 for a zero input. Only 'cnn'."""
    probe_big: bool = True
    """Predict the outer part of each patch too; False leaves it flat. With pad_object. Only 'cnn'."""
    pad_object: bool = True
    """Decode the central N/2 pixels and pad them, a quarter of the work; False decodes all N. Only 'cnn'."""
    probe_scale: float = 4.0
    """Range of the amplitude head, at least 2: the largest amplitude of 'sigmoid' and the slope of the
    others, where the mean amplitude of the object is about 1. Only 'cnn'."""
    probe_mask: bool = False
    """Multiply the probe by a disk with a soft edge, which removes light far from its centre."""
    probe_mask_diameter: float | None = None
    """Diameter of that disk in pixels; None for N/2."""
    probe_mask_sigma: float = 1.0
    """Width in pixels of the disk's edge (standard deviation of a Gaussian); 0 for a hard edge."""
    gaussian_smoothing_sigma: float = 0.0
    """Smooth the probe by a Gaussian of this standard deviation in pixels; 0 for none."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_integer(owner, 'N', self.N, 0)
        if self.N != 0 and self.architecture == 'cnn':
            check_integer(owner, 'N', self.N, SMALLEST_SIZE)
            if not fits_network(self.N):
                raise ConfigError(
                    f'{owner}.N is {self.N}; expected a multiple of {SIZE_MULTIPLE} from {SMALLEST_SIZE} up. '
                    'Crop or pad the patterns.'
                )
        check_integer(owner, 'gridsize', self.gridsize, 1, 5)
        check_integer(owner, 'n_filters_scale', self.n_filters_scale, 1, 4)
        check_choice(owner, 'model_type', self.model_type, MODEL_TYPES)
        if self.architecture == REMOVED:
            raise ConfigError(
                f'{owner}.architecture is {REMOVED!r}, the network of version 0.1, which is no more; leave '
                f'it at {ARCHITECTURES[0]!r}, which needs no training and gives better images.'
            )
        check_choice(owner, 'architecture', self.architecture, (*ARCHITECTURES, *OF_OBJECTS))
        check_choice(owner, 'amp_activation', self.amp_activation, AMPLITUDE_ACTIVATIONS)
        for name in ('object_big', 'probe_big', 'pad_object', 'probe_mask'):
            check_boolean(owner, name, getattr(self, name))
        check_number(owner, 'probe_scale', self.probe_scale, 2, MOST_PIXELS)
        if self.probe_mask_diameter is not None:
            check_number(
                owner, 'probe_mask_diameter', self.probe_mask_diameter, 0, MOST_PIXELS, exclusive=True
            )
        check_number(owner, 'probe_mask_sigma', self.probe_mask_sigma, 0, MOST_PIXELS)
        check_number(owner, 'gaussian_smoothing_sigma', self.gaussian_smoothing_sigma, 0, MOST_PIXELS)
        self._check_idle_fields()

    @property
    def of_objects(self) -> bool:
        """Whether it works on the object of a scan with patterns of any size."""
        return self.architecture in OF_OBJECTS

    def _check_idle_fields(self) -> None:
        """Refuse a changed field that would have no effect."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in () if self.architecture == 'cnn' else _ONLY_CNN:
            if getattr(self, name) != defaults[name]:
                raise ConfigError(
                    f"ModelConfig.{name} is {getattr(self, name)!r}, but only the architecture 'cnn' has it; "
                    f"leave it at {defaults[name]!r} or choose 'cnn'."
                )
        if not self.probe_mask and (
            self.probe_mask_diameter is not None or self.probe_mask_sigma != defaults['probe_mask_sigma']
        ):
            raise ConfigError(
                'ModelConfig.probe_mask_diameter and probe_mask_sigma describe the mask of the probe, which '
                'is off; set probe_mask to True.'
            )
        if not self.pad_object and not self.probe_big:
            raise ConfigError(
                'ModelConfig.probe_big is False, but without pad_object the whole patch is decoded and there '
                'is no outer part to leave out; set pad_object to True.'
            )
