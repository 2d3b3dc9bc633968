"""Optimisers, clipping and loss scaling in torch (``specs/training.md``, OPT-02 to OPT-06)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...config import TrainingConfig
from ..base import AGC_SMALLEST_NORM

__all__ = ['Optimiser']

Named = Sequence[tuple[str, nn.Parameter]]

LOSS_SCALE = 'loss_scale'
"""State of the loss scaling: [factor, steps since it was last changed]."""

KINDS: dict[str, type[torch.optim.Optimizer]] = {
    'adam': torch.optim.Adam,
    'adamw': torch.optim.AdamW,
    'sgd': torch.optim.SGD,
}
MEMORIES = {
    'adam': {'step', 'exp_avg', 'exp_avg_sq'},
    'adamw': {'step', 'exp_avg', 'exp_avg_sq'},
    'sgd': {'momentum_buffer'},
}
"""What torch remembers for a parameter from its first step on."""


class Optimiser:
    """One step at a time: :meth:`clear`, :meth:`backward` for each batch, :meth:`step`.

    Parameters
    ----------
    named : sequence of (str, Parameter)
        Trainable parameters by canonical name.
    config : TrainingConfig
        Optimiser, weight decay and clipping.
    device : torch.device
        Where the parameters are.
    scale_loss : bool
        Multiply the loss so that gradients do not underflow in float16, and skip steps that overflow.
    """

    def __init__(
        self, named: Named, config: TrainingConfig, device: torch.device, *, scale_loss: bool = False
    ) -> None:
        self._named = tuple(named)
        self._limit = config.gradient_clip_val
        self._algorithm = config.gradient_clip_algorithm
        self._kind = config.optimizer
        self._optimiser = _make([parameter for _, parameter in named], config)
        self._scaler = torch.amp.GradScaler(device.type, enabled=scale_loss)

    def clear(self) -> None:
        """Forget the gradient."""
        self._optimiser.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        """Clip the gradient and descend."""
        for group in self._optimiser.param_groups:
            group['lr'] = learning_rate
        self._scaler.unscale_(self._optimiser)
        if self._limit is not None:
            self._clip(self._limit)
        self._scaler.step(self._optimiser)
        self._scaler.update()

    def _clip(self, limit: float) -> None:
        parameters = [parameter for _, parameter in self._named]
        match self._algorithm:
            case 'norm':
                torch.nn.utils.clip_grad_norm_(parameters, limit)
            case 'value':
                torch.nn.utils.clip_grad_value_(parameters, limit)
            case 'agc':
                for name, parameter in self._named:
                    _clip_to_weights(name, parameter, limit)

    def state(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return a copy of what the optimiser remembers."""
        state: dict[str, npt.NDArray[np.float32]] = {}
        for name, parameter in self._named:
            for quantity, value in self._optimiser.state.get(parameter, {}).items():
                if value is not None:
                    state[f'{name}/{quantity}'] = np.array(value.detach().cpu().numpy())
        if self._scaler.is_enabled():
            scaling = self._scaler.state_dict()
            state[LOSS_SCALE] = np.array([scaling['scale'], scaling['_growth_tracker']], np.float32)
        return state

    def set_state(self, state: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Go on from :meth:`state`.

        Raises
        ------
        ValueError
            If names or shapes are not those of this optimiser and its parameters.
        """
        by_name: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
        for key, value in state.items():
            name, _, quantity = key.rpartition('/')
            by_name.setdefault(name, {})[quantity] = value
        for name, parameter in self._named:
            _check_state(name, by_name.get(name, {}), parameter, MEMORIES[self._kind])
            self._optimiser.state[parameter] = {
                # torch keeps its count of steps on the CPU, the rest beside the parameter.
                quantity: torch.from_numpy(np.array(value)).to(
                    'cpu' if quantity == 'step' else parameter.device
                )
                for quantity, value in by_name.get(name, {}).items()
            }
        if self._scaler.is_enabled() and LOSS_SCALE in state:
            scale, steps = state[LOSS_SCALE]
            known = self._scaler.state_dict()
            self._scaler.load_state_dict({**known, 'scale': float(scale), '_growth_tracker': int(steps)})


def _check_state(
    name: str, state: Mapping[str, npt.NDArray[np.float32]], parameter: nn.Parameter, expected: set[str]
) -> None:
    """Check what is to be remembered for a parameter; torch would notice only at its next step."""
    if state and set(state) != expected:
        raise ValueError(f'{name} has {", ".join(sorted(state))}, expected {", ".join(sorted(expected))}')
    for quantity, value in state.items():
        shape = () if quantity == 'step' else tuple(parameter.shape)
        if value.shape != shape:
            raise ValueError(f'{quantity} of {name} has shape {value.shape}, expected {shape}')


def _make(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == 'sgd':
        memory: dict[str, Any] = {'momentum': config.momentum}
    else:
        memory = {'betas': (config.adam_beta1, config.adam_beta2)}
    kind = _uncompiled(KINDS[config.optimizer])
    return kind(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, **memory)


def _uncompiled(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return an optimiser of torch without what wraps its methods for `torch.compile`.

    Nothing is compiled here, and the wrappers import the compiler, which takes more than a second.
    """
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in ('add_param_group', 'zero_grad', 'step')}
    bare['step'] = torch.no_grad()(bare['step'])
    return type(kind.__name__, (kind,), bare)


def _clip_to_weights(name: str, parameter: nn.Parameter, limit: float) -> None:
    """Limit the gradient of each unit to `limit` times the norm of the unit's weights.

    Brock et al., *High-performance large-scale image recognition without normalization*, ICML 2021. A unit
    is an output channel of a kernel (out, in, k, k), or the whole of any other parameter.
    """
    gradient = parameter.grad
    if gradient is None:
        return
    axes = tuple(range(1 if name.endswith('/kernel') else 0, parameter.ndim))
    weight_norm = _norm(parameter.detach(), axes).clamp_min(AGC_SMALLEST_NORM)
    gradient_norm = _norm(gradient, axes)
    allowed = limit * weight_norm
    gradient.mul_(torch.where(gradient_norm > allowed, allowed / gradient_norm, torch.ones_like(allowed)))


def _norm(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    return tensor.square().sum(dim=axes, keepdim=True).sqrt()
