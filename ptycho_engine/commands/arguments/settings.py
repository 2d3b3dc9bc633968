"""Print all settings with their defaults as a settings file, or the JSON Schema of such files.

Editors that know JSON Schema complete and check a settings file by it.

examples:
  ptychopinn settings > run.toml
  ptychopinn train scan.npz --config run.toml --output model
  ptychopinn settings --json-schema > settings.schema.json
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn settings``."""
    parser.add_argument('--json-schema', action='store_true', help='print the JSON Schema instead')
