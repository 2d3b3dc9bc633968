"""Print all settings as a file, or their JSON Schema."""

from __future__ import annotations

import argparse

from ..config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ..config.files import toml_of
from ..config.schema import settings_schema
from .paragraph import say, say_json


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
