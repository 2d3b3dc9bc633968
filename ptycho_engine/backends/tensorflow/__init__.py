"""The TensorFlow backend; the only place that imports tensorflow and keras."""

from .startup import start

start()
