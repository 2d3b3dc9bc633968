"""Ptychodus' processing core with a gate in front of its task queue.

The gate sees each task of ours before it is queued and while it runs. That is where a run learns of Stop, of
the program's end, of the chosen product and of the file that batch mode wants; where a failure becomes one
sentence instead of the printed arrays of the task; and where the window learns that a model is ready.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, cast

from ptychodus.api.reconstruct import ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry
from ptychodus.model.processing import ProcessingCore
from ptychodus.model.processing.monitor import ReconstructBackgroundTask, TrainBackgroundTask
from ptychodus.model.product import ProductAPI
from ptychodus.model.task_manager import BackgroundTask, TaskManager

from ptycho_engine.errors import ConfigError, EngineError
from ptycho_engine.formats.archive import ARCHIVE_NAME
from ptycho_engine.printable import printable

from . import compat
from .algorithm import Algorithm, PhysicsReconstructor
from .hosted_run import HostedTask, OurTask
from .library import PtychoPINNLibrary
from .readiness import NOTHING_TO_TRAIN
from .reconstructor import PtychoPINNReconstructor
from .run_queue import QueuedRun, RunQueue
from .settings_gate import SettingsGate
from .window import WindowLink
from .worker import MODEL_FILE

__all__ = ['DEFAULT_ALGORITHM', 'HostedProcessingCore']

logger = logging.getLogger('ptychopinn')

DEFAULT_ALGORITHM = 'ptychopinn_pinn'
NO_ALGORITHM = 'none_none'
SETTINGS_FILE = 'settings.ini'
SERVED_S = 0.005
"""For how long runs are served before the window comes to its own."""
PIXEL_SIZE_LOGGER = 'ptychodus.model.product.object.item'
"""Where Ptychodus warns of an object whose pixels are not those of the scan's geometry."""


def _algorithm(task: object) -> Algorithm | None:
    """Return the algorithm of a task of ours, None for everybody else's."""
    if isinstance(task, ReconstructBackgroundTask):
        candidate: object = task.reconstructor
    elif isinstance(task, TrainBackgroundTask):
        candidate = task.trainer
    else:
        return None
    return candidate if isinstance(candidate, Algorithm) else None


class _SaidOnce(logging.Filter):
    """Lets a warning of Ptychodus through once per run; it comes with every change of a product.

    Parameters
    ----------
    is_ours : callable
        Returns whether one of our algorithms is chosen; the others' warnings are left alone.
    """

    def __init__(self, is_ours: Callable[[], bool]) -> None:
        super().__init__()
        self._is_ours = is_ours
        self._said: set[tuple[object, ...]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._is_ours():
            return True
        # The first argument names what has built the object, which changes in a run.
        arguments = record.args[1:] if isinstance(record.args, tuple) else record.args
        key = (record.msg, arguments)
        said = key in self._said
        self._said.add(key)
        return not said

    def forget(self) -> None:
        """Begin a new run."""
        self._said.clear()


class _TaskGate:
    """Ptychodus' task manager as its processing core sees it."""

    def __init__(self, task_manager: TaskManager) -> None:
        self._task_manager = task_manager
        self.core: HostedProcessingCore | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task_manager, name)

    def put_background_task(self, task: BackgroundTask) -> None:
        """Queue a task, unless it is ours and cannot work.

        Raises
        ------
        EngineError
            In the caller's thread, where the window shows it and batch mode exits with 1.
        """
        if self.core is not None:
            task = self.core.admit(task)
        self._task_manager.put_background_task(task)


