"""The model of a reconstruction: what it is, and whether it fits the data at hand."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ptychodus.api.parameters import PathParameter
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.ptychopinn.settings import PtychoPINNInferenceSettings

from ptycho_engine.config import ModelConfig, TrainingConfig
from ptycho_engine.errors import ArchiveError
from ptycho_engine.formats.archive import ModelArchive, load_archive
from ptycho_engine.formats.packaged import NO_MODEL, PACKAGED_PRIOR, load_model
from ptycho_engine.printable import printable

__all__ = [
    'PRIOR',
    'LoadedModel',
    'ModelMemory',
    'ScanFacts',
    'packaged_prior',
    'physics_alone',
    'probe_fingerprint',
]

logger = logging.getLogger('ptychopinn')

_TITLES = {'pinn': 'PINN', 'supervised': 'supervised'}
PRIOR = 'the learned prior that comes with PtychoPINN'
"""How the model is called that is used where none is loaded."""
SAME_PROBE = 0.999
"""Overlap of two probes from which on they count as the same."""


@dataclass(frozen=True)
class ScanFacts:
    """What is known of a product and its patterns without reading the patterns."""

    n: int
    """Patterns that have a position."""
    height: int
    width: int
    """Size of a pattern in pixels."""
    probe: npt.NDArray[np.complexfloating[Any, Any]] | None = None
    """(P, h, w) incoherent probe modes."""
    dark: bool = False
    """Whether no pattern has a count in a valid pixel; False where that would take long to find out."""
    finite: bool = True
    """Whether the probe, and the patterns that were looked at, are all numbers."""
    object_known: bool = True
    """Whether the product's object is more than a flat start."""
    folder: Path | None = None
    """Where the file with the patterns lies, if it is known."""
    name: str = ''
    """The product's."""
    far_field: bool = True
    """Whether the detector is in the far field."""
    sized: bool = True
    """Whether Ptychodus knows how large the pixels of the object are, without which it has no object."""
    sample: npt.NDArray[Any] | None = None
    """(h, w) counts of the first pattern."""

    @cached_property
    def fingerprint(self) -> str:
        """That of the probe; empty where there is none."""
        return '' if self.probe is None else probe_fingerprint(self.probe)


@dataclass(frozen=True)
class LoadedModel:
    """A checked archive, or what is used in place of one; without its weights."""

    path: Path
    """Of the archive; 'none' for physics alone."""
    config: TrainingConfig
    probe: npt.NDArray[np.complex64]
    """(P, N, N) probe it was trained with."""
    backend: str
    """Framework that trained it."""
    epochs: int
    deviance: float | None
    """Training deviance per pixel of its last epoch."""
    is_packaged: bool = False
    """Whether its weights are those of the prior that comes with PtychoPINN, which no epoch has bettered."""
    simulated_epochs: int = 0
    """So many of its first epochs were on simulated objects."""

    @classmethod
    def open(cls, path: Path) -> LoadedModel:
        """Read and check an archive, weights included; no framework is loaded.

        Raises
        ------
        ArchiveNotFoundError, ArchiveError
            If there is none or it is damaged.
        """
        return cls.of(Path(path).resolve(), load_archive(path))

    @classmethod
    def of(cls, path: Path, archive: ModelArchive) -> LoadedModel:
        """Return what is to be known of an archive that was read from `path`."""
        last = archive.history[-1] if archive.history else {}
        return cls(
            path=path,
            config=archive.config,
            probe=archive.probe,
            backend=archive.backend,
            epochs=len(archive.history),
            deviance=last.get('training_deviance'),
            is_packaged=_is_packaged(archive),
            simulated_epochs=sum(1 for record in archive.history if record.get('simulated')),
        )

    @cached_property
    def fingerprint(self) -> str:
        """That of the probe."""
        return probe_fingerprint(self.probe)

    @property
    def of_objects(self) -> bool:
        """Whether it works on objects alone, so that it is for patterns of any size."""
        return self.config.model.of_objects

    @property
    def name(self) -> str:
        """How logs and comments call it."""
        if self.config.model.architecture == 'physics':
            return 'none; physics with total variation alone'
        return PRIOR if self.path == PACKAGED_PRIOR else printable(self.path)

    @property
    def sentence(self) -> str:
        """What it is, in one sentence."""
        model = self.config.model
        if self.path == PACKAGED_PRIOR:
            return f'{PRIOR}, which needs no training on scans and takes patterns of any size.'
        epochs = f'{self.epochs} epoch{"s" if self.epochs != 1 else ""}'
        trained = f'trained for {epochs} by {self.backend}'
        if self.deviance is not None:
            trained += f' to deviance {self.deviance:.3g}'
        if self.is_packaged:
            # That of the package has no probe: it was trained on no scan.
            gain = f'; {epochs} of training by {self.backend} made it no better' if self.probe.size else ''
            return printable(f'{self.path.name}: {PRIOR}, for patterns of any size{gain}.')
        if self.of_objects:
            return printable(f'{self.path.name}: learned prior for patterns of any size, {trained}.')
        return printable(
            f'{self.path.name}: {model.architecture} {_TITLES[model.model_type]} network '
            f'for {model.N}×{model.N} patterns, grid size {model.gridsize}, probe '
            f'{self.fingerprint}, {trained}.'
        )

    def why_unusable(self, scan: ScanFacts) -> str | None:
        """Return why the patterns of a scan cannot be reconstructed with it; None if they can."""
        if scan.height != scan.width:
            return (
                f'The patterns are {scan.height}×{scan.width} pixels; PtychoPINN needs square ones. Crop '
                'them in the diffraction settings of Ptychodus.'
            )
        size = self.config.model.N
        if size != scan.width and not self.of_objects:
            return (
                f'The model {self.path} is for {size}×{size} patterns, but these are '
                f'{scan.width}×{scan.width}. Crop or pad the patterns, or train a model on patterns of this '
                'size.'
            )
        return None

    def remark(self, scan: ScanFacts) -> str | None:
        """Return how a scan on which it can be used differs from the one it was trained on, or None.

        A prior of objects knows no probe, so that nothing is to be said of it.
        """
        if self.of_objects or not self._sees_probes_like(scan):
            return None
        difference = self._difference_of_probes(scan)
        return difference and (
            f'The model was trained with another probe than this product has ({scan.fingerprint}, '
            f'{difference}); expect a poorer image, or continue training on this data.'
        )

    def is_trained_for(self, scan: ScanFacts) -> bool:
        """Return whether it was trained with the probe of a scan, so that training anew would be a waste."""
        if self.why_unusable(scan):
            return False
        if not self._sees_probes_like(scan):
            return not self.of_objects
        return self._difference_of_probes(scan) is None

    def _sees_probes_like(self, scan: ScanFacts) -> bool:
        """Return whether the probe of a scan can be compared with its own."""
        return scan.probe is not None and scan.probe.shape[-2:] == self.probe.shape[-2:]

    def _difference_of_probes(self, scan: ScanFacts) -> str | None:
        """Return how the probe of a scan differs from its own, or None where it is the same."""
        if scan.probe is None or scan.fingerprint == self.fingerprint:
            return None
        if len(scan.probe) != len(self.probe):
            return f'which has {len(scan.probe)} instead of {len(self.probe)} modes'
        overlap = _overlap(self.probe, scan.probe)
        return None if overlap >= SAME_PROBE else f'which overlaps with it by {overlap:.0%}'

    def network_differences(self, asked: ModelConfig) -> dict[str, str]:
        """Return the fields of the network in which another one differs from it, and 'name its → other'.

        Any prior can be trained further as another one: how patterns are grouped is not in its weights.
        """
        own = self.config.model
        names = ['architecture'] if self.of_objects else [f.name for f in fields(own) if f.name != 'N']
        return {
            name: f'{name} {getattr(own, name)} → {getattr(asked, name)}'
            for name in names
            if getattr(own, name) != getattr(asked, name)
        }


