"""What a network makes of a batch and how it is judged, the same for every backend (LOSS-*, NET-*).

Functions over a table of operations; see ``physics/operations.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..network.cnn import amplitude_offset
from ..network.denoiser import LOOKS
from ..network.plan import NetworkPlan
from ..physics.forward import PIXELS, deviance_per_pixel, far_field, shift_probe, total_intensity
from ..physics.groups import Canvas, Optics, corrected_probe, group_window, label_weight, merge_and_cut
from ..physics.losses import amplitude_error, label_error, lit_part, total_variation
from ..physics.operations import A, Operations
from .base import Batch

__all__ = ['GroupBatch', 'LossWeights', 'TrainableNetwork', 'batch_losses', 'group_patches']


@dataclass(frozen=True)
class LossWeights:
    """Weight of each term of the loss; a term of weight 0 is not computed."""

    likelihood: float
    """Of the Poisson deviance, divided by 1 + counts per pixel: it grows with the dose, and is then of order
    1 at any dose."""
    amplitude: float
    """Of the mean absolute error of the predicted amplitudes."""
    labels: float
    """Of the error against known patches, where the batch has them."""
    variation: float
    """Of the total variation of the patches."""

    @classmethod
    def of(cls, config: TrainingConfig) -> LossWeights:
        """Return the weights of a configuration; 'supervised' looks at the labels alone."""
        if config.model.model_type == 'supervised':
            return cls(0.0, 0.0, 1.0, 0.0)
        return cls(config.nll_weight, config.mae_weight, config.realspace_mae_weight, config.realspace_weight)


class GroupBatch(NamedTuple, Generic[A]):
    """A :class:`~.base.Batch` on a device: B groups of C patterns."""

    amplitude: A
    """(B, C, N, N) measured, zero frequency at N//2."""
    start: A
    """(B, C, 2) [row, column] of each patch on the canvas of its group."""
    subpixel_shift: A
    """(B, C, 2)."""
    side: Any
    """Of the canvas."""
    labels: A | None
    """(B, C, N, N) complex."""
    looks: tuple[A, ...]
    """(B, F, side, side) the objects at each level of noise; none of 'cnn'."""
    truth: A | None
    """(B, side, side) complex."""
    judged: A | None
    """(B, C, N, N) bool, zero frequency at N//2; None for all valid pixels."""

    @classmethod
    def sent(
        cls,
        batch: Batch,
        plan: NetworkPlan,
        send: Callable[[npt.NDArray[Any]], A],
        count: Callable[[int], Any],
        *,
        bare: bool = False,
    ) -> GroupBatch[A]:
        """Return a batch on a device; without what only losses need if `bare`.

        `send` puts an array there, and `count` returns the length of an axis as its functions take it.
        """

        def optional(values: npt.NDArray[Any] | None) -> A | None:
            return None if values is None or bare else send(values)

        start = batch.corner - batch.corner.min(axis=1, keepdims=True)
        if plan.model.of_objects:
            side = plan.canvas_side(batch.extent)
        else:
            side = int(start.max(initial=0)) + batch.amplitude.shape[-1]
        looks = () if batch.looks is None or bare else tuple(map(send, batch.looks))
        return cls(
            amplitude=send(batch.amplitude),
            start=send(start),
            subpixel_shift=send(batch.subpixel_shift),
            side=count(side),
            labels=optional(batch.labels),
            looks=looks,
            truth=optional(batch.truth),
            judged=optional(batch.judged),
        )


class TrainableNetwork(Protocol[A]):
    """A network of either architecture, in a framework."""

    plan: NetworkPlan

    @property
    def probe_correction(self) -> A | None:
        """(P, N, N, 2) trained correction of the probe."""

    @property
    def log_scale(self) -> A | None:
        """(1,) logarithm of the factor between measured and predicted amplitudes."""

    def activated(self, values: A) -> A:
        """Return the activation of the amplitude of 'cnn'."""

    def logits(self, amplitude: A) -> tuple[A, A]:
        """Return amplitude and phase (B, C, N, N) before the last activations, of 'cnn'."""

    def noise(self, obj: A, deviation: A) -> A:
        """Return the noise (B, H, W) of complex objects with a standard deviation (B, H, W), of 'prior'."""


def probes_of(ops: Operations[A], network: TrainableNetwork[A], batch: GroupBatch[A], optics: Optics[A]) -> A:
    """Return the probe (B*C, P, N, N), as trained, at the sub-pixel shift of each pattern."""
    probe = corrected_probe(ops, optics, network.probe_correction)
    return shift_probe(ops, probe, ops.reshape(batch.subpixel_shift, (-1, 2)))


