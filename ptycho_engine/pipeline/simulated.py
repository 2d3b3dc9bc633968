"""Training on simulated objects under a scan's own probe, positions, photon level and bad pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.base import Batch, Illumination
from ..config import ModelConfig, TrainingConfig
from ..data.scan import Scan
from ..errors import ConfigError, DataValueError
from ..files.origin import ScanOrigin
from ..physics.forward import cut_patches, predict_intensity
from ..physics.geometry import PatchPlacement
from ..physics.probe import condition_probe
from ..physics.scaling import measure_scale
from ..simulate import OBJECT_FAMILIES, make_object, vary_probe
from .identity import combined, scan_identity, scan_origin
from .prepared import PreparedScan
from .selection import Selection, draw_seed, select_patterns
from .sources import GroupedScan

__all__ = ['ObjectVariety', 'SimulatedScans', 'with_truth']

SPARE = 2
"""Side of a simulated object beyond its largest group, in patterns: room to lay groups in various places."""

SMALLEST_STRENGTH = 0.3
"""Weakest absorption and phase of an object relative to the strongest; log-uniform between them."""


@dataclass(frozen=True)
class ObjectVariety:
    """What the simulated objects, doses and probes are drawn from.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    families: tuple[str, ...] = OBJECT_FAMILIES
    """Object families, taken in turn."""
    absorption: float = 0.7
    """Largest -log amplitude."""
    phase: float = 2.5
    """Largest phase in radians."""
    photon_factor: float = 3.0
    """Each object's photon level is the scan's times or divided by up to so much."""
    probe_variation: float = 0.0
    """How far probes differ from the scan's own (:func:`~..simulate.vary_probe`); 0 for not at all."""

    def __post_init__(self) -> None:
        for name, lowest in (('absorption', 0), ('phase', 0), ('photon_factor', 1), ('probe_variation', 0)):
            if not getattr(self, name) >= lowest:
                raise ConfigError(f'{name} is {getattr(self, name)}; expected at least {lowest}.')


class SimulatedScans:
    """Groups of positions of given scans on simulated objects; the truth serves as labels.

    Objects are new in each epoch and as large as a group and its surroundings, whatever the size of the scan:
    each group is laid at a random place of an object. Patterns are simulated when their batch is asked for.

    Parameters
    ----------
    templates : Scan or sequence of Scan
        Give probe, positions, bad pixels and, unless `photons` is given, the photon level. All of one pattern
        size; taken in turn.
    config : TrainingConfig
        Groups per epoch, gridsize and seed.
    photons : float, optional
        Mean counts per pattern.
    variety : ObjectVariety, optional
        What is simulated.

    Raises
    ------
    DataValueError
        If there is no template, or they differ in pattern size.
    ConfigError
        If `photons` is not positive.
    """

    simulated = True

    def __init__(
        self,
        templates: Scan | Sequence[Scan],
        config: TrainingConfig,
        *,
        photons: float | None = None,
        variety: ObjectVariety | None = None,
    ) -> None:
        scans = [templates] if isinstance(templates, Scan) else list(templates)
        sizes = sorted({scan.raw.N for scan in scans})
        if len(sizes) != 1:
            raise DataValueError(
                f'The scans to simulate from have patterns of {sizes} pixels; give scans of one size.'
            )
        if photons is not None and not photons > 0:
            raise ConfigError(f'photons is {photons}; expected a positive mean count per pattern.')
        self._config = config
        self._variety = variety or ObjectVariety()
        self._templates = [PreparedScan(scan, config.model) for scan in scans]
        self._photons = [
            _photons_of(template) if photons is None else photons for template in self._templates
        ]

    @property
    def reference(self) -> PreparedScan:
        """The first template: its probe and scale are what the model will meet."""
        return self._templates[0]

    @cached_property
    def identity(self) -> str:
        """That of the templates and of what is simulated."""
        return combined(*map(scan_identity, self._templates), *self._photons, *astuple(self._variety))

    @cached_property
    def origins(self) -> tuple[ScanOrigin, ...]:
        """The templates."""
        return tuple(map(scan_origin, self._templates))

    @cached_property
    def _selections(self) -> list[Selection]:
        """All chosen patterns: a simulated object is new each time, so none need be kept apart."""
        return select_patterns([item.scan.raw for item in self._templates], self._config, 0.0)

    @property
    def _n_groups(self) -> int:
        return self._config.n_groups or sum(len(template) for template in self._templates)

    def training(self, epoch: int) -> list[GroupedScan]:
        """Draw fresh objects of every family for this epoch."""
        config = self._config
        return self._draw(epoch, self._n_groups, config.batch_size * config.accum_steps)

    def validation(self) -> list[GroupedScan]:
        """One object of each family that training never sees; none where no fraction is to be kept."""
        part = self._config.validation_fraction * self._n_groups
        if part == 0:
            return []
        families = len(self._variety.families)
        share = max(math.ceil(part / families), 2)
        return self._draw(0, share * families, share)

    def _draw(self, epoch: int, n_groups: int, share: int) -> list[GroupedScan]:
        """Return `n_groups` groups on objects of about `share` groups each, of all families and templates."""
        families, n_templates = self._variety.families, len(self._templates)
        count = max(round(n_groups / share), len(families), n_templates)
        bounds = np.linspace(0, max(n_groups, count), count + 1).astype(int)
        return [
            # The epoch turns the templates against the families.
            self._object(
                families[number % len(families)], (number + epoch) % n_templates, size, (epoch, number)
            )
            for number, size in enumerate(np.diff(bounds).tolist())
        ]

    def _object(self, family: str, template: int, n_groups: int, key: tuple[int, int]) -> GroupedScan:
        config = self._config
        groups = self._selections[template].draw(config, n_groups, draw_seed(config, *key))
        simulated = SimulatedObject(
            self._templates[template],
            family,
            self._photons[template],
            self._variety,
            groups,
            (config.seed, *key),
        )
        return GroupedScan(simulated, np.arange(len(groups), dtype=np.int32)[:, np.newaxis])


