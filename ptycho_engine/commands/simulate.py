"""Simulate a scan: object, probe, positions and photons.

Object, probe and positions are made, or taken from files: NPZ (objectGuess, probeGuess, xcoords and ycoords),
.npy, Ptychodus products (.h5), and text with two columns x and y for positions. Equal options give equal
files. Writes into the output directory
  scan.npz         the scan for `ptychopinn train` (DATA-001; a flat object)
  diffraction.h5   the counts            } together a Ptychodus directory, ready for
  product.h5       probe, positions and  } `ptychodus -b train -i DIR -o OUT`
                   a flat object         }
  settings.ini     selects PtychoPINN    }
  truth.h5         a product with the true object, to compare with

examples:
  ptychopinn simulate --output scan --object siemens --scan spiral --points 400 --photons 1e5
  ptychopinn simulate --output scan --probe zone-plate --modes 3 --background 0.1 --bad-pixels 0.01
  ptychopinn simulate --output scan --from run.npz --photons 1e4
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DataValueError
from ..physics.geometry import ObjectGrid
from ..simulate import (
    OBJECT_FAMILIES,
    SCAN_PATTERNS,
    defocused_probe,
    make_object,
    make_positions,
    random_bad_pixels,
    simulate_scan,
    with_incoherent_modes,
    zone_plate_probe,
)
from ..simulate.directory import settings_text, wavelength_m, write_scan
from ..simulate.sources import read_mask, read_object, read_positions, read_probe

PROBE_KINDS = ('defocused', 'zone-plate')
MARGIN_PX = 4
"""Pixels of a made object beyond the outermost patches."""

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
"""Options that matter only with some values of another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn simulate``."""
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument(
        '--from',
        dest='source',
        type=Path,
        metavar='FILE',
        help='file that gives object, probe and positions, as far as no other option does',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all that is random (default: 0)')

    group = parser.add_argument_group('object')
    group.add_argument(
        '--object',
        metavar='KIND|FILE',
        help=f'{", ".join(OBJECT_FAMILIES)}, or a file (default: dead-leaves)',
    )
    group.add_argument('--absorption', type=float, metavar='A', help='largest -log amplitude (default: 0.4)')
    group.add_argument('--phase', type=float, metavar='RAD', help='largest phase in radians (default: 0.8)')

    group = parser.add_argument_group('probe')
    group.add_argument(
        '--probe', metavar='KIND|FILE', help=f'{", ".join(PROBE_KINDS)}, or a file (default: defocused)'
    )
    group.add_argument('--size', type=int, metavar='N', help='side of a pattern in pixels (default: 64)')
    group.add_argument(
        '--probe-width-px', type=float, metavar='PX', help='equivalent width of defocused (default: 0.3 size)'
    )
    group.add_argument(
        '--defocus-rad', type=float, metavar='RAD', help='phase at the edge of its pupil (default: 9)'
    )
    group.add_argument(
        '--central-stop', type=float, metavar='R', help='relative to the pupil, 0 to below 1 (default: 0.35)'
    )
    group.add_argument(
        '--zone-width-m', type=float, metavar='M', help='outermost zone of zone-plate (default: 4 pixels)'
    )
    group.add_argument(
        '--defocus-m',
        type=float,
        metavar='M',
        help='sample behind its focus, before it as --defocus-m=-1e-3 (default: beam 0.5 size wide)',
    )
    group.add_argument(
        '--modes', type=int, metavar='P', help='incoherent modes, made from the first one (default: as it is)'
    )
    group.add_argument(
        '--mode-decay',
        type=float,
        metavar='R',
        help='power of each next mode to the one before (default: 0.25)',
    )

    group = parser.add_argument_group('positions')
    group.add_argument(
        '--scan', metavar='KIND|FILE', help=f'{", ".join(SCAN_PATTERNS)}, or a file (default: raster)'
    )
    group.add_argument('--points', metavar='N|RxC', help='how many, or rows x columns (default: 20x20)')
    group.add_argument(
        '--step-px', type=float, metavar='PX', help='between neighbours (default: 0.1 of the pattern)'
    )
    group.add_argument(
        '--jitter', type=float, metavar='J', help='of a raster, uniform within ± J steps (default: 0.25)'
    )
    group.add_argument(
        '--positions-in-metres',
        action='store_true',
        help='a file of positions holds metres from the middle of the object, not pixels',
    )

    group = parser.add_argument_group('detector')
    group.add_argument('--photons', type=float, default=1e5, help='mean counts per pattern (default: 1e5)')
    group.add_argument(
        '--background', type=float, default=0.0, metavar='B', help='more counts per pixel (default: 0)'
    )
    group.add_argument(
        '--bad-pixels',
        metavar='PART|FILE',
        help='part of the pixels, 0 to below 1, or a file (default: none)',
    )

    group = parser.add_argument_group('units and settings')
    group.add_argument(
        '--pixel-size-m', type=float, default=5e-8, help='object pixel in metres (default: 5e-8)'
    )
    group.add_argument(
        '--photon-energy-ev', type=float, default=1e4, help='photon energy in eV (default: 1e4)'
    )
    group.add_argument(
        '--detector-distance-m', type=float, default=2.0, help='metres to the detector (default: 2)'
    )
    group.add_argument('--epochs', type=int, default=20, help='NumEpochs in settings.ini (default: 20)')
    group.add_argument('--gridsize', type=int, default=1, help='GridSize in settings.ini (default: 1)')


def run(options: argparse.Namespace) -> None:
    """Simulate and write all files."""
    for name in ('pixel_size_m', 'photon_energy_ev', 'detector_distance_m'):
        if not getattr(options, name) > 0:
            raise DataValueError(f'{_flag(name)} is {getattr(options, name)}; expected a positive number.')
    _complete(options)
    probe = _probe(options, _generator(options, 2))
    x, y, centred = _positions(options, probe.shape[-1], _generator(options, 3))
    obj, x, y = _object(options, x, y, centred, probe.shape[-1], _generator(options, 1))
    raw = simulate_scan(
        obj,
        probe,
        x,
        y,
        photons=options.photons,
        rng=np.random.default_rng(options.seed),
        bad_pixels=_bad_pixels(options, probe.shape[-1], _generator(options, 4)),
        background=options.background,
    )
    write_scan(
        options.output,
        raw,
        name=options.output.name if options.source is None else options.source.stem,
        pixel_size_m=options.pixel_size_m,
        photon_energy_eV=options.photon_energy_ev,
        detector_distance_m=options.detector_distance_m,
        settings=settings_text(options.epochs, options.gridsize),
    )
    print(
        f'Wrote {len(raw)} patterns of {raw.N}×{raw.N} pixels, {options.photons:g} counts each, to '
        f'{options.output}.'
    )


def _flag(name: str) -> str:
    return '--' + name.replace('_', '-')


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _generator(options: argparse.Namespace, part: int) -> np.random.Generator:
    """Return a generator of its own for each part, so that changing one part leaves the others."""
    return np.random.default_rng([options.seed, part])


def _complete(options: argparse.Namespace) -> None:
    """Fill in what object, probe and scan are, and refuse options that would have no effect."""
    for name, default in (('object', 'dead-leaves'), ('probe', 'defocused'), ('scan', 'raster')):
        if getattr(options, name) is None:
            setattr(options, name, default if options.source is None else str(options.source))
    for name, (owner, values) in USED_WITH.items():
        chosen = getattr(options, owner)
        if getattr(options, name) is not None and chosen not in values:
            raise ConfigError(
                f'{_flag(name)} has no effect with {_flag(owner)} {chosen}; it is for {", ".join(values)}.'
            )
    if options.mode_decay is not None and _given(options.modes, 1) == 1:
        raise ConfigError('--mode-decay has no effect without --modes 2 or more.')
    if options.positions_in_metres and options.scan in SCAN_PATTERNS:
        raise ConfigError('--positions-in-metres has no effect without a file of positions (--scan FILE).')


def _file(option: str, value: str, kinds: tuple[str, ...]) -> Path:
    """Return the file that an option names where a kind was possible too."""
    path = Path(value)
    if not path.exists() and not path.suffix:
        raise ConfigError(f'--{option} is {value!r}, which is neither a file nor one of {", ".join(kinds)}.')
    return path


def _probe(options: argparse.Namespace, rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    size = _given(options.size, 64)
    if size < 8:
        raise DataValueError(f'--size is {size}; expected at least 8 pixels.')
    stop = _given(options.central_stop, 0.35)
    pixel = options.pixel_size_m
    make: dict[str, Callable[[], npt.NDArray[np.complex64]]] = {
        'defocused': lambda: defocused_probe(
            size,
            rng,
            width_px=_given(options.probe_width_px, 0.3 * size),
            defocus_rad=_given(options.defocus_rad, 9.0),
            central_stop=stop,
        ),
        'zone-plate': lambda: zone_plate_probe(
            size,
            pixel,
            wavelength_m(options.photon_energy_ev),
            zone_width_m=_given(options.zone_width_m, 4 * pixel),
            defocus_m=_given(
                options.defocus_m,
                0.5
                * size
                * pixel
                * _given(options.zone_width_m, 4 * pixel)
                / wavelength_m(options.photon_energy_ev),
            ),
            central_stop=stop,
        ),
    }
    chosen = make.get(options.probe)
    probe = read_probe(_file('probe', options.probe, PROBE_KINDS)) if chosen is None else chosen()
    if options.modes is not None:
        probe = with_incoherent_modes(probe, options.modes, _given(options.mode_decay, 0.25))
    return probe


def _positions(
    options: argparse.Namespace, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]:
    """Return x and y in pixels, and whether they count from the middle of the object."""
    if options.scan in SCAN_PATTERNS:
        rows, columns = _shape(_given(options.points, '20x20'))
        step = _given(options.step_px, 0.1 * size)
        jitter = _given(options.jitter, 0.25)
        return *make_positions(options.scan, rows, columns, step, rng, jitter=jitter), True
    path = _file('scan', options.scan, SCAN_PATTERNS)
    metres = options.positions_in_metres
    return *read_positions(path, options.pixel_size_m if metres else None), metres


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


def _object(
    options: argparse.Namespace,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    centred: bool,
    size: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the object, and the positions on it: a made object is as large as the scan needs."""
    if options.object not in OBJECT_FAMILIES:
        obj = read_object(_file('object', options.object, OBJECT_FAMILIES))
        if centred:
            x, y = x + (obj.shape[1] - 1) / 2, y + (obj.shape[0] - 1) / 2
        return obj, x, y
    grid = ObjectGrid.around_scan(x, y, size)
    obj = make_object(
        options.object,
        (grid.height + 2 * MARGIN_PX, grid.width + 2 * MARGIN_PX),
        rng,
        absorption=_given(options.absorption, 0.4),
        phase=_given(options.phase, 0.8),
    )
    return obj, x - grid.origin_x + MARGIN_PX, y - grid.origin_y + MARGIN_PX


def _bad_pixels(
    options: argparse.Namespace, size: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_] | None:
    text = options.bad_pixels
    if text is None:
        return None
    try:
        part = float(text)
    except ValueError:
        return read_mask(Path(text))
    return random_bad_pixels(size, part, rng)
