"""Simulate a scan and write it."""

from __future__ import annotations

import argparse
from dataclasses import fields

from ..config import ModelConfig, TrainingConfig
from ..errors import DataValueError
from ..io.preflight import require_writable
from ..simulate.directory import FILES, settings_text, write_scan
from ..simulate.recipe import Recipe
from .paragraph import say


def run(options: argparse.Namespace) -> None:
    """Simulate and write all files."""
    if not options.detector_distance_m > 0:
        raise DataValueError(
            f'--detector-distance-m is {options.detector_distance_m}; expected a positive number.'
        )
    # Made for its checks: a run refuses in settings.ini what `train` refuses.
    TrainingConfig(ModelConfig(gridsize=options.gridsize), nepochs=options.epochs, seed=options.seed)
    require_writable(options.output, FILES, inputs=[] if options.source is None else [options.source])
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    raw = recipe.simulate()
    write_scan(
        options.output,
        raw,
        name=options.output.name if options.source is None else options.source.stem,
        pixel_size_m=options.pixel_size_m,
        photon_energy_eV=options.photon_energy_ev,
        detector_distance_m=options.detector_distance_m,
        settings=settings_text(options.epochs, options.gridsize),
        with_truth=options.with_truth,
    )
    say(
        f'Wrote {len(raw)} patterns of {raw.N}×{raw.N} pixels, {options.photons:g} counts each, to '
        f'{options.output}.'
    )
