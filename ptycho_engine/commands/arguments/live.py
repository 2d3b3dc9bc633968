"""Show the image of a scan while it runs, and reconstruct the whole of it at the end.

SOURCE is the frames as they are written: a dataset of a growing HDF5 file, FILE::KEY, whose writer uses the
SWMR mode, or a folder that fills with TIFF or NPY files, one for each frame; or as an Eiger detector sends
them, zmq://HOST:PORT. Their positions come with --positions: a dataset (n, 2), FILE::KEY, or a text file,
that grows too, or the samples of a PandABox, zmq://HOST:PORT?x=FIELD&y=FIELD, the n-th for the n-th frame;
they may be late.
--replay SCAN plays a scan that is there already. Into the output directory go, every few seconds,
  so_far.png, product.h5   the image so far
and at the end what `ptychopinn reconstruct` writes of the same frames. Ctrl-C ends the scan, not the run:
what came is reconstructed; once more and nothing is.

examples:
  ptychopinn live --replay IN --rate 200 --output live --web 8000
  ptychopinn live run.h5::frames --positions run.h5::stage --probe probe.npy \\
    --object-pixel-size-m 1e-8 --output live
"""

from __future__ import annotations

from pathlib import Path

from ..options import CommandParser, add_settings
from .inputs import add_inputs


def add_arguments(parser: CommandParser) -> None:
    """Declare the options of ``ptychopinn live``."""
    parser.add_argument('source', nargs='?', metavar='SOURCE', help='the frames, as they are written')
    parser.add_argument('--replay', type=Path, metavar='SCAN', help='play this scan in place of SOURCE')
    parser.add_argument(
        '--rate', type=float, metavar='HZ', help='frames a second of --replay (default: as they are taken)'
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='output directory')
    parser.add_argument(
        '--model',
        type=Path,
        metavar='MODEL',
        help='a prior of objects; "none" for physics alone (default: the prior that comes with the package)',
    )
    parser.add_argument('--frames', type=int, metavar='N', help='end after so many frames')
    parser.add_argument(
        '--idle',
        type=float,
        default=60.0,
        metavar='S',
        help='end after so many seconds without a new frame (default: 60)',
    )
    parser.add_argument(
        '--every',
        type=float,
        default=5.0,
        metavar='S',
        help='write the image so far every so many seconds (default: 5)',
    )
    parser.add_argument(
        '--web',
        type=int,
        metavar='PORT',
        help='serve a page to watch at http://127.0.0.1:PORT/, for this machine alone; 0 for any free port',
    )
    add_inputs(parser, units=False)
    add_settings(parser, 'live')
