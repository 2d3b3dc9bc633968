"""Write the first positions of a scan as a small fixed file for tests."""

from __future__ import annotations

import argparse

from ..io.preflight import require_file_writable
from ..upstream.fixture import make_fixture
from .paragraph import say


def run(options: argparse.Namespace) -> None:
    """Write the fixture and its description."""
    for path in (options.output, options.metadata_out):
        if path is not None:
            require_file_writable(path)
    record = make_fixture(options.source, options.output, options.subset_size, options.metadata_out)
    say(f'Wrote {record["subset_size"]} positions to {options.output}, SHA-256 {record["sha256_checksum"]}.')
