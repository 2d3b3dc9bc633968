"""Pty-chi (PyPI ``ptychi``) on our scans, a yardstick for benchmarks: known probe and positions, one thread.

Its forward model is ours: the object is cut on whole pixels and the probe shifted by the remainder through
the Fourier shift theorem. Three conventions differ. Positions are (y, x) relative to index (n − 1) / 2 of an
even side; its FFT is not normalised, so that the probe is divided by N; counts are taken, not amplitudes.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from typing import Any

import numpy as np
import numpy.typing as npt

from ptycho_engine.data.scan import Scan

ENGINES = ('autodiff', 'lsqml', 'rpie')
EPOCHS = 60

AUTODIFF_STEP = 0.03
AUTODIFF_BATCH = 64
LSQML_BATCH = 64
RPIE_BATCH = 16
RPIE_ALPHA = 0.3


def available() -> bool:
    """Return whether pty-chi is installed."""
    return importlib.util.find_spec('ptychi') is not None


def _api() -> Any:
    """Import pty-chi; it wants one class of torchvision, which it does not use here."""
    if 'torchvision' not in sys.modules and importlib.util.find_spec('torchvision') is None:
        transforms: Any = types.ModuleType('torchvision.transforms')
        transforms.GaussianBlur = type('GaussianBlur', (), {})
        package: Any = types.ModuleType('torchvision')
        package.transforms = transforms
        sys.modules |= {'torchvision': package, 'torchvision.transforms': transforms}
    logging.getLogger('ptychi').setLevel(logging.ERROR)
    import ptychi.api
    import ptychi.api.task

    return ptychi.api


def _options(api: Any, engine: str, epochs: int) -> Any:
    """Return the options of an engine, those of 'rpie' and 'lsqml' at pty-chi's own step sizes."""
    options = {
        'autodiff': api.AutodiffPtychographyOptions,
        'lsqml': api.LSQMLOptions,
        'rpie': api.RPIEOptions,
    }[engine]()
    obj, run = options.object_options, options.reconstructor_options
    obj.optimizable = True
    obj.remove_object_probe_ambiguity.enabled = False
    if engine == 'autodiff':
        obj.optimizer = api.Optimizers.ADAM
        obj.step_size = AUTODIFF_STEP
        obj.optimization_plan.step_size_scheduler_class = 'CosineAnnealingLR'
        obj.optimization_plan.step_size_scheduler_options = {'T_max': epochs}
        run.batch_size = AUTODIFF_BATCH
    elif engine == 'lsqml':
        run.batch_size = LSQML_BATCH
        run.rescale_probe_intensity_in_first_epoch = False
    else:
        obj.alpha = RPIE_ALPHA
        run.batch_size = RPIE_BATCH
    options.probe_options.optimizable = False
    options.probe_options.orthogonalize_incoherent_modes.enabled = False
    options.probe_position_options.optimizable = False
    options.opr_mode_weight_options.optimizable = False
    run.num_epochs = epochs
    run.default_device = api.Devices.CPU
    run.random_seed = 0
    return options


def pty_chi(
    scan: Scan, engine: str, epochs: int = EPOCHS, start: npt.NDArray[np.complex64] | None = None
) -> npt.NDArray[np.complex64]:
    """Reconstruct a scan whose probe and positions are known.

    Parameters
    ----------
    scan : Scan
        With a known object, whose shape the result takes.
    engine : str
        One of ``ENGINES``.
    epochs : int
        Passes over all patterns.
    start : (H, W) complex, optional
        Instead of a flat object.

    Returns
    -------
    (H, W) complex64
    """
    import torch

    api, raw = _api(), scan.raw
    height, width = raw.objectGuess.shape
    with api.task.PtychographyTask(
        _options(api, engine, epochs),
        diffraction_data=np.square(raw.diffraction),
        object_data=(np.ones((height, width), np.complex64) if start is None else start)[None],
        probe_data=(raw.probeGuess / raw.N)[None],
        # As in pty-chi: the origin is at round(side / 2) - 1/2.
        probe_position_x_px=raw.xcoords - (round(width / 2) - 0.5),
        probe_position_y_px=raw.ycoords - (round(height / 2) - 0.5),
    ) as task:
        task.run()
        found = task.get_data_to_cpu('object', as_numpy=True)[0]
    torch.set_default_device('cpu')
    return np.asarray(found, dtype=np.complex64)
