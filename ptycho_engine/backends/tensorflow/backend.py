"""The TensorFlow backend: network, physics, optimiser and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...network.denoiser import LOOKS
from ...network.plan import NetworkPlan
from ...physics.likelihood import ScanPatterns
from ..base import Batch, Illumination, StepResult
from ..losses import LossWeights
from . import physics
from .devices import make_strategy, set_determinism
from .likelihood import TensorFlowScanPhysics
from .network import CnnNetwork, Exposure, PriorNetwork, PtychographyNetwork, make_network, real_type
from .optimiser import Optimiser

__all__ = ['TensorFlowBackend']


class _Graph(NamedTuple):
    """What a compiled function is for."""

    what: str
    """'gradient', 'losses', 'patches' or 'noise'."""
    size: int = 0
    """Side of a pattern in pixels."""
    modes: int = 0
    labelled: bool = False
    looks: int = 0
    """Levels of noise that are judged by themselves."""
    truth: bool = False
    judged: bool = False


class _Patterns(NamedTuple):
    """A batch as it enters a graph."""

    amplitude: tf.Tensor
    """(B, C, N, N) zero frequency at N//2."""
    corner: tf.Tensor
    remainder: tf.Tensor
    side: tf.Tensor
    """() of the canvas of a group."""
    labels: tuple[tf.Tensor, ...]
    """One tensor, or none where the batch has no labels."""
    looks: tuple[tf.Tensor, ...]
    """(B, F, side, side) the objects at each level of noise, or none of 'cnn'."""
    truth: tuple[tf.Tensor, ...]
    """(B, side, side) complex, or none."""
    judged: tuple[tf.Tensor, ...]
    """(B, C, N, N) bool, zero frequency at N//2; none for all good pixels."""


