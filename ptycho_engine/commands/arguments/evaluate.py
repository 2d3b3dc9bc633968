"""Compare reconstructions with a known object, or with each other.

RESULT is a product, an NPZ file with objectGuess, a CXI file, or the output directory of `ptychopinn
reconstruct`. The scores are taken inside the scanned region, after a sub-pixel shift, a complex factor and a
phase ramp are removed. With --truth each result is compared with the known object; without it every result
with the first one: NRMSE, SSIM, and the Fourier ring correlation with the half-bit line. That says how far
results agree; two of the same patterns share their noise, so that it is no resolution.
With --scan the deviance of the measured patterns is computed too, under the result's own probe and positions.
Below the table stands what each reconstruction said of itself. Writes into the output directory
  scores.csv, scores.json   the table; without --truth the ring correlation too
  NAME.png                  truth, or the first result, beside the result, ring
                            correlation, losses or difference

examples:
  ptychopinn evaluate result --truth scan/truth.h5 --output scores
  ptychopinn evaluate a b --truth scan/truth.h5 --scan scan --output scores
  ptychopinn evaluate ours theirs/product.h5 --output agreement
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn evaluate``."""
    parser.add_argument('results', nargs='+', type=Path, metavar='RESULT', help='reconstructions')
    parser.add_argument(
        '--truth',
        type=Path,
        metavar='FILE',
        help='product, NPZ or CXI file with the known object (default: compare results with the first one)',
    )
    parser.add_argument('--scan', type=Path, metavar='SCAN', help='the scan that was reconstructed')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument('--json', action='store_true', help='print the table as JSON, for programs')
