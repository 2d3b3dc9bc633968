"""The TensorFlow backend; the only place that imports tensorflow and keras."""

from .startup import start

start()

from .backend import TensorFlowBackend as make_backend  # noqa: E402  only once TensorFlow has started

__all__ = ['make_backend']
