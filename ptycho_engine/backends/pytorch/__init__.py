"""The PyTorch backend; the only place that imports torch."""

from ...config import PyTorchExecutionConfig
from ..base import Backend
from .backend import PyTorchBackend
from .device_group import DeviceGroupBackend

__all__ = ['make_backend']


def make_backend(execution: PyTorchExecutionConfig) -> Backend:
    """Return the backend for one device, or for several that share each batch.

    Raises
    ------
    BackendUnavailableError
        If PyTorch does not find the devices.
    """
    return PyTorchBackend(execution) if execution.devices == 1 else DeviceGroupBackend(execution)