@cache
def packaged_prior() -> LoadedModel:
    """Return the learned prior that comes with PtychoPINN, checked once.

    Raises
    ------
    ArchiveError
        If it is damaged.
    """
    return LoadedModel.of(PACKAGED_PRIOR, load_model())


@cache
def physics_alone() -> LoadedModel:
    """Return what stands for a model where there is none: physics with total variation."""
    return LoadedModel.of(Path(NO_MODEL), load_model(NO_MODEL))


def _is_packaged(archive: ModelArchive) -> bool:
    """Return whether the weights of an archive are those of the packaged prior."""
    if archive.config.model.architecture != 'prior':
        return False
    try:
        weights = load_model().weights
    except ArchiveError:
        return False
    return weights.keys() == archive.weights.keys() and all(
        np.array_equal(value, archive.weights[name]) for name, value in weights.items()
    )


def probe_fingerprint(probe: npt.NDArray[Any]) -> str:
    """Return eight hexadecimal digits that tell one probe from another."""
    values = np.ascontiguousarray(probe, dtype='<c8')
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:8]


def _overlap(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return how much of two probes is the same, from 0 to 1, whatever their scale and phase."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 0.0 if norm == 0 else float(abs(np.vdot(a, b))) / norm


class ModelMemory:
    """The loaded model, remembered in a setting so that the next session has it too.

    Parameters
    ----------
    parameter : PathParameter
        ``PtychoPINNInference.ModelPath``. The file it names is read when the model is first asked for.
    """

    def __init__(self, parameter: PathParameter) -> None:
        self.parameter = parameter
        """The setting."""
        self._placeholder = PtychoPINNInferenceSettings(SettingsRegistry()).model_path.get_value()
        self._read: tuple[Path, int] | None = None
        self._model: LoadedModel | None = None
        self.problem = ''
        """Why there is no model to use, as the remembered one cannot be; else empty."""

    def open(self, path: Path) -> LoadedModel:
        """Load a model and remember it.

        Raises
        ------
        ArchiveNotFoundError, ArchiveError
            If there is none or it is damaged; the model loaded before stays.
        """
        model = LoadedModel.open(Path(path))
        self._model, self._read, self.problem = model, _stamp(model.path), ''
        self.parameter.set_value(model.path)
        return model

    @property
    def current(self) -> LoadedModel | None:
        """The model that the setting names, or None where there is none or it cannot be used."""
        path = self.parameter.get_value()
        if path in (self._placeholder, Path()):
            self._read = self._model = None
            self.problem = ''
            return None
        stamp = _stamp(path)
        if stamp != self._read:
            self._read = stamp
            try:
                self._model, self.problem = LoadedModel.open(path), ''
            except ArchiveError as error:
                self._model, self.problem = None, f'The model of the settings cannot be used. {error}'
                logger.warning('%s', self.problem)
        return self._model

    @property
    def in_use(self) -> LoadedModel | None:
        """The model of a reconstruction: the loaded one, or the learned prior where none is named.

        None where one is named that cannot be used, for which nothing else may stand in.
        """
        model = self.current
        if model is not None or self.problem:
            return model
        try:
            return packaged_prior()
        except ArchiveError as error:
            self.problem = str(error)
            return None

    def forget(self) -> None:
        """Let go of the loaded model."""
        self.parameter.set_value(self._placeholder)


def _stamp(path: Path) -> tuple[Path, int]:
    try:
        return path, path.stat().st_mtime_ns
    except OSError:
        return path, 0
