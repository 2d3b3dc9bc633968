"""Installed as ``ptychodus/plugins/ptychopinn_reconstructor.py``, which Ptychodus imports at start-up."""

import logging
import os

OFF = ('off', '0', 'no', 'false')


def register_plugins(registry: object) -> None:
    """Put PtychoPINN into the running Ptychodus, unless ``PTYCHOPINN_PTYCHODUS=off`` is set."""
    if os.environ.get('PTYCHOPINN_PTYCHODUS', '').strip().casefold() in OFF:
        return
    try:
        from ptychopinn_ptychodus.install import install

        install()
    except Exception as error:  # noqa: BLE001  Ptychodus would not start if this escaped
        logging.getLogger('ptychopinn').warning(
            'PtychoPINN cannot be offered in this Ptychodus (%s: %s); reinstall both, or report this line.',
            type(error).__name__,
            error,
        )
