"""Check a product file against every rule of its contract."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..formats.product_validation import find_violations
from .paragraph import complain, say_json

EXIT_INVALID = 1


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
