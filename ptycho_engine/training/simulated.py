"""Training on simulated objects under a scan's own probe, positions, photon level and bad pixels."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..config import TrainingConfig
from ..errors import ConfigError, DataValueError
from ..formats.origin import ScanOrigin
from ..scan.raw_data import RawData
from ..scan.scan import Scan
from ..simulate import OBJECT_FAMILIES, make_object, simulate_scan, vary_probe
from ..whole_scan.scan_model import ScanModel
from .contrast import Contrast, measured_contrast
from .identity import combined, scan_identity, scan_origin
from .selection import Selection, draw_seed, select_patterns
from .sources import GroupedScan, SampledScan
from .subscan import GROUPS_OF_PART, draw_part

__all__ = ['UNKNOWN', 'ObjectVariety', 'SimulatedScans', 'with_truth']

logger = logging.getLogger('ptychopinn.train')

SPARE = 4
"""Pixels of an object beyond its outermost patches."""

VALIDATING_GROUPS, VALIDATING_DIVISOR = 96, 6
"""At least so many groups validate, or this part of those of an epoch where that is less."""

FAMILIES = ('composite', 'dead-leaves', 'composite', 'lines', 'composite', 'siemens', 'smooth')
"""Every other object is a composite: structures of all sizes at one place teach most."""

UNKNOWN = Contrast(absorption=0.7, phase=2.5)
"""Largest contrast of objects where no patterns say how much they change."""

BEYOND = 2.0
"""Largest contrast relative to that of objects that change patterns as much as the scan's: larger or smoother
shapes of the same contrast change them less."""

FAINTEST, STRONGEST = Contrast(0.1, 0.5), Contrast(1.5, 2.5)
"""The largest contrast lies between these: what hardly shows in patterns may still be there, and phases of
more than half a turn wrap."""


@dataclass(frozen=True)
class ObjectVariety:
    """What the simulated objects, doses and probes are drawn from.

    Raises
    ------
    ConfigError
        If a number is out of range, or a family of objects is unknown.
    """

    families: tuple[str, ...] = FAMILIES
    """Object families, taken in turn from epoch to epoch; a name may come more than once."""
    absorption: float | None = None
    """Largest -log amplitude; None for twice that at which simulated patterns differ as the scan's do
    (:func:`~.contrast.measured_contrast`)."""
    phase: float | None = None
    """Largest phase in radians; None for the same."""
    weakest: float = 1 / 3
    """Absorption and phase of an object relative to the largest lie between this and 1, log-uniform."""
    photon_factor: float = 3.0
    """Each object's photon level is the scan's times or divided by up to so much."""
    probe_variation: float = 0.0
    """How far probes differ from the scan's own (:func:`~..simulate.vary_probe`); 0 for not at all."""

    def __post_init__(self) -> None:
        for name, lowest in (('absorption', 0), ('phase', 0), ('photon_factor', 1), ('probe_variation', 0)):
            value = getattr(self, name)
            if value is not None and not lowest <= value < math.inf:
                raise ConfigError(f'{name} is {value}; expected a finite number, at least {lowest}.')
        if not 0 < self.weakest <= 1:
            raise ConfigError(f'weakest is {self.weakest}; expected above 0 and at most 1.')
        if not self.families or not set(self.families) <= set(OBJECT_FAMILIES):
            raise ConfigError(
                f'families is {self.families}; expected one or more of {", ".join(OBJECT_FAMILIES)}.'
            )


LEAST_LIGHT = 30.0
"""Mean counts of all patterns of a simulated object together, at least: of none nothing can be learned."""