@dataclass(frozen=True)
class SimulatedObject:
    """One object and the groups that are laid on it; a group is named by its number."""

    template: PreparedScan
    family: str
    photons: float
    variety: ObjectVariety
    groups: npt.NDArray[np.int32]
    """(B, C) pattern indices of the template."""
    key: tuple[int, ...]
    """Seed of all that is random."""

    def _generator(self, *part: int) -> np.random.Generator:
        return np.random.default_rng([*self.key, *part])

    @cached_property
    def _placement(self) -> PatchPlacement:
        """Corners (B, C, 2) of the patches on this object, and remainders."""
        placement = self.template.placement
        corner = placement.corner[self.groups]
        low = corner.min(axis=1, keepdims=True)
        span = corner.max(axis=1, keepdims=True) - low
        room = self.side - self.template.scan.raw.N - span
        place = self._generator(0).integers(0, room, endpoint=True)
        return PatchPlacement(corner - low + place, placement.remainder[self.groups])

    @cached_property
    def side(self) -> int:
        """Side of the object in pixels."""
        return self.template.extent(self.groups) + SPARE * self.template.scan.raw.N

    @cached_property
    def truth(self) -> npt.NDArray[np.complex64]:
        """(side, side) the object in the engine's gauge: of mean intensity 1."""
        rng, variety = self._generator(1), self.variety
        absorption, phase = SMALLEST_STRENGTH ** rng.uniform(0, 1, 2)
        obj = make_object(
            self.family,
            (self.side, self.side),
            rng,
            absorption=variety.absorption * absorption,
            phase=variety.phase * phase,
        )
        return np.asarray(obj / np.sqrt(np.mean(np.abs(obj) ** 2)), dtype=np.complex64)

    @cached_property
    def _probe(self) -> npt.NDArray[np.complexfloating[Any, Any]]:
        """(P, N, N) the probe, of as many photons as a pattern is to hold."""
        rng, variety = self._generator(2), self.variety
        level = self.photons * variety.photon_factor ** rng.uniform(-1, 1)
        probe: npt.NDArray[np.complexfloating[Any, Any]] = self.template.scan.raw.probeGuess
        if variety.probe_variation > 0:
            probe = vary_probe(probe, rng, variety.probe_variation)
        probe = probe.astype(np.complex128)
        return np.asarray(probe * np.sqrt(level / np.sum(np.abs(probe) ** 2)))

    @cached_property
    def illumination(self) -> Illumination:
        """What the network is told of the probe: it is scaled as that of a measured scan is."""
        model: ModelConfig = self.template.model
        bad = self.template.scan.raw.bad_pixels
        probe = condition_probe(self._probe.astype(np.complex64), model)
        flat = np.ones((1, *probe.shape[-2:]), np.complex64)
        pattern = np.sqrt(predict_intensity(flat, self._probe, np.zeros((1, 2))))
        scale = measure_scale(pattern.astype(np.float32), probe, bad)
        return Illumination(probe * np.complex64(scale.probe_scale), self.template.good, scale.input_scale)

    def extent(self, groups: npt.NDArray[np.int32]) -> int:
        """Return the side in pixels of a square that holds the patches of any of the groups (b, 1)."""
        return self.template.extent(self.groups[groups.ravel()])

    def batch(self, groups: npt.NDArray[np.int32], extent: int | None = None) -> Batch:
        """Simulate groups (b, 1) of this object's, of a pass with that extent, or that are all of it."""
        chosen = groups.ravel()
        corner, remainder = self._placement.corner[chosen], self._placement.remainder[chosen]
        flat = PatchPlacement(corner.reshape(-1, 2), remainder.reshape(-1, 2))
        size = self.template.scan.raw.N
        patches = cut_patches(self.truth, flat, size)
        counts = self._generator(3, *chosen.tolist()).poisson(
            predict_intensity(patches, self._probe, flat.remainder)
        )
        amplitude = np.sqrt(counts).astype(np.float32)
        shape = (*corner.shape[:2], size, size)
        return Batch(
            illumination=self.illumination,
            amplitude=self.template.with_bad_filled(amplitude).reshape(shape),
            corner=corner,
            remainder=remainder.astype(np.float32),
            extent=self.extent(groups) if extent is None else extent,
            labels=patches.reshape(shape),
        )


def with_truth(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration for simulated objects, whose truth counts where nothing else is stated."""
    return config if config.realspace_mae_weight > 0 else replace(config, realspace_mae_weight=1.0)


def _photons_of(template: PreparedScan) -> float:
    """Return the mean counts per pattern of a scan, those in bad pixels added as the probe has them."""
    return float(template.scale.probe_scale**2 * np.sum(np.abs(template.probe) ** 2, dtype=np.float64))
