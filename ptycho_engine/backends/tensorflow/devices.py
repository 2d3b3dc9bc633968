"""Where TensorFlow computes, and whether the same way each time."""

from __future__ import annotations

import tensorflow as tf

from ...errors import BackendUnavailableError

__all__ = ['make_strategy', 'set_determinism']


def make_strategy(accelerator: str, count: int) -> tuple[tf.distribute.Strategy, str]:
    """Return how the work is spread over devices of a kind, and the device that batches are sent to.

    Raises
    ------
    BackendUnavailableError
        If TensorFlow finds no such device, or fewer than `count`.
    """
    if accelerator == 'mps':
        raise BackendUnavailableError(
            "TensorFlow backend selected with the accelerator 'mps', which only the PyTorch backend has; "
            "choose 'auto' or 'cpu', or the PyTorch backend."
        )
    gpus = [device.name for device in tf.config.list_logical_devices('GPU')]
    if accelerator in ('gpu', 'cuda') and not gpus:
        raise BackendUnavailableError(
            f'TensorFlow backend selected with the accelerator {accelerator!r}, which TensorFlow does not '
            "find on this machine; choose 'auto' or 'cpu', or install a TensorFlow build for it: "
            'pip install "tensorflow[and-cuda]".'
        )
    if accelerator == 'cpu' or not gpus:
        devices = [device.name for device in tf.config.list_logical_devices('CPU')]
    else:
        devices = gpus
    if count > len(devices):
        raise BackendUnavailableError(
            f'TensorFlow backend selected with {count} devices, but TensorFlow finds {len(devices)} on this '
            f'machine ({", ".join(devices)}); set devices to {len(devices)} or less.'
        )
    if count == 1:
        return tf.distribute.get_strategy(), devices[0]
    exchange = None if devices is gpus else tf.distribute.ReductionToOneDevice()
    # Each device takes its share of a batch from the memory of the host.
    return tf.distribute.MirroredStrategy(devices[:count], cross_device_ops=exchange), '/CPU:0'


def set_determinism(deterministic: bool) -> None:
    """Make equal seeds give equal weights from here on, in the whole program, or no longer."""
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    else:
        # TensorFlow has no public way back.
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()
