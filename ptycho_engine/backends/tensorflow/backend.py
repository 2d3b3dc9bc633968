"""The TensorFlow backend: network, physics, optimiser and devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...config import PyTorchExecutionConfig, TrainingConfig
from ...network.denoiser import LOOKS
from ...network.plan import NetworkPlan
from ...physics.groups import Optics
from ...physics.operations import NumpyArray, Operations
from ..base import Batch, StepResult
from ..losses import GroupBatch, LossWeights, batch_losses, group_patches
from ..network_backend import NetworkBackend
from .devices import make_strategy, set_determinism
from .network import PtychographyNetwork, real_type
from .operations import TensorFlowDevice, first_axis_open, given, make_graph
from .optimiser import Optimiser

__all__ = ['TensorFlowBackend']


class TensorFlowBackend(NetworkBackend[Any, NumpyArray, PtychographyNetwork, Optimiser]):
    """Runs a network plan in TensorFlow; several devices share each batch."""

    name = 'tensorflow'

    def __init__(self, execution: PyTorchExecutionConfig) -> None:
        self._execution = execution
        self._strategy, self._place = make_strategy(execution.accelerator, execution.devices)
        self._real = real_type(execution.precision)
        super().__init__(TensorFlowDevice(self._place, self._real))
        self._graphs: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def build(self, plan: NetworkPlan, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Make the network from canonical weights."""
        set_determinism(self._execution.deterministic)
        with tf.device(self._place), self._strategy.scope():
            network = PtychographyNetwork(plan, self._execution.precision)
            network.load_canonical(weights)
        self._network = network
        self._optimiser = None
        self._graphs.clear()

    def prepare_training(self, config: TrainingConfig) -> None:
        """Make the optimiser and the losses."""
        self._weights = LossWeights.of(config)
        with tf.device(self._place):
            self._optimiser = Optimiser(
                self.network.named_canonical(),
                config,
                self._strategy,
                scale_loss=self._execution.precision == '16-mixed',
            )
        # Those that look at the losses; the others serve every stage of a run.
        for key in [key for key in self._graphs if key[0] in (self._gradient, self._mean_losses)]:
            del self._graphs[key]

    def train_step(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Descend once along the gradient averaged over the groups of all `batches`."""
        optimiser = self._prepared_optimiser
        total = sum(len(batch) for batch in batches)
        gradient: list[tf.Tensor] = []
        mean_loss = mean_fit = 0.0
        for batch in batches:
            share = len(batch) / total
            factor = self._device.send(np.array(share * optimiser.loss_scale))
            loss, fit, part = self._run(self._gradient, batch, factor)
            gradient = [a + b for a, b in zip(gradient, part, strict=True)] if gradient else part
            mean_loss += share * float(loss)
            mean_fit += share * float(fit)
        optimiser.step(gradient, learning_rate)
        return StepResult(mean_loss, mean_fit)

    def _evaluated(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        losses: tuple[tf.Tensor, tf.Tensor] = self._run(self._mean_losses, batch)
        return losses

    def _predicted(self, batch: Batch) -> tf.Tensor:
        return self._run(self._patches, batch, bare=True)

    def denoise(
        self, obj: npt.NDArray[np.complexfloating[Any, Any]], deviation: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.complexfloating[Any, Any]]:
        """Return the noise (H, W) that the prior sees in an object (H, W)."""
        images = tuple(self._device.send(image[np.newaxis]) for image in (obj, deviation))
        kinds = tuple(tf.TensorSpec((1, None, None), image.dtype) for image in images)
        noise = self._graph(self._noise, images, kinds)
        return np.asarray(noise.numpy()[0], dtype=obj.dtype)

    def _noise(self, _: Operations[Any], obj: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
        return self.network.noise(obj, deviation)

    def _run(
        self, function: Callable[..., Any], batch: Batch, *arguments: tf.Tensor, bare: bool = False
    ) -> Any:
        """Run a function of a batch and optics as a graph, which does not depend on the size of the batch."""
        with tf.device(self._place):
            sent, optics = self._sent(batch, bare=bare)
            all_arguments = (sent, optics, *arguments)
            specs = tf.nest.map_structure(first_axis_open, all_arguments)
            kinds = specs[0]._replace(
                looks=tuple(tf.TensorSpec((None, len(LOOKS), None, None), look.dtype) for look in sent.looks)
            )
            if sent.truth is not None:
                kinds = kinds._replace(truth=tf.TensorSpec((None, None, None), sent.truth.dtype))
            return self._graph(function, all_arguments, (kinds, *specs[1:]))

    def _graph(self, function: Callable[..., Any], arguments: tuple[Any, ...], specs: tuple[Any, ...]) -> Any:
        """Return a function of tensors of these kinds, run as a graph that is made once."""
        key = (function, specs)
        with tf.device(self._place):
            if key not in self._graphs:
                self._graphs[key] = make_graph(function, specs)
            return self._graphs[key](*given(arguments))

    def _gradient(
        self, ops: Operations[Any], batch: GroupBatch[Any], optics: Optics[Any], factor: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Return (loss, deviance), averaged over patterns, and the gradient of the loss times `factor`."""
        variables = [variable for _, variable in self.network.named_canonical()]

        def on_device(
            piece: GroupBatch[Any], share: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                loss, fit = batch_losses(ops, self.network, self._weights, piece, optics)
                scaled = loss * (share * factor)
            gradient = tape.gradient(scaled, variables, unconnected_gradients='zero')
            return share * loss, share * fit, gradient

        sums: tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]] = self._sum_over_devices(on_device, batch)
        return sums

    def _mean_losses(
        self, ops: Operations[Any], batch: GroupBatch[Any], optics: Optics[Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (weighted loss, deviance), averaged over patterns."""

        def on_device(piece: GroupBatch[Any], share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            loss, fit = batch_losses(ops, self.network, self._weights, piece, optics)
            return share * loss, share * fit

        sums: tuple[tf.Tensor, tf.Tensor] = self._sum_over_devices(on_device, batch)
        return sums

    def _patches(self, ops: Operations[Any], batch: GroupBatch[Any], optics: Optics[Any]) -> tf.Tensor:
        """Return object patches (B, C, N, N)."""

        def on_device(piece: GroupBatch[Any], share: tf.Tensor) -> tf.Tensor:
            # A device without a group of its own was given another's.
            patches = group_patches(ops, self.network, piece, optics)
            return patches[: tf.where(share > 0, tf.shape(piece.amplitude)[0], 0)]

        results = self._strategy.run(self._on_share(on_device), args=(batch,))
        return tf.concat(self._strategy.experimental_local_results(results), axis=0)

    def _sum_over_devices(self, on_device: Callable[..., Any], batch: GroupBatch[Any]) -> Any:
        results = self._strategy.run(self._on_share(on_device), args=(batch,))
        return tf.nest.map_structure(
            lambda value: self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None), results
        )

    def _on_share(self, on_device: Callable[..., Any]) -> Callable[[GroupBatch[Any]], Any]:
        """Give each device its share of the groups, at least one, and the fraction of all that it is."""
        devices = self._strategy.num_replicas_in_sync
        if devices == 1:
            return lambda batch: on_device(batch, tf.ones((), self._real))

        def run(batch: GroupBatch[Any]) -> Any:
            context = tf.distribute.get_replica_context()
            groups = tf.shape(batch.amplitude)[0]
            start = context.replica_id_in_sync_group * groups // devices
            stop = (context.replica_id_in_sync_group + 1) * groups // devices
            share = tf.cast(stop - start, self._real) / tf.cast(groups, self._real)

            def part(values: tf.Tensor | None) -> tf.Tensor | None:
                if values is None or values.shape.rank == 0:
                    return values
                return values[start : tf.maximum(stop, start + 1)]

            with tf.device('/CPU:0'):
                piece = tf.nest.map_structure(part, batch)
            return on_device(piece, share)

        return run
