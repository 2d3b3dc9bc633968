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

from ..errors import ConfigError
from ..formats.archive import find_archive
from ..formats.packaged import PACKAGED_PRIOR, load_model
from ..formats.provenance import file_record
from ..io.atomic import atomic_path
from ..io.preflight import require_file_writable
from ..network.onnx_graph import IR_VERSION, OPSET, prior_as_onnx, require_onnx
from ..version import __version__
from .paragraph import say


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


def run(options: argparse.Namespace) -> None:
    """Write the file."""
    require_onnx()
    source = PACKAGED_PRIOR if options.model is None else find_archive(options.model)
    require_file_writable(options.output, inputs=[source])
    archive = load_model(options.model)
    architecture = archive.config.model.architecture
    if architecture != 'prior':
        raise ConfigError(
            f'{source} is a model of the architecture {architecture!r}; only a learned prior of objects '
            "('prior') is written as ONNX."
        )
    facts = {'ptychopinn': __version__, 'model_sha256': str(file_record(source)['sha256'])}
    written = prior_as_onnx(archive.weights, facts)
    with atomic_path(options.output) as path:
        path.write_bytes(written)
    say(
        f'Wrote {options.output}: {len(written) / 1e6:.1f} MB, opset {OPSET}, IR version {IR_VERSION}; '
        'object (B, 2, H, W) and deviation (B, 1, H, W) in, noise (B, 2, H, W) out.'
    )