def group_patches(
    ops: Operations[A], network: TrainableNetwork[A], batch: GroupBatch[A], optics: Optics[A]
) -> A:
    """Return what 'cnn' makes of the patterns: object patches (B, C, N, N)."""
    return _patches(ops, network, batch, optics, probes_of(ops, network, batch, optics))


def _patches(
    ops: Operations[A], network: TrainableNetwork[A], batch: GroupBatch[A], optics: Optics[A], probes: A
) -> A:
    plan = network.plan
    scale = optics.input_scale
    if network.log_scale is not None:
        scale = scale * ops.exp(-network.log_scale)[0]
    modulus, phase = network.logits(batch.amplitude * scale)
    modulus = plan.model.probe_scale * network.activated(modulus + amplitude_offset(plan.model))
    phase = np.pi * ops.tanh(phase)
    patches = ops.complex(modulus * ops.cos(phase), modulus * ops.sin(phase))
    if not plan.merges:
        return patches
    size = patches.shape[-1]
    window = ops.reshape(group_window(ops, probes, optics.peak), (-1, plan.channels, size, size))
    return merge_and_cut(ops, patches, window, Canvas(ops, batch.start, size, batch.side))


def batch_losses(
    ops: Operations[A],
    network: TrainableNetwork[A],
    weights: LossWeights,
    batch: GroupBatch[A],
    optics: Optics[A],
) -> tuple[A, A]:
    """Return (weighted loss (), deviance per pixel ()), averaged over patterns.

    Of a prior the mean over the levels of noise of the loss, and the deviance at the last of them.
    """
    probes = probes_of(ops, network, batch, optics)
    if not batch.looks:
        patches = _patches(ops, network, batch, optics, probes)
        return _losses_of_patches(ops, network, weights, batch, optics, probes, patches)
    canvas = Canvas(ops, batch.start, batch.amplitude.shape[-1], batch.side)
    loss: Any = 0.0
    for look in batch.looks:
        seen = {name: look[:, index] for index, name in enumerate(LOOKS)}
        noisy = ops.complex(seen['object_real'], seen['object_imag'])
        obj = noisy - network.noise(noisy, seen['deviation'])
        own, fit = _losses_of_patches(ops, network, weights, batch, optics, probes, canvas.cut(obj))
        if batch.truth is not None and weights.labels > 0:
            light = lit_part(seen['light'])
            error = label_error(ops, obj[:, None], batch.truth[:, None], light[:, None])
            own = own + weights.labels * ops.mean(error)
        loss = loss + own / len(batch.looks)
    return cast(A, loss), fit


def _losses_of_patches(
    ops: Operations[A],
    network: TrainableNetwork[A],
    weights: LossWeights,
    batch: GroupBatch[A],
    optics: Optics[A],
    probes: A,
    patches: A,
) -> tuple[A, A]:
    """Return (weighted loss (), deviance per pixel ()) of patches (B, C, N, N), averaged over patterns."""
    size = batch.amplitude.shape[-1]
    each = (-1, size, size)
    amplitude = ops.to_corner(ops.reshape(batch.amplitude, each))
    valid = optics.valid
    if batch.judged is not None:
        valid = ops.both(valid, ops.to_corner(ops.reshape(batch.judged, each)))
    counts = amplitude * amplitude
    flat = ops.reshape(patches, each)
    rate = total_intensity(ops, far_field(ops, flat, probes))
    if network.log_scale is not None:
        rate = rate * ops.exp(2 * network.log_scale)[0]
    fit = deviance_per_pixel(ops, counts, rate, valid)
    illumination = ops.detached(total_intensity(ops, probes))
    loss = 0 * optics.peak
    if weights.likelihood > 0:
        mask = ops.cast(valid, counts)
        per_pixel = ops.sum(counts * mask, PIXELS) / ops.sum(mask, PIXELS)
        loss = loss + weights.likelihood * ops.mean(fit / (1 + per_pixel))
    if weights.amplitude > 0:
        loss = loss + weights.amplitude * ops.mean(amplitude_error(ops, amplitude, rate, valid))
    if batch.labels is not None and batch.truth is None and weights.labels > 0:
        # Patches that share an object share its phase.
        merges = network.plan.merges
        shape = (-1, network.plan.channels if merges else 1, size, size)
        canvas = Canvas(ops, batch.start, size, batch.side) if merges else None
        weight = label_weight(ops.reshape(illumination, shape), canvas, optics.peak)
        error = label_error(ops, ops.reshape(patches, shape), ops.reshape(batch.labels, shape), weight)
        loss = loss + weights.labels * ops.mean(error)
    if weights.variation > 0:
        loss = loss + weights.variation * ops.mean(total_variation(ops, flat, illumination))
    return loss, ops.mean(fit)
