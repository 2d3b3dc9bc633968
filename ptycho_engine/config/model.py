"""What the network is."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import check_choice, check_integer

__all__ = ['ARCHITECTURES', 'MODEL_TYPES', 'ModelConfig']

ARCHITECTURES = ('unrolled',)
MODEL_TYPES = ('pinn', 'supervised')


@dataclass(frozen=True)
class ModelConfig:
    """The network and the size of what it sees."""

    N: int = 0
    """Side of a diffraction pattern in pixels: a multiple of 8 from 32 up, or 0 for "as in the data"."""
    gridsize: int = 1
    """A group holds gridsize² overlapping patterns, whose patches are merged and cut again between the
    steps of the network, from 1 (no coupling) to 5. Larger groups couple more and cost more memory."""
    n_filters_scale: int = 2
    """Multiplies the width of every layer, from 1 to 4. Twice the width costs about three times the time."""
    model_type: str = 'pinn'
    """'pinn': learn from the diffraction patterns alone. 'supervised': learn from known objects."""
    architecture: str = 'unrolled'
    """'unrolled': steps of modulus constraint with the known probe, each corrected by a small CNN."""
    unrolled_steps: int = 3
    """Steps of the unrolled network, from 1 to 12. Time grows in proportion."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.N != 0:
            check_integer(owner, 'N', self.N, 32)
            if self.N % 8:
                from ..errors import ConfigError

                raise ConfigError(
                    f'{owner}.N is {self.N}; expected a multiple of 8 from 32 up. Crop or pad the patterns.'
                )
        check_integer(owner, 'gridsize', self.gridsize, 1, 5)
        check_integer(owner, 'n_filters_scale', self.n_filters_scale, 1, 4)
        check_integer(owner, 'unrolled_steps', self.unrolled_steps, 1, 12)
        check_choice(owner, 'model_type', self.model_type, MODEL_TYPES)
        check_choice(owner, 'architecture', self.architecture, ARCHITECTURES)