class HostedProcessingCore(ProcessingCore):
    """Ptychodus' processing core, hosting our runs; other reconstructors are left alone."""

    def __init__(
        self,
        task_manager: TaskManager,
        settings_registry: SettingsRegistry,
        product_api: ProductAPI,
        algorithm_libraries: list[ReconstructorLibrary],
    ) -> None:
        gate = _TaskGate(task_manager)
        super().__init__(cast(TaskManager, gate), settings_registry, product_api, algorithm_libraries)
        self.task_manager = task_manager
        self._product_api = product_api
        ours = [library for library in algorithm_libraries if isinstance(library, PtychoPINNLibrary)]
        self.window = ours[0].session.window if ours else WindowLink()
        self.queue = ours[0].session.queue if ours else RunQueue()
        self.queue.on_change(self._tell_queue)
        self._input_directory: Path | None = None
        self._unknown_algorithm = ''
        self._said_once = _SaidOnce(
            lambda: isinstance(self.algorithm_parameter.get_current_reconstructor(), Algorithm)
        )
        logging.getLogger(PIXEL_SIZE_LOGGER).addFilter(self._said_once)
        self._run_window_tasks = task_manager.run_foreground_tasks
        task_manager.run_foreground_tasks = self._serve_window  # type: ignore[method-assign]
        self._watch_algorithm()
        if self.algorithm_parameter.get_value() == NO_ALGORITHM:
            # Otherwise the window shows its first entry as if it were chosen, and it does nothing.
            self.algorithm_parameter.set_value(DEFAULT_ALGORITHM)
        self._stop_all_with_stop()
        self._refuse_training_without_network()
        gate.core = self
        self._settings_gate = (
            SettingsGate(
                settings_registry, self.algorithm_parameter, ours[0].session.settings, self._tell_fault
            )
            if ours
            else None
        )

    def _tell_fault(self, sentence: str) -> None:
        """Show what is wrong with a settings file once there is a window; batch mode refuses it by itself."""

        def tell() -> None:
            if self.window.page is not None:
                logger.error('%s', sentence)
                self.window.page.show_failure('Reading the settings', sentence)

        self.task_manager.put_foreground_task(tell)

    def _serve_window(self) -> None:
        """Do what runs have put on the window's queue, but not in the middle of a click.

        Ptychodus does all at once; here the window comes to its clicks and drawing in between.
        """
        page, queue = self.window.page, getattr(self.task_manager, '_foreground_queue', None)
        if page is None or queue is None:
            self._run_window_tasks()
            return
        end = time.monotonic() + SERVED_S
        while not self.window.waits:
            try:
                task = queue.get(block=False)
            except Empty:
                return
            try:
                task()
            except Exception:
                logger.exception('What a run had for the window has failed: %s', task)
            finally:
                queue.task_done()
            if time.monotonic() > end:
                page.soon(self._serve_window)
                return

    def _stop_all_with_stop(self) -> None:
        """Let Stop end what runs and what waits, for the user sees one list of runs."""
        monitor = self.processing_api.task_monitor
        stop = monitor.stop_processing

        def stop_all(*_: object) -> None:
            waiting = self.queue.stop()
            stop()
            if self.window.page is not None:
                self.window.page.show_time_left('stopping')
            for run in waiting:
                logger.info('%s is not run either, because Stop was pressed.', run)

        monitor.stop_processing = stop_all  # type: ignore[method-assign]

    def _refuse_training_without_network(self) -> None:
        """Refuse to train physics alone; Ptychodus would warn and end as if it had been done."""
        api = self.processing_api
        train = api.train

        def train_network(*arguments: Any, algorithm: str | None = None, **named: Any) -> None:
            api.set_reconstructor_if_provided(algorithm)
            if isinstance(self.algorithm_parameter.get_current_reconstructor(), PhysicsReconstructor):
                raise ConfigError(f'{NOTHING_TO_TRAIN} (Processing.Algorithm).')
            train(*arguments, **named)

        api.train = train_network  # type: ignore[method-assign]

    def _tell_queue(self) -> None:
        """Let the window show the queue: at once where we are in its thread, else at its next tick."""
        if threading.current_thread() is threading.main_thread():
            self.window.changed()
        else:
            self.task_manager.put_foreground_task(self.window.changed)

    def _watch_algorithm(self) -> None:
        """Remember an algorithm that was asked for and does not exist; Ptychodus drops it without a word."""
        parameter = self.algorithm_parameter
        set_value = parameter.set_value

        def remember(value: str, *, notify: bool = True) -> None:
            set_value(value, notify=notify)
            # Afterwards, because Ptychodus answers an unknown name by setting the old one again.
            name = value.strip()
            known = {NO_ALGORITHM, *parameter.available_reconstructors()}
            self._unknown_algorithm = '' if name.casefold() in known else name

        parameter.set_value = remember  # type: ignore[method-assign]

    @contextmanager
    def batch_run(self, input_directory: Path) -> Iterator[None]:
        """Within it, batch mode prints failures itself, refuses settings that it cannot follow, and models
        are looked for in its directory."""
        self._input_directory = input_directory
        gate = self._settings_gate
        try:
            if gate is not None:
                gate.refuses = True
                gate.require_file(input_directory / SETTINGS_FILE)
            yield
        finally:
            self._input_directory = None
            if gate is not None:
                gate.refuses = False

    def is_asked_for_ours(self, input_directory: Path) -> bool:
        """Return whether batch mode on a directory would run one of our algorithms."""
        gate = self._settings_gate
        return gate is not None and gate.is_asked_for_ours(input_directory / SETTINGS_FILE)

    def admit(self, task: BackgroundTask) -> BackgroundTask:
        """Return the task to queue in place of `task`.

        Raises
        ------
        EngineError
            If it is ours and cannot work.
        """
        algorithm = _algorithm(task)
        try:
            self._check_algorithm(algorithm)
            if algorithm is None:
                return task
            if self._input_directory is not None and self._settings_gate is not None:
                self._settings_gate.require_followed()
            if isinstance(task, ReconstructBackgroundTask):
                if isinstance(algorithm, PtychoPINNReconstructor):
                    self._find_model(algorithm)
                if not self._uses_model_of_training(algorithm):
                    algorithm.check_ready(task.reconstruct_input)
            elif isinstance(algorithm, PtychoPINNReconstructor):
                algorithm.check_trainable(Path(cast(TrainBackgroundTask, task).output_path))
        except EngineError as error:
            self.discard(task)
            if self._input_directory is None:
                # The caller shows it in a dialog.
                logger.error('%s', error)
                self.processing_api.task_monitor.notify_observers()
            raise
        ours = cast(OurTask, task)
        run = self._queue(ours, algorithm)
        return HostedTask(ours, run, algorithm, self, in_batch=self._input_directory is not None)

    def _uses_model_of_training(self, algorithm: Algorithm) -> bool:
        """Return whether a reconstruction waits for the model of a training that runs or waits."""
        return isinstance(algorithm, PtychoPINNReconstructor) and self.queue.training() is not None

    def _queue(self, task: OurTask, algorithm: Algorithm) -> QueuedRun:
        name = task.reconstruct_input.product.metadata.name
        if isinstance(task, TrainBackgroundTask):
            return self.queue.add('Train', name)
        # The result is listed under a name of its own by now.
        suffix = rf'_ptychopinn_{algorithm.name.casefold()}(-\d+)?$'
        return self.queue.add(algorithm.verb, re.sub(suffix, '', name))

    def _check_algorithm(self, algorithm: Algorithm | None) -> None:
        """In batch mode, do not run another algorithm than the one that the settings name."""
        name = self._unknown_algorithm
        if self._input_directory is None or not name:
            return
        if algorithm is not None or name.casefold().startswith('ptychopinn'):
            known = ', '.join(self.algorithm_parameter.available_reconstructors())
            raise ConfigError(
                f'The settings ask for the algorithm {name!r}, which is not installed; choose one of {known}.'
            )

    def _find_model(self, reconstructor: PtychoPINNReconstructor) -> None:
        """In batch mode, take the model of the directory that Ptychodus has not found.

        Raises
        ------
        ArchiveError
            If there is something of the name of a model that is none.
        """
        directory = self._input_directory
        if directory is None or (directory / MODEL_FILE).is_file():
            return
        for path in (directory / MODEL_FILE, directory / ARCHIVE_NAME):
            if path.exists() or path.is_symlink():
                reconstructor.load_model_from_file(path)
                return
        model = reconstructor.model
        if model is not None:
            logger.info('%s holds no model; using %s.', directory, model.name)

    def tell_failure(self, task: OurTask, error: Exception) -> None:
        """Put the sentence of a failed run into the log pane and a dialog."""
        logger.error('%s', error)
        page = self.window.page
        if page is not None:
            run = 'Training' if isinstance(task, TrainBackgroundTask) else 'Inference'
            sentence = printable(error)
            self.task_manager.put_foreground_task(functools.partial(page.show_failure, run, sentence))

    def discard(self, task: object) -> None:
        """Take the product of a run without a result out of the list."""
        if isinstance(task, ReconstructBackgroundTask):
            self.task_manager.put_foreground_task(
                functools.partial(compat.remove_product, self._product_api, task.product_item)
            )

    def refresh(self) -> None:
        """Let the window see at its next tick what a run has changed: log, bar, Infer button."""
        self.task_manager.put_foreground_task(self.processing_api.task_monitor.notify_observers)
        self.task_manager.put_foreground_task(self.algorithm_parameter.notify_observers)
        self.task_manager.put_foreground_task(self._said_once.forget)
        if self.window.page is not None:
            self.task_manager.put_foreground_task(functools.partial(self.window.page.show_time_left, ''))
