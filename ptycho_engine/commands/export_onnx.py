"""Write a learned prior as an ONNX file."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from ..formats.archive import find_archive
from ..formats.packaged import PACKAGED_PRIOR, load_model
from ..formats.provenance import file_record
from ..io.atomic import atomic_path
from ..io.preflight import require_file_writable
from ..network.onnx_graph import IR_VERSION, OPSET, prior_as_onnx, require_onnx
from ..version import __version__
from .paragraph import say


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
