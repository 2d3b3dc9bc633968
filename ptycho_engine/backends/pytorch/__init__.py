"""The PyTorch backend; the only place that imports torch."""

from .backend import PyTorchBackend as make_backend

__all__ = ['make_backend']
