"""Train a network on scans and write the model wts.h5.zip, and train.toml, which repeats the run.

No scan needs it: `ptychopinn reconstruct` has a learned prior, and this adapts that to the scans where they
say more than it knows. Where no epoch predicts pixels that were kept from it better, it stays as it is, which
a line of the log says. --architecture cnn trains PtychoPINN's first network instead, for comparison.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5), or a directory of NPZ
files; several may be given if their patterns have one size. Ctrl-C stops and keeps the best model so far; so
do SIGTERM and SIGHUP, as of a queueing system or a closed connection. One run may write into DIR at a time.

With --simulate-from no scan is needed: objects of several kinds are simulated under the probe, the positions
and the photon level of a product (with or without diffraction.h5) or of an NPZ file with a probe. The model
is ready before the first frame; --start-from trains it further on the scan, when there is one.

After each epoch checkpoint.zip holds what --resume needs to go on as if the run had never ended.

examples:
  ptychopinn train scan --output model --epochs 20
  ptychopinn train scan --output model --epochs 20 --resume
  ptychopinn train scan --output again --config model/train.toml
  ptychopinn train --simulate-from product.h5 --output before
  ptychopinn train scan --start-from before --output after
"""

from __future__ import annotations

from pathlib import Path

from ...config.choices import OBJECT_FAMILIES
from ..options import CommandParser, add_settings
from .inputs import add_inputs


def add_arguments(parser: CommandParser) -> None:
    """Declare the options of ``ptychopinn train``."""
    parser.add_argument('inputs', nargs='*', type=Path, metavar='INPUT', help='scans to train on')
    parser.add_argument('--output', type=Path, metavar='DIR', help='for wts.h5.zip; to be given')
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on from the last epoch of the run in DIR, with the same scans and settings; --epochs may be '
        'larger than it was',
    )
    parser.add_argument(
        '--start-from',
        type=Path,
        metavar='MODEL',
        help='train this model further; it must be the network that is asked for',
    )
    parser.add_argument(
        '--universal',
        action='store_true',
        help='in place of INPUT: make the prior of the package anew, on simulated objects alone; '
        'an epoch is 250 batches, and only --epochs, --seed and the device count',
    )
    add_inputs(parser)
    _add_simulation(parser)
    add_settings(parser, 'train')


def _add_simulation(parser: CommandParser) -> None:
    """Add what is trained on where there is no scan."""
    group = parser.add_argument_group('training without a scan')
    group.add_argument(
        '--simulate-from',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='in place of INPUT: train on simulated objects with the probe, positions, photon level and bad '
        'pixels of these products, NPZ files or directories; several give one model for all their probes',
    )
    group.add_argument(
        '--photons',
        type=float,
        metavar='X',
        help='mean counts per pattern (default: that of the patterns, else what the product says, else the '
        "probe's power); objects get up to three times more and less",
    )
    group.add_argument(
        '--families',
        nargs='+',
        choices=OBJECT_FAMILIES,
        metavar='NAME',
        help=f'kinds of objects, taken in turn: {", ".join(OBJECT_FAMILIES)} (default: composites every '
        'other time, the others between them)',
    )
    group.add_argument(
        '--absorption',
        type=float,
        metavar='X',
        help='largest -log amplitude of the objects (default: twice what the patterns suggest; '
        '0.7 without patterns)',
    )
    group.add_argument(
        '--phase',
        type=float,
        metavar='RAD',
        help='their largest phase (default: twice what the patterns suggest; 2.5 without patterns)',
    )
    group.add_argument(
        '--vary-probe',
        type=float,
        metavar='X',
        help='also train on probes that differ from the given ones: 1 stands for about 1 rad of defocus '
        'and 10 %% of the width (default: 0)',
    )