class SimulatedScans:
    """Parts of given scans on simulated objects; the truth serves as labels.

    Objects are new in each epoch. Each is scanned at the positions of a part of a template, whatever the
    size of that scan, and groups are drawn from these.

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
        If `photons` is not positive and finite.
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
        if photons is not None and not 0 < photons < math.inf:
            raise ConfigError(f'photons is {photons}; expected a positive mean count per pattern.')
        self._config = config
        self._variety = variety or ObjectVariety()
        self._templates = [ScanModel(scan, config.model) for scan in scans]
        self._photons = [
            _photons_of(template) if photons is None else photons for template in self._templates
        ]

    @property
    def reference(self) -> ScanModel:
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
    def _largest(self) -> list[Contrast]:
        """The largest contrast of objects for each template."""
        return [
            _largest_contrast(template, photons, self._variety)
            for template, photons in zip(self._templates, self._photons, strict=True)
        ]

    @cached_property
    def _selections(self) -> list[Selection]:
        """All chosen patterns: a simulated object is new each time, so none need be kept apart."""
        return select_patterns([item.scan.raw for item in self._templates], self._config, 0.0)

    @property
    def _n_groups(self) -> int:
        return self._config.n_groups or sum(len(template) for template in self._templates)

    def training(self, epoch: int) -> list[SampledScan]:
        """Draw fresh objects for this epoch, for every template and of the families whose turn it is."""
        n_groups, n_templates = self._n_groups, len(self._templates)
        count = max(round(n_groups / GROUPS_OF_PART), n_templates)
        bounds = np.linspace(0, max(n_groups, count), count + 1).astype(int)
        families = self._variety.families
        return [
            # The epoch turns the templates against the families.
            self._object(
                families[((epoch - 1) * count + number) % len(families)],
                (number + epoch) % n_templates,
                size,
                (epoch, number),
            )
            for number, size in enumerate(np.diff(bounds).tolist())
        ]

    def validation(self) -> list[GroupedScan]:
        """One object of each family that training never sees; none where no fraction is to be kept."""
        part = self._config.validation_fraction * self._n_groups
        if part == 0:
            return []
        families = list(dict.fromkeys(self._variety.families))
        # Simulated patterns cost little, and few groups would call a chance the best epoch.
        wanted = min(VALIDATING_GROUPS, self._n_groups // VALIDATING_DIVISOR)
        share = max(math.ceil(max(part, wanted) / len(families)), 2)
        return [
            self._object(family, number % len(self._templates), share, (0, number)).ready()
            for number, family in enumerate(families)
        ]

    def _object(self, family: str, template: int, n_groups: int, key: tuple[int, int]) -> SampledScan:
        """Scan an object at a part of a template's positions and draw groups from these."""
        config = self._config
        raw, whole = self._templates[template].scan.raw, self._selections[template].training
        part = draw_part(raw, whole, config, n_groups, draw_seed(config, *key))

        def make() -> ScanModel:
            scan = Scan.from_raw(self._scan(family, template, part.members, (config.seed, *key)))
            return ScanModel(scan, config.model, has_truth=True)

        return SampledScan(make, part.groups)

    def _scan(self, family: str, template: int, near: npt.NDArray[np.int64], key: tuple[int, ...]) -> RawData:
        """Simulate a part of a template on a new object."""
        objects, doses = (np.random.default_rng([*key, part]) for part in (1, 2))
        raw, variety = self._templates[template].scan.raw, self._variety
        x, y = raw.xcoords[near], raw.ycoords[near]
        shape = (_side(y, raw.N), _side(x, raw.N))
        absorption, phase = variety.weakest ** objects.uniform(0, 1, 2)
        largest = self._largest[template]
        obj = make_object(
            family, shape, objects, absorption=largest.absorption * absorption, phase=largest.phase * phase
        )
        probe = raw.probeGuess
        if variety.probe_variation > 0:
            probe = vary_probe(probe, doses, variety.probe_variation)
        simulated = simulate_scan(
            obj,
            probe,
            x - (x.min() + x.max()) / 2 + (shape[1] - 1) / 2,
            y - (y.min() + y.max()) / 2 + (shape[0] - 1) / 2,
            photons=max(
                self._photons[template] * variety.photon_factor ** doses.uniform(-1, 1),
                LEAST_LIGHT / len(near),
            ),
            rng=doses,
            bad_pixels=raw.bad_pixels,
        )
        return replace(simulated, source=f'{family} under the probe of {raw.source}')


def _largest_contrast(template: ScanModel, photons: float, asked: ObjectVariety) -> Contrast:
    """Return the largest contrast of the objects for a scan, as asked for or as its patterns suggest."""
    if asked.absorption is not None and asked.phase is not None:
        return Contrast(asked.absorption, asked.phase)
    found = measured_contrast(template, photons)
    largest = UNKNOWN if found is None else found.times(BEYOND).within(FAINTEST, STRONGEST)
    if asked.absorption is not None:
        largest = replace(largest, absorption=asked.absorption)
    if asked.phase is not None:
        largest = replace(largest, phase=asked.phase)
    logger.info(
        'Simulated objects have a -log amplitude of up to %.2g and a phase of up to %.2g rad%s.',
        largest.absorption,
        largest.phase,
        '' if found is None else ', as the patterns suggest',
    )
    return largest


def _side(positions: npt.NDArray[np.float64], size: int) -> int:
    """Return the side in pixels of an object that holds the patches at some positions along an axis."""
    return int(np.ceil(np.ptp(positions))) + size + SPARE


def with_truth(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration for simulated objects, whose truth counts where nothing else is stated."""
    return config if config.realspace_mae_weight > 0 else replace(config, realspace_mae_weight=1.0)


def _photons_of(template: ScanModel) -> float:
    """Return the mean counts per pattern of a scan, those in bad pixels added as the probe has them."""
    return float(np.sum(np.abs(template.illumination.probe) ** 2, dtype=np.float64))
