"""Options that say how scans are read: their files, geometry and units."""

from __future__ import annotations

import argparse
from typing import get_args

from ...config.choices import DOMAINS, MeasurementDomain, PositionOrder, Squaring

__all__ = ['ESTIMATE', 'UNITS', 'add_inputs']

ESTIMATE = 'estimate'
UNITS = {'m': 1.0, 'mm': 1e-3, 'um': 1e-6, 'nm': 1e-9, 'px': 1.0}


def add_inputs(parser: argparse.ArgumentParser, *, units: bool = True) -> None:
    """Add the options that say how a scan is read: its files, its geometry and its units.

    Parameters
    ----------
    units : bool
        Whether to add ``--domain`` and ``--nphotons`` too.
    """
    _add_verify(parser)
    if units:
        _add_stated(parser)
    group = parser.add_argument_group(
        'files of other programs',
        'With --positions, INPUT is the patterns alone: a file that Ptychodus reads (any member of a series '
        'of TIFF files), or an array of an NPZ, NPY or HDF5 file, named FILE::KEY.',
    )
    group.add_argument(
        '--positions',
        metavar='FILE',
        help='positions of the probe: a file that Ptychodus reads, a product, or FILE::KEY; with --reader '
        'alone they are looked for in INPUT',
    )
    group.add_argument(
        '--probe',
        metavar=f'FILE|{ESTIMATE}',
        help='probe: a product, an NPZ file with probeGuess, an NPY file, FILE::KEY, or another file that '
        f'Ptychodus reads; "{ESTIMATE}" makes one from the mean pattern, with the focus that held-out pixels '
        'choose (default: that of INPUT or of the positions, else estimate)',
    )
    group.add_argument(
        '--reader',
        metavar='NAME',
        help='reader of Ptychodus for the patterns, and for the positions if there is one of that name '
        '(default: the one that can read the file); a wrong name lists all',
    )
    group.add_argument(
        '--positions-reader', metavar='NAME', help='reader of Ptychodus for the positions alone'
    )
    group.add_argument(
        '--positions-unit',
        choices=tuple(UNITS),
        metavar='UNIT',
        help=f'of positions that are an array or text: {", ".join(UNITS)} (pixels of the object; default: m)',
    )
    group.add_argument(
        '--positions-order',
        choices=get_args(PositionOrder),
        metavar='ORDER',
        help='of the columns of an array of positions: yx or xy (default: yx)',
    )
    group.add_argument(
        '--mirror',
        choices=('x', 'y', 'xy'),
        metavar='AXES',
        help='axes of the stage, x, y or xy, that run against the columns or rows of the detector',
    )
    _add_geometry(group)


def _add_geometry(group: argparse._ArgumentGroup) -> None:
    """Add the lengths and the energy, and how patterns and positions are brought together."""
    energy = ('--energy-eV', '--energy-ev')
    group.add_argument(*energy, dest='energy_eV', type=float, metavar='EV', help='photon energy')
    group.add_argument('--distance-m', type=float, metavar='M', help='from object to detector')
    group.add_argument('--pixel-size-m', type=float, metavar='M', help='side of a pixel of the detector')
    group.add_argument(
        '--object-pixel-size-m',
        type=float,
        metavar='M',
        help='side of a pixel of the object, where it does not follow from energy, distance and detector',
    )
    group.add_argument(
        '--square',
        choices=get_args(Squaring),
        metavar='HOW',
        help='what to do with patterns that are not square: "crop" keeps their middle, "pad" adds pixels '
        'that are marked bad',
    )
    group.add_argument(
        '--match-first',
        action='store_true',
        help='where there are more patterns than positions, or the reverse: the first ones belong together',
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    """Add ``--verify``."""
    parser.add_argument(
        '--verify',
        action='store_true',
        help='read the scans once from end to end beforehand, and hold them against their checksums',
    )


def _add_stated(parser: argparse.ArgumentParser) -> None:
    """Add ``--domain`` and ``--nphotons``."""
    parser.add_argument(
        '--domain',
        choices=DOMAINS,
        metavar='DOMAIN',
        help=f'what the patterns are: {", ".join(get_args(MeasurementDomain))} (default: what the file or '
        'the values say)',
    )
    parser.add_argument(
        '--nphotons',
        type=float,
        metavar='X',
        help='mean counts of a pattern, to which they are scaled (default: what the patterns say)',
    )
