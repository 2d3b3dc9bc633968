"""What the training driver and the reconstruction ask of a backend."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..config import PyTorchExecutionConfig, TrainingConfig
from ..errors import BackendUnavailableError, ConfigError
from ..network.plan import NetworkPlan
from ..physics.groups import Optics
from ..physics.likelihood import ScanPatterns, ScanPhysics
from ..physics.operations import A, Operations

__all__ = [
    'AGC_SMALLEST_NORM',
    'FRAMEWORKS',
    'Backend',
    'Batch',
    'Illumination',
    'StepResult',
    'Weights',
    'create_backend',
    'why_unavailable',
]

AGC_SMALLEST_NORM = 1e-3
"""Norm that adaptive clipping takes for weights of a smaller one, so that zero weights can grow."""

FRAMEWORKS = {
    'pytorch': ('PyTorch', 'torch', 'pip install torch'),
    'tensorflow': ('TensorFlow', 'tensorflow', 'pip install "tensorflow>=2.21"'),
}
"""Title, package and install command of each backend's framework."""

Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Illumination:
    """The known probe of one scan in the engine's scale, its detector mask and its input scale.

    Compared by identity, so that a backend can keep what it derived from the last one.
    """

    probe: npt.NDArray[np.complex64]
    """(P, N, N) incoherent modes, in the square root of counts."""
    valid: npt.NDArray[np.bool_]
    """(N, N) True where the detector is to be trusted."""
    input_scale: float
    """Factor from measured amplitude to the input of 'cnn' (:class:`~..physics.scaling.ScaleRecord`)."""

    def on_device(self, ops: Operations[A], send: Callable[[npt.NDArray[Any]], A]) -> Optics[A]:
        """Return what a device needs of it; `send` puts an array there."""
        scale = send(np.array(self.input_scale))
        return Optics.of(ops, send(self.probe), send(self.valid), scale)


@dataclass(frozen=True)
class Batch:
    """B groups of C patterns of one scan."""

    illumination: Illumination
    """The scan's probe and detector mask."""

    amplitude: npt.NDArray[np.float32]
    """(B, C, N, N) measured amplitudes, the square root of counts, zero frequency at N//2. Bad pixels are
    filled from around them, for the input of 'cnn', and take no part in physics and losses."""
    corner: npt.NDArray[np.int64]
    """(B, C, 2) [row, column] of each patch on the object."""
    subpixel_shift: npt.NDArray[np.float32]
    """(B, C, 2) sub-pixel [dy, dx]."""
    extent: int
    """Side in pixels of a square that holds any group of the pass that the batch is part of. The common
    objects of 'prior' are sized from it, so that a group does not depend on those beside it."""
    labels: npt.NDArray[np.complex64] | None = None
    """(B, C, N, N) known object patches in the engine's scale."""
    looks: npt.NDArray[np.float32] | None = None
    """(K, B, F, side, side) the common object of each group as physics left it, seen at K levels of noise
    (:data:`~..network.denoiser.LOOKS`). What 'prior' makes of each is judged by itself."""
    truth: npt.NDArray[np.complex64] | None = None
    """(B, side, side) known object of each group's canvas; where there is one, it is the label of all that
    the scan lit, not of the group's own patches alone. Only with `looks`."""
    judged: npt.NDArray[np.bool_] | None = None
    """(B, C, N, N) pixels that losses of the patterns look at, zero frequency at N//2; None for all valid
    ones."""

    def __len__(self) -> int:
        return len(self.amplitude)


@dataclass(frozen=True)
class StepResult:
    """Losses of one batch, averaged over its groups."""

    loss: float
    """Weighted loss that training descends."""
    deviance: float
    """Poisson deviance per valid pixel."""


