"""How a trained network is applied."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .checks import check_boolean, check_choice, check_integer, check_number
from .training import BACKENDS

__all__ = ['CALIBRATED_PARTS', 'REFINE_METHODS', 'InferenceConfig']

REFINE_METHODS = ('accelerated', 'rpie')

CALIBRATED_PARTS = ('bad_pixels', 'background', 'intensities', 'probe', 'modes', 'positions')
"""What a scan can correct of its own experiment."""

AUTO, OFF, ON = 'auto', 'off', 'on'


@dataclass(frozen=True)
class InferenceConfig:
    """Reconstruction of a scan."""

    backend: str = 'pytorch'
    """Framework that runs the network; an archive runs on any of them."""
    batch_size: int = 64
    """Groups per prediction; memory grows in proportion. The object of a group is as wide as the widest group
    of its batch needs, which shows at the rim of its patches alone."""
    neighbor_count: int = 7
    """Neighbours from which a group is drawn when the model's gridsize > 1."""
    seed: int = 0
    """Seed of the groups when the model's gridsize > 1, of the pixels that judge a refinement, and of the
    order in which it takes the patterns."""
    n_subsample: int | None = None
    """Use this many of the patterns only, chosen at random; None for all."""
    subsample_seed: int | None = None
    """Seed of that choice; None for `seed`."""
    use_groups_cache: bool = True
    """Keep the neighbours of the scan in a file beside it, for the next run, when gridsize > 1."""

    refine_iterations: int = 25
    """Iterations of physics over all patterns after the network, at most; 0 leaves the network's image. Both
    the network's image and a flat one are tried as a start, and what best predicts pixels that were not
    fitted is kept."""
    refine_method: str = 'accelerated'
    """'accelerated': Poisson likelihood, momentum, total variation. 'rpie': regularised PIE, which fits the
    noise sooner."""
    refine_smoothing: float = 0.12
    """Total variation of 'accelerated' in units of the photon noise; 0 for none."""
    refine_probe: bool = False
    """Refine the probe beside the object of a trained network, once one start has been chosen; one some way
    out of focus wants about 40 refine_iterations. Without such a network: 'probe' in `calibrate`."""
    refine_positions: bool = False
    """Refine the positions beside the object of a trained network, by at most an eighth of a pattern; errors
    of a pixel want about 60 refine_iterations. Without such a network: 'positions' in `calibrate`."""

    calibrate: str = AUTO
    """What a reconstruction without a network of scans corrects of the experiment: 'auto' looks at every part
    where the image does not explain the patterns, 'on' in any case, 'off' at none, or parts with commas:
    bad_pixels, background, intensities, probe, modes, positions. Held-out pixels decide what is kept."""

    @property
    def calibrated_parts(self) -> tuple[str, ...]:
        """The parts that are looked at, those of `refine_probe` and `refine_positions` among them."""
        asked = [name for name in ('probe', 'positions') if getattr(self, f'refine_{name}')]
        words = [word.strip() for word in self.calibrate.split(',')]
        if words in ([AUTO], [ON]):
            return CALIBRATED_PARTS
        asked += [word for word in words if word != OFF]
        return tuple(part for part in CALIBRATED_PARTS if part in asked)

    @property
    def calibrates_anyway(self) -> bool:
        """Whether parts were asked for, so that they are looked at where the image explains the patterns."""
        return self.calibrate not in (AUTO, OFF) or self.refine_probe or self.refine_positions

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_parts(owner, self.calibrate)
        check_choice(owner, 'backend', self.backend, BACKENDS)
        check_integer(owner, 'batch_size', self.batch_size, 1)
        check_integer(owner, 'neighbor_count', self.neighbor_count, 1)
        check_integer(owner, 'seed', self.seed, 0)
        check_boolean(owner, 'use_groups_cache', self.use_groups_cache)
        check_integer(owner, 'refine_iterations', self.refine_iterations, 0)
        check_choice(owner, 'refine_method', self.refine_method, REFINE_METHODS)
        check_number(owner, 'refine_smoothing', self.refine_smoothing, 0, 10)
        check_boolean(owner, 'refine_probe', self.refine_probe)
        check_boolean(owner, 'refine_positions', self.refine_positions)
        for name in ('refine_probe', 'refine_positions'):
            if getattr(self, name) and self.refine_iterations == 0:
                raise ConfigError(
                    f'{owner}.{name} is given with refine_iterations = 0, which refines nothing; set '
                    'refine_iterations, 60 for example.'
                )
        if self.n_subsample is not None:
            check_integer(owner, 'n_subsample', self.n_subsample, 1)
        if self.subsample_seed is not None:
            check_integer(owner, 'subsample_seed', self.subsample_seed, 0)
            if self.n_subsample is None:
                raise ConfigError(
                    f'{owner}.subsample_seed is given without n_subsample; say how many patterns to take.'
                )


def check_parts(owner: str, calibrate: str) -> None:
    """Check the names of parts that are to be calibrated.

    Raises
    ------
    ConfigError
        If one is unknown.
    """
    if not isinstance(calibrate, str):
        raise ConfigError(
            f'{owner}.calibrate must be text, not {calibrate!r}; choose auto, off, on or parts.'
        )
    words = [word.strip() for word in calibrate.split(',')]
    known = words in ([AUTO], [OFF], [ON]) or all(word in CALIBRATED_PARTS for word in words)
    if not known:
        raise ConfigError(
            f'{owner}.calibrate is {calibrate!r}; expected auto, off, on, or some of '
            f'{", ".join(CALIBRATED_PARTS)} with commas.'
        )