class TensorFlowBackend:
    """Runs a network plan in TensorFlow; several devices share each batch."""

    name = 'tensorflow'

    def __init__(self, execution: PyTorchExecutionConfig) -> None:
        self._execution = execution
        self._strategy, self._device = make_strategy(execution.accelerator, execution.devices)
        self._real = real_type(execution.precision)
        self._complex = physics.complex_type(self._real)
        self._network: PtychographyNetwork | None = None
        self._optics: tuple[Illumination, physics.Optics] | None = None
        self._optimiser: Optimiser | None = None
        self._weights = LossWeights.of(TrainingConfig())
        self._graphs: dict[_Graph, Callable[..., Any]] = {}

    @property
    def network(self) -> PtychographyNetwork:
        """The network; :meth:`build` must have been called."""
        if self._network is None:
            raise RuntimeError('build() must be called first')
        return self._network

    def build(self, plan: NetworkPlan, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Make the network from canonical weights."""
        set_determinism(self._execution.deterministic)
        with tf.device(self._device), self._strategy.scope():
            network = make_network(plan, self._execution.precision)
            network.load_canonical(weights)
        self._network = network
        self._optimiser = None
        self._graphs.clear()

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""
        self._weights = LossWeights.of(config)
        with tf.device(self._device):
            self._optimiser = Optimiser(
                self.network.named_canonical(),
                config,
                self._strategy,
                scale_loss=self._execution.precision == '16-mixed',
            )
        # Those that look at the losses; the others serve every stage of a run.
        for key in [key for key in self._graphs if key.what in ('gradient', 'losses')]:
            del self._graphs[key]

    @property
    def _prepared_optimiser(self) -> Optimiser:
        if self._optimiser is None:
            raise RuntimeError('prepare_training() must be called first')
        return self._optimiser

    def train_step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Descend once along the gradient averaged over the groups of all `batches`."""
        optimiser = self._prepared_optimiser
        total = sum(len(batch) for batch in batches)
        gradient: list[tf.Tensor] = []
        mean_loss = mean_fit = 0.0
        for batch in batches:
            share = len(batch) / total
            loss, fit, part = self._run('gradient', batch, self._numbers(share * optimiser.loss_scale))
            gradient = [a + b for a, b in zip(gradient, part, strict=True)] if gradient else part
            mean_loss += share * float(loss)
            mean_fit += share * float(fit)
        optimiser.step(gradient, learning_rate)
        return StepResult(mean_loss, mean_fit)

    def evaluate(self, batch: Batch) -> StepResult:
        """Return the losses without learning."""
        loss, fit = self._run('losses', batch)
        return StepResult(float(loss), float(fit))

    def predict(self, batch: Batch) -> npt.NDArray[np.complex64]:
        """Return object patches (B, C, N, N) in the engine's gauge."""
        return np.asarray(self._run('patches', batch).numpy(), dtype=np.complex64)

    def denoise(
        self, obj: npt.NDArray[np.complexfloating[Any, Any]], deviation: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.complexfloating[Any, Any]]:
        """Return the noise (H, W) that the prior sees in an object (H, W)."""
        network = self.network
        assert isinstance(network, PriorNetwork)
        key = _Graph('noise')
        if key not in self._graphs:
            kinds = (self._complex, self._real)
            images = [tf.TensorSpec((1, None, None), kind) for kind in kinds]
            self._graphs[key] = tf.function(network.noise, input_signature=images, autograph=False)
        with tf.device(self._device):
            noise = self._graphs[key](
                tf.constant(obj[np.newaxis], self._complex), self._numbers(deviation[np.newaxis])
            )
        return np.asarray(noise.numpy()[0], dtype=obj.dtype)

    def scan_physics(self, patterns: ScanPatterns) -> TensorFlowScanPhysics:
        """Put the patterns of a scan on the device, for refinement."""
        return TensorFlowScanPhysics(patterns, self._device, self._real)

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of the canonical weights."""
        return self.network.canonical_weights()

    def set_weights(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Replace the weights; the optimiser goes on."""
        self.network.load_canonical(weights)

    def optimiser_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers."""
        return self._prepared_optimiser.state()

    def set_optimiser_state(self, state: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Go on from :meth:`optimiser_state`."""
        self._prepared_optimiser.set_state(state)

    def close(self) -> None:
        """Nothing is held beyond the memory of this object."""

    def _run(self, what: str, batch: Batch, *arguments: tf.Tensor) -> Any:
        """Run the graph of that name on a batch; graphs do not depend on the size of the batch."""
        labels, looks, truth, judged = batch.labels, batch.looks, batch.truth, batch.judged
        if what == 'patches':
            labels = looks = truth = judged = None
        key = _Graph(
            what,
            size=batch.amplitude.shape[-1],
            modes=len(batch.illumination.probe),
            labelled=labels is not None,
            looks=0 if looks is None else len(looks),
            truth=truth is not None,
            judged=judged is not None,
        )
        if key not in self._graphs:
            self._graphs[key] = self._compile(key)
        with tf.device(self._device):
            patterns = _Patterns(
                amplitude=self._numbers(batch.amplitude),
                corner=tf.constant(batch.corner.astype(np.int32)),
                remainder=self._numbers(batch.remainder),
                side=tf.constant(self.network.plan.canvas_side(batch.extent)),
                labels=() if labels is None else (tf.cast(labels, self._complex),),
                looks=() if looks is None else tuple(map(self._numbers, looks)),
                truth=() if truth is None else (tf.cast(truth, self._complex),),
                judged=() if judged is None else (tf.constant(judged),),
            )
            return self._graphs[key](patterns, self._optics_of(batch.illumination), *arguments)

    def _numbers(self, values: npt.NDArray[np.float32] | float) -> tf.Tensor:
        """Return numbers as a tensor in the precision of the physics."""
        return tf.constant(np.asarray(values, self._real.as_numpy_dtype))

    def _optics_of(self, illumination: Illumination) -> physics.Optics:
        """Return the illumination on the device; batches of one scan share it."""
        if self._optics is None or self._optics[0] is not illumination:
            optics = physics.Optics.of(
                tf.cast(illumination.probe, self._complex),
                tf.constant(illumination.good),
                illumination.input_scale,
            )
            self._optics = illumination, optics
        return self._optics[1]

    def _compile(self, key: _Graph) -> Callable[..., Any]:
        """Return a function of patterns and optics as a graph for any number of groups."""
        channels, size = self.network.plan.channels, key.size
        images = (None, channels, size, size)
        patterns = _Patterns(
            amplitude=tf.TensorSpec(images, self._real),
            corner=tf.TensorSpec((None, channels, 2), tf.int32),
            remainder=tf.TensorSpec((None, channels, 2), self._real),
            side=tf.TensorSpec((), tf.int32),
            labels=(tf.TensorSpec(images, self._complex),) if key.labelled else (),
            looks=(tf.TensorSpec((None, len(LOOKS), None, None), self._real),) * key.looks,
            truth=(tf.TensorSpec((None, None, None), self._complex),) if key.truth else (),
            judged=(tf.TensorSpec(images, tf.bool),) if key.judged else (),
        )
        number = tf.TensorSpec((), self._real)
        optics = physics.Optics(
            probe=tf.TensorSpec((key.modes, size, size), self._complex),
            good=tf.TensorSpec((size, size), tf.bool),
            brightest=number,
            input_scale=number,
        )
        function, extra = {
            'gradient': (self._gradient, [number]),
            'losses': (self._mean_losses, []),
            'patches': (self._patches, []),
        }[key.what]
        graph: Callable[..., Any] = tf.function(
            function, input_signature=[patterns, optics, *extra], autograph=False
        )
        return graph

    def _gradient(
        self, patterns: _Patterns, optics: physics.Optics, factor: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Return (loss, deviance), averaged over patterns, and the gradient of the loss times `factor`."""
        variables = [variable for _, variable in self.network.named_canonical()]

        def on_device(piece: _Patterns, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                loss, fit = self._losses(piece, optics)
                scaled = loss * (share * factor)
            gradient = tape.gradient(scaled, variables, unconnected_gradients='zero')
            return share * loss, share * fit, gradient

        sums: tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]] = self._sum_over_devices(on_device, patterns)
        return sums

    def _mean_losses(self, patterns: _Patterns, optics: physics.Optics) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (weighted loss, deviance), averaged over patterns."""

        def on_device(piece: _Patterns, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            loss, fit = self._losses(piece, optics)
            return share * loss, share * fit

        sums: tuple[tf.Tensor, tf.Tensor] = self._sum_over_devices(on_device, patterns)
        return sums

    def _patches(self, patterns: _Patterns, optics: physics.Optics) -> tf.Tensor:
        """Return object patches (B, C, N, N)."""

        def on_device(piece: _Patterns, share: tf.Tensor) -> tf.Tensor:
            # A device without a group of its own was given another's.
            patches = self._forward(piece, *self._measured(piece, optics), optics)
            return patches[: tf.where(share > 0, tf.shape(piece.amplitude)[0], 0)]

        results = self._strategy.run(self._on_share(on_device), args=(patterns,))
        return tf.concat(self._strategy.experimental_local_results(results), axis=0)

    def _sum_over_devices(self, on_device: Callable[..., Any], patterns: _Patterns) -> Any:
        results = self._strategy.run(self._on_share(on_device), args=(patterns,))
        return tf.nest.map_structure(
            lambda value: self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None), results
        )

    def _on_share(self, on_device: Callable[..., Any]) -> Callable[[_Patterns], Any]:
        """Give each device its share of the groups, at least one, and the fraction of all that it is."""
        devices = self._strategy.num_replicas_in_sync
        if devices == 1:
            return lambda patterns: on_device(patterns, tf.ones((), self._real))

        def run(patterns: _Patterns) -> Any:
            context = tf.distribute.get_replica_context()
            groups = tf.shape(patterns.amplitude)[0]
            start = context.replica_id_in_sync_group * groups // devices
            stop = (context.replica_id_in_sync_group + 1) * groups // devices
            share = tf.cast(stop - start, self._real) / tf.cast(groups, self._real)
            with tf.device('/CPU:0'):
                piece = tf.nest.map_structure(
                    lambda values: (
                        values[start : tf.maximum(stop, start + 1)] if values.shape.rank else values
                    ),
                    patterns,
                )
            return on_device(piece, share)

        return run

    def _measured(self, patterns: _Patterns, optics: physics.Optics) -> tuple[tf.Tensor, tf.Tensor]:
        """Return measured amplitudes (B, C, N, N) with zero frequency first, and shifted probes."""
        amplitude = tf.signal.ifftshift(patterns.amplitude, axes=physics.PIXELS)
        remainder = tf.reshape(patterns.remainder, [-1, 2])
        return amplitude, physics.shift_probe(self.network.probe(optics), remainder)

    def _forward(
        self, patterns: _Patterns, amplitude: tf.Tensor, probes: tf.Tensor, optics: physics.Optics
    ) -> tf.Tensor:
        """Return patches (B, C, N, N)."""
        assert isinstance(self.network, CnnNetwork)
        return self.network(Exposure(amplitude, probes, patterns.corner, optics))

    def _losses(self, patterns: _Patterns, optics: physics.Optics) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (weighted loss, deviance per pixel), averaged over patterns.

        Of a prior the mean over the levels of noise of the loss, and the deviance at the last of them.
        """
        amplitude, probes = self._measured(patterns, optics)
        if not patterns.looks:
            patches = self._forward(patterns, amplitude, probes, optics)
            return self._losses_of(patches, patterns, amplitude, probes, optics)
        assert isinstance(self.network, PriorNetwork)
        canvas = physics.Canvas(patterns.corner, patterns.amplitude.shape[-1], patterns.side)
        labels = self._weights.labels
        loss = tf.zeros((), self._real)
        for look in patterns.looks:
            seen = dict(zip(LOOKS, tf.unstack(look, axis=1), strict=True))
            noisy = tf.complex(seen['object_real'], seen['object_imag'])
            obj = noisy - self.network.noise(noisy, seen['deviation'])
            own, fit = self._losses_of(canvas.cut_complex(obj), patterns, amplitude, probes, optics)
            if patterns.truth and labels > 0:
                light = physics.lit_part(seen['light'])
                error = physics.label_error(
                    obj[:, tf.newaxis], patterns.truth[0][:, tf.newaxis], light[:, tf.newaxis]
                )
                own += labels * tf.reduce_mean(error)
            loss += own / len(patterns.looks)
        return loss, fit

    def _losses_of(
        self,
        patches: tf.Tensor,
        patterns: _Patterns,
        amplitude: tf.Tensor,
        probes: tf.Tensor,
        optics: physics.Optics,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (weighted loss, deviance per pixel) of patches (B, C, N, N), averaged over patterns."""
        size = patterns.amplitude.shape[-1]
        patches = tf.reshape(patches, [-1, size, size])
        amplitude = tf.reshape(amplitude, [-1, size, size])
        good = optics.good
        if patterns.judged:
            judged = tf.reshape(patterns.judged[0], [-1, size, size])
            good = tf.logical_and(good, tf.signal.ifftshift(judged, axes=physics.PIXELS))
        counts = tf.square(amplitude)
        rate = physics.mode_intensity(physics.far_field(patches, probes))
        rate = rate * tf.square(self.network.amplitude_factor(rate))
        fit = physics.deviance(counts, rate, good)
        loss = tf.zeros((), self._real)
        illumination = tf.stop_gradient(physics.mode_intensity(probes))
        weights = self._weights
        if weights.likelihood > 0:
            mask = tf.cast(good, self._real)
            per_pixel = tf.reduce_sum(counts * mask, axis=physics.PIXELS)
            per_pixel /= tf.reduce_sum(mask, axis=physics.PIXELS)
            loss += weights.likelihood * tf.reduce_mean(fit / (1 + per_pixel))
        if weights.amplitude > 0:
            error = physics.amplitude_error(amplitude, rate, good)
            loss += weights.amplitude * tf.reduce_mean(error)
        if patterns.labels and not patterns.truth and weights.labels > 0:
            # Patches that share an object share its phase.
            channels = self.network.plan.channels if self.network.plan.merges else 1
            shape = [-1, channels, size, size]
            light = physics.label_weight(
                tf.reshape(illumination, shape), tf.reshape(patterns.corner, [-1, channels, 2]), optics
            )
            labels = tf.reshape(patterns.labels[0], shape)
            error = physics.label_error(tf.reshape(patches, shape), labels, light)
            loss += weights.labels * tf.reduce_mean(error)
        if weights.variation > 0:
            variation = physics.total_variation(patches, illumination)
            loss += weights.variation * tf.reduce_mean(variation)
        return loss, tf.reduce_mean(fit)