class PhysicsBackend(Protocol):
    """What computes the likelihood of scans."""

    def scan_physics(self, patterns: ScanPatterns) -> ScanPhysics:
        """Put the patterns of a scan on the device.

        The result agrees with :class:`~..physics.scan_likelihood.NumpyScanPhysics` to 1e-4 relative: it cuts
        patches on whole pixels, multiplies them by the probe shifted by each subpixel_shift, adds incoherent
        modes as intensities, leaves bad and held-out pixels out of the gradient, and sums held-out deviance
        in float64. Arrays it hands out support operators, ``.real``, ``.imag``, ``.sum()``, ``.max()``,
        ``.clip(min=array)`` and in-place addition to slices, which is all that :mod:`~..physics.descent`
        uses.
        """


class Backend(PhysicsBackend, Protocol):
    """A framework that runs a network plan with the engine's physics."""

    name: str

    def build(self, plan: NetworkPlan, weights: Weights) -> None:
        """Make the network from canonical weights."""

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""

    def train_step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Descend once along the gradient averaged over the groups of all `batches`.

        The order is: average, clip, decay of 'adam' and 'sgd', optimiser. The rules are those of
        ``specs/training.md`` (OPT-01 to OPT-06), the same numbers in every backend.
        """

    def evaluate(self, batch: Batch) -> StepResult:
        """Return the losses without learning."""

    def predict(self, batch: Batch) -> npt.NDArray[np.complex64]:
        """Return object patches (B, C, N, N) in the engine's scale."""

    def denoise(self, obj: Any, deviation: Any) -> Any:
        """Return the noise that a network of 'prior' sees in a whole object.

        Parameters
        ----------
        obj : (H, W) complex
            Sides are multiples of ``SIDE_MULTIPLE``. As :meth:`ScanPhysics.to_device` returns it, like the
            result.
        deviation : (H, W) float
            Standard deviation of the noise of each pixel: root of its mean squared modulus.

        Returns
        -------
        (H, W) complex
            To be subtracted.
        """

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the canonical weights, float64 in '64-true'."""

    def set_weights(self, weights: Weights) -> None:
        """Replace the weights; the optimiser goes on."""

    def optimiser_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers, to go on from later with the same backend.

        Names are ``<canonical weight name>/<quantity>``, and single words for what belongs to no weight;
        quantities and layouts are the backend's own. Going on must be exact: the next steps are those that
        would have followed.
        """

    def set_optimiser_state(self, state: Weights) -> None:
        """Go on from :meth:`optimiser_state`; :meth:`prepare_training` must have been called.

        Raises
        ------
        KeyError, ValueError, TypeError
            If it is not the state of such an optimiser for these weights.
        """

    def close(self) -> None:
        """End what the backend has started; it is of no use afterwards. May be called twice."""


def why_unavailable(name: str) -> str | None:
    """Return a sentence on why a backend cannot be selected; None where its framework is installed.

    Imports nothing.
    """
    title, package, install = FRAMEWORKS[name]
    try:
        found = importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        found = False
    return None if found else f'{title} backend selected but {package} is not installed; run: {install}'


def create_backend(name: str, execution: PyTorchExecutionConfig | None = None) -> Backend:
    """Return the backend of that name; the framework is imported here.

    Raises
    ------
    BackendUnavailableError
        If the framework is not installed or does not work. There is no fallback to another one.
    ConfigError
        If there is no backend of that name.
    """
    if name not in FRAMEWORKS:
        raise ConfigError(f'There is no backend {name!r}; choose {" or ".join(map(repr, FRAMEWORKS))}.')
    reason = why_unavailable(name)
    if reason:
        raise BackendUnavailableError(reason)
    if name == 'pytorch':
        # GNU OpenMP reads this once, when torch is loaded. Its threads wait for each other in a busy loop, so
        # that one more program on the machine makes everything several times slower; with so short a wait it
        # hardly does, and a quiet machine takes up to 1.3 times as long.
        os.environ.setdefault('GOMP_SPINCOUNT', '1000')
    try:
        module = importlib.import_module(f'.{name}', __package__)
    except ImportError as error:
        title, package, install = FRAMEWORKS[name]
        raise BackendUnavailableError(
            f'{title} backend selected but {package} cannot be loaded ({error}); run: {install}'
        ) from error
    backend: Backend = module.make_backend(execution or PyTorchExecutionConfig())
    return backend
