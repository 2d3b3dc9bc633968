"""Pty-chi (PyPI ``ptychi``) on our scans, a yardstick for benchmarks: known probe and positions, one thread.

Its forward model is ours: the object is cut on whole pixels and the probe shifted by the subpixel_shift
through the Fourier shift theorem. Three conventions differ. Positions are (y, x) relative to index (n − 1) /
2 of an even side; its FFT is not normalised, so that the probe is divided by N; counts are taken, not
amplitudes.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
import types
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ptycho_engine.scan.raw_data import RawData

ENGINES = ('autodiff', 'lsqml', 'rpie')


@dataclass(frozen=True)
class Settings:
    """How pty-chi is run."""

    engine: str
    """One of ``ENGINES``; 'autodiff' takes Adam."""
    steps: int
    """Batches at least; whole passes over the patterns."""
    step_size: float
    """Of Adam, falling to 0 by a cosine; of the object in 'lsqml'; of 'rpie' its alpha."""
    variation: float = 0.0
    """Weight of pty-chi's own total variation."""
    batch: int = 16

    def epochs(self, patterns: int) -> int:
        """Return the passes over so many patterns."""
        return math.ceil(self.steps / math.ceil(patterns / self.batch))


BEST = {
    '6px-1e4': Settings('autodiff', 500, 0.03),
    '6px-1e5': Settings('autodiff', 500, 0.1),
    '6px-1e6': Settings('autodiff', 500, 0.1),
    '12px-1e5': Settings('autodiff', 500, 0.1),
    '18px-1e5': Settings('lsqml', 500, 1.0, 0.007),
    '24px-1e5': Settings('lsqml', 500, 1.0, 0.01),
}
"""For each row of ``outside_scenes.py``: the lowest NRMSE on objects of the set 'tuning', which
``EXPERIMENTS.md`` tells, row 139."""


def _api() -> Any:
    """Import pty-chi; it wants one class of torchvision, which it does not use here."""
    if 'torchvision' not in sys.modules and importlib.util.find_spec('torchvision') is None:
        transforms: Any = types.ModuleType('torchvision.transforms')
        transforms.GaussianBlur = type('GaussianBlur', (), {})
        package: Any = types.ModuleType('torchvision')
        package.transforms = transforms
        sys.modules |= {'torchvision': package, 'torchvision.transforms': transforms}
    logging.getLogger('ptychi').setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', 'Converting a tensor with requires_grad', UserWarning)
    import ptychi.api
    import ptychi.api.task

    return ptychi.api


def _options(api: Any, settings: Settings, epochs: int) -> Any:
    """Return the options of an engine."""
    options = {
        'autodiff': api.AutodiffPtychographyOptions,
        'lsqml': api.LSQMLOptions,
        'rpie': api.RPIEOptions,
    }[settings.engine]()
    obj, run = options.object_options, options.reconstructor_options
    obj.optimizable = True
    obj.remove_object_probe_ambiguity.enabled = False
    obj.total_variation.enabled = settings.variation > 0
    obj.total_variation.weight = settings.variation
    if settings.engine == 'autodiff':
        obj.optimizer = api.Optimizers.ADAM
        obj.step_size = settings.step_size
        obj.optimization_plan.step_size_scheduler_class = 'CosineAnnealingLR'
        obj.optimization_plan.step_size_scheduler_options = {'T_max': epochs}
    elif settings.engine == 'lsqml':
        obj.step_size = settings.step_size
        run.rescale_probe_intensity_in_first_epoch = False
    else:
        obj.alpha = settings.step_size
    options.probe_options.optimizable = False
    options.probe_options.orthogonalize_incoherent_modes.enabled = False
    options.probe_position_options.optimizable = False
    options.opr_mode_weight_options.optimizable = False
    run.batch_size = settings.batch
    run.num_epochs = epochs
    run.default_device = api.Devices.CPU
    run.random_seed = 0
    return options


def pty_chi(raw: RawData, settings: Settings) -> npt.NDArray[np.complex64]:
    """Reconstruct from a flat object a scan whose probe and positions are known.

    Parameters
    ----------
    raw : RawData
        With an object, whose shape the result takes.

    Returns
    -------
    (H, W) complex64
    """
    import torch

    api = _api()
    height, width = raw.objectGuess.shape
    with api.task.PtychographyTask(
        _options(api, settings, settings.epochs(len(raw))),
        diffraction_data=np.square(raw.diffraction),
        object_data=np.ones((1, height, width), np.complex64),
        probe_data=(raw.probeGuess / raw.N)[None],
        # As in pty-chi: the origin is at round(side / 2) - 1/2.
        probe_position_x_px=raw.xcoords - (round(width / 2) - 0.5),
        probe_position_y_px=raw.ycoords - (round(height / 2) - 0.5),
    ) as task:
        task.run()
        found = task.get_data_to_cpu('object', as_numpy=True)[0]
    torch.set_default_device('cpu')
    return np.asarray(found, dtype=np.complex64)
