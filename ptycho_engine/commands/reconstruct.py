"""Reconstruct scans, one after the other, and write their results."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import InferenceConfig, PyTorchExecutionConfig
from ..errors import Cancelled, ConfigError
from ..formats.archive import ModelArchive, find_archive
from ..formats.packaged import NO_MODEL, load_model, model_record
from ..formats.provenance import file_record, made_by
from ..io.folder_lock import sole_writer
from ..io.preflight import require_room, require_writable
from ..reconstruction.evaluate import ObjectFile, object_on_grid, on_common_grid, read_object
from ..reconstruction.reconstruct import reconstruct, require_fit
from ..reconstruction.result import Reconstructed, Reconstruction
from ..scan.results import account_of_result
from ..scan.scan import Scan, is_ptychodus_directory
from ..scoring.scores import require_comparable
from .evaluate import report_scores, unique
from .failures import EXIT_FAILURE, failure_of
from .inputs import Opening, opening
from .interrupt import stop_on_interrupt
from .many_scans import BEFORE, FAILED, WRITTEN, Outcome, holds_result, outcome_lines
from .options import read_settings
from .paragraph import complain, say
from .result_files import (
    FILES,
    PRODUCT,
    patterns_record,
    result_bytes,
    result_names,
    with_product,
    write_results,
)
from .scan_parts import scan_name
from .streams import one_reader

logger = logging.getLogger('ptychopinn.commands')

COMMAND = 'ptychopinn reconstruct'


def run(options: argparse.Namespace) -> int:
    """Reconstruct and write the results, scan by scan."""
    work = _Work.of(options)
    inputs: list[Path] = options.inputs
    if len(inputs) == 1:
        directories = [options.output]
    else:
        directories = [options.output / name for name in unique([scan_name(path) for path in inputs])]
    places = list(zip(inputs, directories, strict=True))
    if options.shard is not None:
        places = options.shard.share(places)
        if not places:
            say(f'Of {len(inputs)} scans none is in share {options.shard.number} of {options.shard.of}.')
    if len(inputs) == 1:
        for path, directory in places:
            work.reconstruct(path, directory)
        return 0
    outcomes = []
    for number, (path, directory) in enumerate(places, 1):
        logger.info('Scan %d of %d: %s', number, len(places), path)
        outcomes.append(work.attempt(path, directory))
    if outcomes:
        say(*outcome_lines(outcomes))
    return EXIT_FAILURE if any(outcome.became == FAILED for outcome in outcomes) else 0


@dataclass(frozen=True)
class _Work:
    """What is the same for each scan of a run."""

    options: argparse.Namespace
    opened: Opening
    archive: ModelArchive
    config: InferenceConfig
    execution: PyTorchExecutionConfig
    truth: ObjectFile | None
    begin: ObjectFile | None
    read: tuple[Path, ...]
    """Files that are read, and must not be replaced."""
    record: Mapping[str, Any]
    """Of model and first object, for the record of each result."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> _Work:
        """Read what the command line names beside the scans."""
        settings = read_settings(options)
        inputs: list[Path] = options.inputs
        if options.truth is not None and len(inputs) > 1:
            raise ConfigError(
                f'--truth is the object of one scan, but {len(inputs)} scans were given; compare each '
                'result with its own by ptychopinn evaluate.'
            )
        if options.truth is not None and options.go_on:
            raise ConfigError(
                '--truth cannot be given with --continue, which may keep an earlier result; score that by '
                'ptychopinn evaluate.'
            )
        archive = load_model(options.model)
        truth = None if options.truth is None else read_object(options.truth, truth=True)
        opened = opening(options)
        opened.require_one(inputs)
        begin = options.start_from_object
        trained = options.model is not None and str(options.model) != NO_MODEL
        read = [file for path in inputs for file in opened.files(path)]
        read += [find_archive(options.model)] if trained else []
        read += [file for file in (options.truth, begin) if file is not None]
        record: dict[str, Any] = {'model': model_record(options.model)}
        if begin is not None:
            record['start_from'] = file_record(begin)
        if opened.said:
            record['reading'] = opened.said
        return cls(
            *(options, opened, archive, settings.inference(), settings.execution, truth),
            *(None if begin is None else read_object(begin), tuple(read), record),
        )

    def attempt(self, path: Path, directory: Path) -> Outcome:
        """Reconstruct one of several scans; say what went wrong, for that does not end the list."""
        try:
            return self.reconstruct(path, directory)
        except (Cancelled, BrokenPipeError):
            raise
        except Exception as error:
            failure = failure_of(error, directory)
            if failure is None:
                raise
            complain(f'ptychopinn reconstruct: {failure[0]}')
        return Outcome(directory.name, FAILED)

    def reconstruct(self, path: Path, directory: Path) -> Outcome:
        """Reconstruct a scan and write its results, unless they are there and were not to be made again."""
        options, opened = self.options, self.opened
        if is_ptychodus_directory(directory):
            raise ConfigError(
                f'{directory} holds a scan, whose product.h5 would be lost; give another --output.'
            )
        require_writable(directory, FILES, inputs=self.read)
        with sole_writer(directory, COMMAND):
            if options.go_on and self._is_done(path, directory):
                say(f'{directory} holds the result of {path} already.')
                return Outcome(directory.name, BEFORE, account_of_result(directory / FILES[0]))
            started = datetime.now(UTC)
            scan = self._load(path)
            require_room(directory, result_bytes(scan), 'the results')
            assert scan.product is not None
            first = None if self.begin is None else object_on_grid(self.begin, scan.product.grid)
            result = run_reconstruction(scan, self.archive, self.config, self.execution, first)
            record = made_by(
                options.words,
                (self.config, self.execution),
                data=map(file_record, opened.files(path)),
                started=started,
                **self.record,
                **patterns_record(scan, foreign=opened.is_foreign(path)),
            )
            written = write_results(directory, scan, result, record, options.formats)
            if options.quiet or not one_reader():
                # Elsewhere the log has just said it.
                say(*result.comments.splitlines())
            say(f'Wrote {", ".join(written)} to {directory}.')
            if self.truth is not None:
                report_scores([read_object(directory / FILES[0])], self.truth, scan, directory)
        return Outcome(directory.name, WRITTEN, result.results)

    def _is_done(self, path: Path, directory: Path) -> bool:
        names = result_names(self.options.formats)
        files = (PRODUCT, *(name for name in names if name != PRODUCT))
        if not any((directory / name).exists() for name in files):
            return False
        settings = {type(config).__name__: asdict(config) for config in (self.config, self.execution)}
        data = [file_record(file) for file in self.opened.files(path)]
        return holds_result(directory, files, {**self.record, 'settings': settings, 'data': data})

    def _load(self, path: Path) -> Scan:
        """Load a scan that the model is for, with the product that it came with or one made of it."""
        scan = self.opened.load(path)
        require_fit(self.archive, scan)
        scan = with_product(scan)
        if self.truth is not None:
            _require_comparable(self.truth, scan)
        return scan


def _require_comparable(truth: ObjectFile, scan: Scan) -> None:
    """Check that a result on the grid of the scan can be scored."""
    assert scan.product is not None
    blank = np.broadcast_to(np.complex64(1), scan.grid.shape)
    x, y = scan.product.positions_px()
    result = ObjectFile(Path(scan.raw.source), blank, x=x, y=y, grid=scan.product.grid)
    truth, result = on_common_grid(truth, result)
    require_comparable(truth.object_array.shape, result.object_array.shape, result.box())


def run_reconstruction(
    scan: Scan,
    archive: ModelArchive,
    config: InferenceConfig,
    execution: PyTorchExecutionConfig,
    begin: npt.NDArray[np.complex64] | None = None,
) -> Reconstruction:
    """Reconstruct; `begin` is as for :func:`~..reconstruction.reconstruct.reconstruct`.

    Raises
    ------
    Cancelled, Terminated
        If Ctrl-C or another signal stopped it.
    """
    with stop_on_interrupt() as stopped:
        for event in reconstruct(
            scan, archive, config, execution=execution, should_stop=stopped, begin=begin
        ):
            if isinstance(event, Reconstructed):
                return event.reconstruction
    raise AssertionError('a reconstruction ends with its result')
