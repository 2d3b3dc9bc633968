"""Check a Ptychodus product file against every rule of the product contract.

Prints a JSON summary: name, number of positions, shapes of probe and object. A file that breaks the contract
ends in exit code 1 with every broken rule, one sentence each, in the summary and as messages. What is no
breach but may trouble another program is a warning.

example:
  ptychopinn validate-product product.h5
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..formats.product_validation import find_violations
from .paragraph import complain, say_json

EXIT_INVALID = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn validate-product``."""
    parser.add_argument('file', type=Path, metavar='FILE', help='the product file')


def run(options: argparse.Namespace) -> int:
    """Check the file; returns 0 if it is valid, else 1."""
    verdict = find_violations(options.file)
    summary = asdict(verdict.summary)
    if verdict.violations:
        summary['violations'] = list(verdict.violations)
    if verdict.warnings:
        summary['warnings'] = list(verdict.warnings)
    say_json(summary)
    for violation in verdict.violations:
        complain(f'{options.file}: {violation}')
    for warning in verdict.warnings:
        complain(f'{options.file}: warning: {warning}')
    return EXIT_INVALID if verdict.violations else 0
