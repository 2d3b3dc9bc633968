"""Print all settings with their defaults as a settings file, or the JSON Schema of such files.

Editors that know JSON Schema complete and check a settings file by it.

examples:
  ptychopinn settings > run.toml
  ptychopinn train scan.npz --config run.toml --output model
  ptychopinn settings --json-schema > settings.schema.json
"""

from __future__ import annotations

import argparse

from ..config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.files import toml_of
from ..config.schema import settings_schema
from .paragraph import say, say_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``ptychopinn settings``."""
    parser.add_argument('--json-schema', action='store_true', help='print the JSON Schema instead')


def run(options: argparse.Namespace) -> None:
    """Print one of the two."""
    if options.json_schema:
        say_json(settings_schema(), indent=2)
        return
    defaults = (TrainingConfig(), InferenceConfig(), PyTorchExecutionConfig())
    say(
        *toml_of(
            defaults, 'All settings, at their defaults; ptychopinn train --help-all explains them.'
        ).splitlines()
    )
