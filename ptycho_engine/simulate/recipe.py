"""A simulated scan from a specification: what `ptychopinn simulate` offers, for Python too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..config.choices import OBJECT_FAMILIES, PROBE_KINDS, SCAN_PATTERNS
from ..errors import ConfigError, DataValueError
from ..physics.geometry import ObjectGrid, wavelength_m
from ..scan.raw_data import RawData
from .detector import random_bad_pixels, simulate_scan
from .objects import make_object
from .probes import defocused_probe, with_incoherent_modes, zone_plate_probe
from .scans import make_positions
from .sources import read_mask, read_object, read_positions, read_probe

__all__ = ['Recipe']

MARGIN_PX = 4
"""Pixels of a made object beyond the outermost patches."""

Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
T = TypeVar('T')

USED_WITH = {
    'absorption': ('object', OBJECT_FAMILIES),
    'phase': ('object', OBJECT_FAMILIES),
    'size': ('probe', PROBE_KINDS),
    'probe_width_px': ('probe', ('defocused',)),
    'defocus_rad': ('probe', ('defocused',)),
    'central_stop': ('probe', PROBE_KINDS),
    'zone_width_m': ('probe', ('zone-plate',)),
    'defocus_m': ('probe', ('zone-plate',)),
    'points': ('scan', SCAN_PATTERNS),
    'step_px': ('scan', SCAN_PATTERNS),
    'jitter': ('scan', ('raster',)),
}
"""Wishes that matter only with some values of another."""


@dataclass(frozen=True)
class Recipe:
    """What a simulated scan is made of; None for the default.

    Raises
    ------
    ConfigError, DataValueError
        If a wish contradicts another, would have no effect, or is out of range.
    """

    source: Path | None = None
    """File that gives object, probe and positions, as far as the next three do not."""
    object: str | None = None
    """One of ``OBJECT_FAMILIES``, or a file."""
    probe: str | None = None
    """One of ``PROBE_KINDS``, or a file."""
    scan: str | None = None
    """One of ``SCAN_PATTERNS``, or a file."""
    absorption: float | None = None
    """Largest -log amplitude of a made object; 0.4."""
    phase: float | None = None
    """Its largest phase in radians; 0.8."""
    size: int | None = None
    """Side of a pattern in pixels; 64."""
    probe_width_px: float | None = None
    """Equivalent width of a defocused probe; 0.3 of the size."""
    defocus_rad: float | None = None
    """Phase at the edge of its pupil; 9."""
    central_stop: float | None = None
    """Radius of the central stop relative to the pupil's; 0.35."""
    zone_width_m: float | None = None
    """Outermost zone of a zone plate; 4 pixels."""
    defocus_m: float | None = None
    """Distance of the sample behind its focus; that at which the beam is 0.5 of the size wide."""
    modes: int | None = None
    """Incoherent modes, made from the first one; as they are."""
    mode_decay: float | None = None
    """Power of each next mode relative to the one before; 0.25."""
    points: str | None = None
    """How many positions, or rows x columns; 20x20."""
    step_px: float | None = None
    """Pixels between neighbours; 0.1 of the size."""
    jitter: float | None = None
    """Of a raster, relative to the step; 0.25."""
    positions_in_metres: bool = False
    """Whether a file of positions holds metres from the middle of the object."""
    photons: float = 1e5
    """Mean counts per pattern."""
    background: float = 0.0
    """More counts per pixel."""
    bad_pixels: str | None = None
    """Part of the pixels that is bad, or a file; none."""
    pixel_size_m: float = 5e-8
    """Object pixel."""
    photon_energy_ev: float = 1e4
    """Photon energy in eV."""
    seed: int = 0
    """Of all that is random."""

    def __post_init__(self) -> None:
        for name, default in (('object', 'dead-leaves'), ('probe', 'defocused'), ('scan', 'raster')):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default if self.source is None else str(self.source))
        for name in ('pixel_size_m', 'photon_energy_ev'):
            if not getattr(self, name) > 0:
                raise DataValueError(f'{_flag(name)} is {getattr(self, name)}; expected a positive number.')
        for name, (owner, values) in USED_WITH.items():
            chosen = getattr(self, owner)
            if getattr(self, name) is not None and chosen not in values:
                raise ConfigError(
                    f'{_flag(name)} has no effect with {_flag(owner)} {chosen}; it is for '
                    f'{", ".join(values)}.'
                )
        if self.mode_decay is not None and _given(self.modes, 1) == 1:
            raise ConfigError('--mode-decay has no effect without --modes 2 or more.')
        if self.positions_in_metres and self.scan in SCAN_PATTERNS:
            raise ConfigError(
                '--positions-in-metres has no effect without a file of positions (--scan FILE).'
            )

    def simulate(self) -> RawData:
        """Make the scan; `objectGuess` is the truth.

        Raises
        ------
        EngineError
            With a sentence, if a file is not there or wrong, or the parts do not fit together.
        """
        probe = self._probe()
        size = probe.shape[-1]
        obj, x, y = self._object_and_positions(size)
        return simulate_scan(
            obj,
            probe,
            x,
            y,
            photons=self.photons,
            rng=np.random.default_rng(self.seed),
            bad_pixels=self._bad_pixels(size),
            background=self.background,
        )

    def _generator(self, part: int) -> np.random.Generator:
        """Return a generator of its own for each part, so that changing one part leaves the others."""
        return np.random.default_rng([self.seed, part])

    def _probe(self) -> npt.NDArray[np.complex64]:
        size = _given(self.size, 64)
        if size < 8:
            raise DataValueError(f'--size is {size}; expected at least 8 pixels.')
        stop = _given(self.central_stop, 0.35)
        if self.probe == 'defocused':
            probe = defocused_probe(
                size,
                self._generator(2),
                width_px=_given(self.probe_width_px, 0.3 * size),
                defocus_rad=_given(self.defocus_rad, 9.0),
                central_stop=stop,
            )
        elif self.probe == 'zone-plate':
            wavelength = wavelength_m(self.photon_energy_ev)
            zone = _given(self.zone_width_m, 4 * self.pixel_size_m)
            half_wide = 0.5 * size * self.pixel_size_m * zone / wavelength
            probe = zone_plate_probe(
                size,
                self.pixel_size_m,
                wavelength,
                zone_width_m=zone,
                defocus_m=_given(self.defocus_m, half_wide),
                central_stop=stop,
            )
        else:
            probe = read_probe(_file('probe', self.probe, PROBE_KINDS))
        if self.modes is None:
            return probe
        return with_incoherent_modes(probe, self.modes, _given(self.mode_decay, 0.25))

    def _positions(self, size: int) -> Positions:
        """Return x and y in pixels: of the object where they come in pixels from a file, else around 0."""
        if self.scan not in SCAN_PATTERNS:
            path = _file('scan', self.scan, SCAN_PATTERNS)
            return read_positions(path, self.pixel_size_m if self.positions_in_metres else None)
        rows, columns = _shape(_given(self.points, '20x20'))
        step = _given(self.step_px, 0.1 * size)
        jitter = _given(self.jitter, 0.25)
        return make_positions(self.scan, rows, columns, step, self._generator(3), jitter=jitter)

    def _object_and_positions(
        self, size: int
    ) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the object, and the positions on it: a made object is as large as the scan needs."""
        x, y = self._positions(size)
        if self.object in OBJECT_FAMILIES:
            grid = ObjectGrid.around_scan(x, y, size)
            shape = grid.height + 2 * MARGIN_PX, grid.width + 2 * MARGIN_PX
            absorption, phase = _given(self.absorption, 0.4), _given(self.phase, 0.8)
            obj = make_object(self.object, shape, self._generator(1), absorption=absorption, phase=phase)
            return obj, x - grid.origin_x + MARGIN_PX, y - grid.origin_y + MARGIN_PX
        obj = read_object(_file('object', self.object, OBJECT_FAMILIES))
        if self.scan in SCAN_PATTERNS or self.positions_in_metres:
            x, y = x + (obj.shape[1] - 1) / 2, y + (obj.shape[0] - 1) / 2
        return obj, x, y

    def _bad_pixels(self, size: int) -> npt.NDArray[np.bool_] | None:
        if self.bad_pixels is None:
            return None
        try:
            part = float(self.bad_pixels)
        except ValueError:
            return read_mask(Path(self.bad_pixels))
        return random_bad_pixels(size, part, self._generator(4))


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _file(option: str, value: str | None, kinds: tuple[str, ...]) -> Path:
    """Return the file that a wish names where a kind was possible too."""
    path = Path(value or '')
    if not path.exists() and not path.suffix:
        raise ConfigError(f'--{option} is {value!r}, which is neither a file nor one of {", ".join(kinds)}.')
    return path


def _shape(text: str) -> tuple[int, int]:
    """Return rows and columns of 'N' (as square as can be) or 'RxC'."""
    found = re.fullmatch(r'(\d+)(?:\s*[x×]\s*(\d+))?', text.strip())
    if not found:
        raise ConfigError(
            f'--points is {text!r}; expected a number such as 400, or rows x columns such as 20x20.'
        )
    if found[2]:
        return int(found[1]), int(found[2])
    count = int(found[1])
    rows = next((r for r in range(int(count**0.5), 0, -1) if count % r == 0), 0)
    return rows, count // max(rows, 1)
