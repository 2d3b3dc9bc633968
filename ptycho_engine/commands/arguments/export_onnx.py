"""Write a learned prior as an ONNX file, for onnxruntime, TensorRT and what else reads that format.

MODEL is wts.h5.zip or the directory that holds it; without it, the prior that comes with the package. The
file takes objects (B, 2, H, W), real and imaginary part, and the standard deviation of their noise
(B, 1, H, W), and returns the noise (B, 2, H, W); H and W are multiples of 8. It is of opset 17.

example:
  ptychopinn export-onnx --output prior.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn export-onnx``."""
    parser.add_argument(
        'model',
        nargs='?',
        type=Path,
        metavar='MODEL',
        help='a prior of objects (default: the prior that comes with the package)',
    )
    parser.add_argument('--output', type=Path, required=True, metavar='ONNX', help='the file to write')
