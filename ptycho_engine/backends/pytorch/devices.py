"""The device of a process, and the type of numbers that it computes with."""

from __future__ import annotations

import torch

from ...errors import BackendUnavailableError

__all__ = ['one_device', 'real_type']

KINDS = {
    'auto': ('cuda', 'mps', 'cpu'),
    'gpu': ('cuda', 'mps'),
    'cuda': ('cuda',),
    'mps': ('mps',),
    'cpu': ('cpu',),
}
"""Kinds of devices that an accelerator stands for, the first that is there being taken."""


def one_device(accelerator: str) -> torch.device:
    """Return the first device of a kind, whatever a batch system has put into the environment.

    Raises
    ------
    BackendUnavailableError
        If PyTorch finds none.
    """
    there = {'cpu': True, 'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}
    for kind in KINDS[accelerator]:
        if there[kind]:
            return torch.device(kind) if kind == 'cpu' else torch.device(kind, 0)
    raise BackendUnavailableError(
        f'PyTorch backend selected with the accelerator {accelerator!r}, which PyTorch does '
        "not find on this machine; choose 'auto' or 'cpu', or install a PyTorch build for it."
    )


def real_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the numbers that physics and weights have.

    Raises
    ------
    BackendUnavailableError
        If the device does not have it.
    """
    if precision != '64-true':
        return torch.float32
    if device.type == 'mps':
        raise BackendUnavailableError(
            "PyTorch backend selected with the precision '64-true', which the accelerator 'mps' does not "
            "have; choose the accelerator 'cpu' or another precision."
        )
    return torch.float64
