"""What runs in the child process: training and reconstruction by the engine, told as messages.

Importing this module is cheap: the engine's heavy parts are imported when a job runs, Ptychodus not at all. A
job ends with one of the messages ``failed``, ``model_saved`` or ``result``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ptycho_engine.arrays import all_finite
from ptycho_engine.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_engine.errors import EngineError
from ptycho_engine.formats.product import ProductData
from ptycho_engine.io.atomic import discard_temporaries
from ptycho_engine.io.mapping import MappedArray

from .child_end import Channel, Supervisor
from .live import live_image
from .meters import InferenceMeter, TrainingMeter

if TYPE_CHECKING:
    from ptychodus.api.reconstruct import ReconstructInput

    from ptycho_engine.physics.coherent import CoherentModes
    from ptycho_engine.scan.scan import Scan

__all__ = [
    'MODEL_FILE',
    'Outcome',
    'ReconstructJob',
    'ScanPayload',
    'TrainJob',
    'run_reconstruction',
    'run_training',
]

MODEL_FILE = 'model.zip'
"""The name under which Ptychodus' batch mode looks for a model."""

ORPHAN_GRACE_S = 10.0


@dataclass(frozen=True)
class ScanPayload:
    """A scan of the window on its way to the child, without its patterns, which are handed over beside it."""

    product: ProductData
    bad_pixels: npt.NDArray[np.bool_] | None
    source: str

    @classmethod
    def of(cls, parameters: ReconstructInput) -> ScanPayload:
        """Return what a child has to know of the current product; called by the program that starts it."""
        from .conversion import product_data

        return cls(product_data(parameters.product), parameters.bad_pixels, 'the current product')

    def load(self, patterns: MappedArray) -> Scan:
        """Return the scan with its `patterns`, (n, h, w) counts, which stay in their file."""
        from ptycho_engine.patterns.frame_stack import StoredStack
        from ptycho_engine.scan.scan import Scan, raw_data_from_counts

        array = patterns.array
        stack = StoredStack(array.shape, array.dtype, lambda: patterns, self.source)
        raw = raw_data_from_counts(stack, self.bad_pixels, self.product, self.source)
        return Scan(raw, self.product.grid, self.product)


@dataclass(frozen=True)
class TrainJob:
    """Train on `scan`, whose patterns come with the job, if there is one, and on what `inputs` hold."""

    inputs: tuple[Path, ...]
    scan: ScanPayload | None
    output_path: Path
    config: TrainingConfig
    execution: PyTorchExecutionConfig
    initial: Path | None = None
    """A model to start from."""
    resume: bool = False
    """Go on with the run that was stopped in `output_path`."""
    simulate: bool = False
    """Train on simulated objects alone, under the probes, positions and photon levels of the scans."""

    def load(self, patterns: MappedArray | None) -> list[Scan]:
        """Return all scans, the current product first; to simulate, products without patterns will do."""
        from ptycho_engine.scan.scan import load_training_scans
        from ptycho_engine.simulate.template import load_templates

        load = load_templates if self.simulate else load_training_scans
        files = [scan for path in self.inputs for scan in load(path)]
        if self.scan is None:
            return files
        assert patterns is not None
        return [self.scan.load(patterns), *files]


@dataclass(frozen=True)
class ReconstructJob:
    """Reconstruct a scan, whose patterns come with the job, with a model."""

    scan: ScanPayload
    model_path: Path
    """As ``load_model`` takes it."""
    config: InferenceConfig
    execution: PyTorchExecutionConfig
    partial_objects: bool
    """Whether anybody looks at the object while it is being made."""


