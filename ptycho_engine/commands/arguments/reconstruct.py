"""Reconstruct scans with the learned prior that comes with the package, or with a trained model.

INPUT is an NPZ file, a Ptychodus directory (diffraction.h5 and product.h5) or a CXI file; with --positions
the patterns alone, in any file that Ptychodus reads. Writes into the output directory or, where several scans
are given, each reconstructed by itself, into a folder of it for each
  reconstruction.npz   object, illumination, uncertainty, positions, and how
                       they came about
  reconstruction.png   amplitude, phase, illumination and uncertainty
  product.h5           a Ptychodus product; an NPZ file without pixel sizes
                       gets estimated ones, as from convert-product
with --formats also
  reconstruction_amplitude.tif, reconstruction_phase.tif, reconstruction.cxi
and with --truth what `ptychopinn evaluate` writes: scores and a figure.
Of several scans one that fails does not end the list; a table at the end says what became of each, and the
exit code is 1 if any failed. --continue passes over those that are done; --shard 2/8 takes a share of the
list, such as that of one task of a Slurm array.

examples:
  ptychopinn reconstruct scan --output result
  ptychopinn reconstruct scan --model model --output out --truth scan/truth.h5
  ptychopinn reconstruct a.npz b.npz --model model --output results --continue
  ptychopinn reconstruct frames_0001.tif --positions stage.csv \\
    --energy-eV 8800 --distance-m 2 --pixel-size-m 55e-6 --output result
"""

from __future__ import annotations

from pathlib import Path

from ..many_scans import Shard
from ..options import CommandParser, add_settings
from .inputs import add_inputs

__all__ = ['MORE_FILES', 'add_arguments']

MORE_FILES = {
    'tiff': ('reconstruction_amplitude.tif', 'reconstruction_phase.tif'),
    'cxi': ('reconstruction.cxi',),
}
"""What ``--formats`` adds."""


def add_arguments(parser: CommandParser) -> None:
    """Declare the options of ``ptychopinn reconstruct``."""
    parser.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='the scans')
    parser.add_argument(
        '--model',
        type=Path,
        metavar='MODEL',
        help='wts.h5.zip, or the directory that holds it; "none" for physics alone (default: the prior that '
        'comes with the package, which needs no training)',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument(
        '--truth',
        type=Path,
        metavar='FILE',
        help='product or NPZ file with the known object of the scan, to score with',
    )
    parser.add_argument(
        '--start-from-object',
        type=Path,
        metavar='FILE',
        help='begin at the object of this product, NPZ or CXI file, such as an earlier result, and not at a '
        'flat one; it is resampled where it lies on other pixels',
    )
    parser.add_argument(
        '--formats',
        nargs='+',
        choices=tuple(MORE_FILES),
        default=(),
        metavar='FORMAT',
        help=f'write the result in these formats too: {", ".join(MORE_FILES)}',
    )
    parser.add_argument(
        '--shard',
        type=Shard.parse,
        metavar='I/N',
        help='of N shares of the scans reconstruct the I-th alone, I from 1 to N; folders have the names '
        'that they have without it',
    )
    parser.add_argument(
        '--continue',
        action='store_true',
        dest='go_on',
        help='pass over scans whose result is there already: of the same files by their SHA-256, by the same '
        'model and settings; another result in its place is an error, and is left as it is',
    )
    add_inputs(parser)
    add_settings(parser, 'reconstruct')
