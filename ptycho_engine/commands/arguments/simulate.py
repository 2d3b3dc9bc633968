"""Simulate a scan: object, probe, positions and photons.

Object, probe and positions are made, or taken from files: NPZ (objectGuess,
probeGuess, xcoords and ycoords), .npy, Ptychodus products (.h5), and text with
two columns x and y for positions. Equal options give equal files. Writes into
the output directory
  scan.npz         the scan for `ptychopinn train` (DATA-001)
  diffraction.h5   the counts             } together a Ptychodus directory for
  product.h5       probe, positions and   } `ptychodus -b train -i DIR -o OUT`
                   a flat object          }
  settings.ini     selects PtychoPINN     }
  truth.h5         a product with the true object, to compare with

examples:
  ptychopinn simulate --output scan --object siemens --scan spiral --points 400
  ptychopinn simulate --output scan --probe zone-plate --modes 3
  ptychopinn simulate --output scan --from other/scan.npz --photons 1e4
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...config.choices import OBJECT_FAMILIES, PROBE_KINDS, SCAN_PATTERNS


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
    _add_object(parser)
    _add_probe(parser)
    _add_positions(parser)
    _add_detector(parser)
    _add_units_and_settings(parser)


def _add_object(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('object')
    group.add_argument(
        '--object',
        metavar='KIND|FILE',
        help=f'{", ".join(OBJECT_FAMILIES)}, or a file (default: dead-leaves)',
    )
    group.add_argument(
        '--with-truth',
        action='store_true',
        help='leave the true object in scan.npz and product.h5, for supervised training',
    )
    group.add_argument('--absorption', type=float, metavar='A', help='largest -log amplitude (default: 0.4)')
    group.add_argument('--phase', type=float, metavar='RAD', help='largest phase in radians (default: 0.8)')


def _add_probe(parser: argparse.ArgumentParser) -> None:
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


def _add_positions(parser: argparse.ArgumentParser) -> None:
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


def _add_detector(parser: argparse.ArgumentParser) -> None:
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


def _add_units_and_settings(parser: argparse.ArgumentParser) -> None:
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