@dataclass(frozen=True)
class Outcome:
    """What a reconstruction brings, in a form that travels between processes."""

    object_array: npt.NDArray[np.complex64]
    """(H, W) complex64 object on the grid and in the scale of the input product."""
    losses: tuple[tuple[int, float], ...] = ()
    """(epoch, deviance per pixel) of the training that made the model."""
    comments: str = ''
    """Sentences on the quality of the result, to add to the product's comments."""
    probe: npt.NDArray[np.complex64] | None = None
    """(P, N, N) incoherent modes that belong to the object, the mean over positions where they vary; None
    where they are the input's."""
    coherent: CoherentModes | None = None
    """How these vary over the positions; None where they do not."""
    position_shift: npt.NDArray[np.float64] | None = None
    """(n, 2) [dy, dx] in object pixels to add to the positions; None for nothing."""
    uncertainty: npt.NDArray[np.float32] | None = None
    """(H, W) standard deviation in units of the object's amplitude, NaN where unknown; None while the object
    is being made."""
    patterns_sha256: str = ''
    """Of the amplitudes that it is of (:func:`~ptycho_engine.formats.provenance.patterns_sha256`)."""


class _StopFlag:
    """Turns true when the parent asks for it, when the parent is gone, or at SIGTERM and SIGHUP.

    Without a parent and without work worth keeping the process ends at once, wherever it is.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._event = threading.Event()
        self._has_work = False
        self.signal: signal.Signals | None = None
        """The signal that came, unless the parent had asked before."""
        self._supervisor = supervisor
        # Ctrl-C in a terminal reaches parent and child; the parent decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._watch, name='supervisor', daemon=True).start()

    def __call__(self) -> bool:
        return self._event.is_set()

    def keep_work_at_termination(self) -> None:
        """From now on SIGTERM and SIGHUP mean "finish early", and so does the end of the parent."""
        if self._has_work:
            return
        self._has_work = True
        for name in ('SIGTERM', 'SIGHUP'):
            number = getattr(signal, name, None)
            # By nohup, for one, it is to be ignored from the start.
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._finish)

    def _finish(self, signum: int, frame: object) -> None:
        if not self._event.is_set():
            self.signal = signal.Signals(signum)
            self._event.set()

    def _watch(self) -> None:
        parent = parent_process()
        sources: list[Any] = [self._supervisor.control]
        if parent is not None:
            sources.append(parent.sentinel)
        if self._supervisor.control in wait(sources):
            with suppress(EOFError, OSError):
                self._supervisor.control.recv()
                # Asked by a living parent, which also ends a child that does not answer.
                self._event.set()
                wait(sources)
        # The parent is gone or has given up: no process may be left over.
        if self._has_work:
            self._event.set()
            threading.Event().wait(ORPHAN_GRACE_S)
        discard_temporaries()
        os._exit(1)


def run_training(supervisor: Supervisor, channel: Channel) -> None:
    """Train. Messages: ``progress``, ``epoch EpochDone``, ``speed``, then ``model_saved path`` or ``failed``.

    Where an earlier model was not to be replaced the message is ``model_beside path``. After a signal
    ``failed`` follows: what was asked for is not done.

    The archive lies as ``wts.h5.zip`` and, identical, as ``model.zip`` in the output directory; until then
    ``checkpoint.zip`` holds the best model so far. It stays where a run was stopped, which it lets go on.
    """
    task: TrainJob
    task, patterns = supervisor.receive_job()
    stop = _StopFlag(supervisor)
    with _failures(channel):
        from ptycho_engine.events import BatchDone, EpochDone, ModelSaved
        from ptycho_engine.formats.archive import ARCHIVE_NAME, CHECKPOINT_NAME, load_archive
        from ptycho_engine.training.simulated import SimulatedScans
        from ptycho_engine.training.train import train

        scans = task.load(patterns)
        # Ptychodus logs every epoch, and the product keeps the losses.
        execution = replace(task.execution, logger_backend='none')
        events = train(
            SimulatedScans(scans, task.config) if task.simulate else scans,
            task.config,
            task.output_path,
            execution=execution,
            should_stop=stop,
            initial=None if task.initial is None else load_archive(task.initial),
            resume=task.resume,
            copies=[MODEL_FILE],
        )
        meter = TrainingMeter(task.config, execution, scans[0])
        epochs = 'before the end of its first epoch'
        for event in events:
            match event:
                case BatchDone():
                    stop.keep_work_at_termination()
                    meter.count()
                    done = (event.epoch - 1 + event.fraction) / event.n_epochs
                    channel.put(('progress', done))
                case EpochDone():
                    epochs = f'in epoch {event.epoch} of {event.n_epochs}'
                    channel.put(('epoch', event))
                    for key, seconds in meter.epoch(event.seconds):
                        channel.put(('speed', key, seconds))
                case ModelSaved(path) if path.name != ARCHIVE_NAME:
                    channel.put(('model_beside', path))
                case ModelSaved(path):
                    if not stop():
                        path.with_name(CHECKPOINT_NAME).unlink(missing_ok=True)
                    channel.put(('model_saved', path.with_name(MODEL_FILE)))
        if stop.signal is not None:
            raise EngineError(
                f'The training was ended by the signal {stop.signal.name} {epochs}; the best model so far is '
                'saved, and "Start from: checkpoint" goes on.'
            )


def run_reconstruction(supervisor: Supervisor, channel: Channel) -> None:
    """Messages: ``patches``, ``iteration``, ``partial``, ``speed``; then ``result`` or ``failed``."""
    task: ReconstructJob
    task, patterns = supervisor.receive_job()
    assert patterns is not None
    stop = _StopFlag(supervisor)
    with _failures(channel):
        from ptycho_engine.events import IterationDone, PatchesDone
        from ptycho_engine.formats.packaged import load_model
        from ptycho_engine.formats.provenance import patterns_sha256
        from ptycho_engine.reconstruction.reconstruct import reconstruct
        from ptycho_engine.reconstruction.result import PartialObject, Reconstructed

        scan, archive = task.scan.load(patterns), load_model(task.model_path)
        meter = InferenceMeter(archive.config.model, task.config, task.execution, scan)
        events = reconstruct(
            scan,
            archive,
            task.config,
            execution=task.execution,
            should_stop=stop,
        )
        for event in events:
            match event:
                case PatchesDone():
                    meter.patches(event.done)
                    channel.put(('patches', event.done, event.total))
                case IterationDone():
                    meter.iterate(event.iteration, event.calibrating)
                    channel.put(('iteration', event.iteration, event.n_iterations, event.calibrating))
                case PartialObject() if task.partial_objects and _is_finite(event.reconstruction):
                    channel.put(('partial', live_image(np.asarray(event.reconstruction.object_array))))
                case Reconstructed():
                    for key, seconds in meter.speeds():
                        channel.put(('speed', key, seconds))
                    result = event.reconstruction
                    digest = patterns_sha256(scan.raw.diffraction)
                    outcome = replace(
                        _outcome(result), uncertainty=result.uncertainty, patterns_sha256=digest
                    )
                    channel.put(('result', outcome))


def _is_finite(reconstruction: Any) -> bool:
    """Return whether there is something to look at; a refinement that failed is dropped at its end."""
    return all_finite(np.asarray(reconstruction.object_array))


def _outcome(reconstruction: Any) -> Outcome:
    return Outcome(
        object_array=np.asarray(reconstruction.object_array),
        losses=tuple((int(epoch), float(value)) for epoch, value in reconstruction.losses),
        comments=str(reconstruction.comments),
        probe=reconstruction.probe,
        coherent=reconstruction.coherent,
        position_shift=reconstruction.position_shift,
    )


@contextmanager
def _failures(channel: Channel) -> Iterator[None]:
    """Tell the parent a user's mistake as its sentence; the rest is told by :func:`.child_end.serve`."""
    try:
        yield
    except EngineError as error:
        channel.put(('failed', type(error).__name__, str(error)))
