"""The stages of a training: simulated objects first, then the measured scans."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..config import TrainingConfig
from ..data.scan import Scan
from ..errors import DataValueError
from .overlap import SPARSE_OVERLAP
from .simulated import SimulatedScans, with_truth
from .sources import MeasuredScans, TrainingSource, with_pattern_size

__all__ = ['Stage', 'plan_stages']

logger = logging.getLogger('ptychopinn.train')

ADAPTING_RATE = 0.1
"""Factor of the learning rate on measured scans after simulated objects: they say less, and at the full rate
what was learned is lost before they have said it."""


@dataclass(frozen=True)
class Stage:
    """One part of a run: what it trains on, with which losses and for how long."""

    source: TrainingSource
    config: TrainingConfig
    """Weights of the losses and learning rates; its `nepochs` is the length of this stage."""
    before: int
    """Epochs of the stages before."""
    total: int
    """Epochs of all stages."""

    @property
    def end(self) -> int:
        """Epochs of the run when the stage is over."""
        return self.before + self.config.nepochs

    @property
    def is_last(self) -> bool:
        """Whether the run ends with it."""
        return self.end == self.total


def plan_stages(
    scans: Sequence[Scan] | TrainingSource, config: TrainingConfig, *, simulated_epochs: int
) -> tuple[TrainingConfig, list[Stage]]:
    """Return the configuration with the size of the patterns, and the stages of a run.

    Parameters
    ----------
    scans : sequence of Scan, or TrainingSource
        What to train on; a source has one stage.
    config : TrainingConfig
        As asked for.
    simulated_epochs : int
        Length of the first stage; 0 for none.

    Raises
    ------
    DataValueError
        If there is nothing to train on, or it does not fit the configuration.
    """
    if not isinstance(scans, Sequence):
        config = with_pattern_size(config, scans.reference.scan.raw.N)
        losses = with_truth(config) if scans.simulated else config
        return config, [Stage(scans, losses, 0, config.nepochs)]
    if not scans:
        raise DataValueError('There is no scan to train on.')
    config = with_pattern_size(config, scans[0].raw.N)
    measured = MeasuredScans(scans, config)
    total = simulated_epochs + config.nepochs
    sparse = _is_sparse(measured, config)
    if simulated_epochs == 0:
        if sparse:
            logger.warning(
                'Only %.2g patterns fall on a pixel: trained on them without labels, a network may learn '
                'their noise. Simulated objects teach it better (simulated_epochs, --simulate-from).',
                measured.overlap,
            )
        return config, [Stage(measured, config, 0, total)]
    if sparse:
        logger.info(
            'Only %.2g patterns fall on a pixel, too few to learn from without labels: all %d epochs are on '
            'simulated objects.',
            measured.overlap,
            total,
        )
        simulated = SimulatedScans(scans, config)
        return config, [Stage(simulated, replace(with_truth(config), nepochs=total), 0, total)]
    warmup = min(config.lr_warmup_epochs, simulated_epochs)
    first = replace(with_truth(config), nepochs=simulated_epochs, lr_warmup_epochs=warmup)
    then = replace(config, learning_rate=ADAPTING_RATE * config.learning_rate)
    return config, [
        Stage(SimulatedScans(scans, config), first, 0, total),
        Stage(measured, then, simulated_epochs, total),
    ]


def _is_sparse(measured: MeasuredScans, config: TrainingConfig) -> bool:
    """Return whether the scans teach a network nothing that simulated objects do not (STAGE-05).

    A probe or a scale that is to be found can only be found in measured patterns, and labels teach anyhow.
    """
    found_in_patterns = config.probe_trainable or config.intensity_scale_trainable
    labelled = config.model.model_type != 'pinn' or config.realspace_mae_weight > 0
    if not config.model.couples or found_in_patterns or labelled:
        return False
    return measured.overlap < SPARSE_OVERLAP
