"""A run of ours inside Ptychodus: its task in Ptychodus' worker thread, and what it knows of its host."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import ReconstructOutput
from ptychodus.model.processing import ProcessingTaskMonitor
from ptychodus.model.processing.monitor import ReconstructBackgroundTask, TrainBackgroundTask
from ptychodus.model.task_manager import TaskManager

from ptycho_engine.errors import Cancelled, EngineError

from . import compat
from .algorithm import Algorithm
from .child import ChildCrashed
from .conversion import object_pixel
from .live import LiveImage, LiveImages, thinned
from .pictures import map_picture
from .run_context import RunContext
from .run_queue import QueuedRun
from .window import Page, WindowLink

__all__ = ['HostedTask', 'OurTask']

if TYPE_CHECKING:
    from .processing import HostedProcessingCore

logger = logging.getLogger('ptychopinn')

OurTask = ReconstructBackgroundTask | TrainBackgroundTask


@dataclass
class _HostedRun(RunContext):
    """A run inside Ptychodus."""

    monitor: ProcessingTaskMonitor | None = None
    task_manager: TaskManager | None = None
    window: WindowLink = field(default_factory=WindowLink)
    item: Any = None
    """Of the list of products: where the result of a reconstruction goes."""
    pixel: Any = None
    """Size of the object's pixels."""
    images: LiveImages[Any] | None = None
    run: QueuedRun | None = None
    _losses: tuple[Sequence[LossValue], Sequence[LossValue], int] | None = None
    """What is to be plotted at the window's next tick."""

    def stop_requested(self) -> bool:
        stop = self.monitor is not None and self.monitor.is_stopping
        # Ptychodus forgets a Stop that comes before its monitor has noticed the run.
        stop = stop or (self.run is not None and self.run.stopped)
        return stop or (self.task_manager is not None and self.task_manager.is_stopping)

    def model_made(self, path: Path) -> None:
        if self.run is not None:
            self.run.made = path

    def show_progress(self, done: int, goal: int) -> None:
        if self.monitor is not None:
            self.monitor.update_progress(done, goal)

    def show_log(self) -> None:
        if self.monitor is not None:
            self.in_window(self.monitor.notify_observers)

    def show_time_left(self, text: str) -> None:
        if self.window.page is not None:
            self.in_window(functools.partial(self.window.page.show_time_left, text))

    @property
    def shows_images(self) -> bool:
        # In batch mode every object that is told of would leave a numbered file.
        return self.images is not None and self.output_file is None

    def begin_images(self) -> None:
        """Make ready for images of the object, where there is a window."""
        page = self.window.page
        if page is None or self.item is None:
            return
        self.in_window(functools.partial(page.begin_images, self.item))
        self.images = LiveImages(
            lambda image: page.prepare_image(image, self.pixel),
            lambda prepared: page.draw_image(self.item, prepared),
            self.in_window,
        )

    def end_images(self) -> None:
        """Let no image come after the result."""
        if self.images is not None and self.window.page is not None:
            self.images.close()
            self.in_window(self.window.page.end_images)

    def show_image(self, image: LiveImage) -> None:
        if self.images is not None:
            self.images.offer(image)

    def show_waiting_image(self) -> None:
        if self.images is not None:
            self.images.look()

    def keep_map(self, uncertainty: npt.NDArray[np.float32]) -> None:
        page = self.window.page
        if page is not None and self.item is not None:
            picture = map_picture(thinned(uncertainty), 'Uncertainty', 'cividis', ' of the amplitude')
            self.in_window(functools.partial(page.keep_map, self.item, picture))

    def show_losses(
        self, training: Sequence[LossValue], validation: Sequence[LossValue], simulated: int
    ) -> None:
        page = self.window.page
        if page is None:
            return
        waiting = self._losses is not None
        self._losses = list(training), list(validation), simulated
        # Quick epochs come faster than the window's ticks; only the last is drawn.
        if not waiting:
            self.in_window(functools.partial(self._plot, page))

    def _plot(self, page: Page) -> None:
        losses, self._losses = self._losses, None
        if losses is not None:
            page.show_losses(*losses)

    def in_window(self, task: Callable[[], None]) -> None:
        if self.task_manager is not None:
            self.task_manager.put_foreground_task(task)


class _HostedMonitor:
    """Ptychodus' monitor as its task sees it, which puts a result into the list of products."""

    def __init__(self, monitor: ProcessingTaskMonitor) -> None:
        self._monitor = monitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)

    def __enter__(self) -> ProcessingTaskMonitor:
        self._monitor.__enter__()
        return cast(ProcessingTaskMonitor, self)

    def __exit__(self, *failure: Any) -> None:
        self._monitor.__exit__(*failure)

    def update_product(self, item: Any, result: ReconstructOutput) -> None:
        self._monitor.update_product(cast(Any, compat.UpdatedItem(item)), result)


class HostedTask:
    """Runs a task of ours in Ptychodus' worker thread."""

    def __init__(
        self,
        task: OurTask,
        run: QueuedRun,
        algorithm: Algorithm,
        core: HostedProcessingCore,
        *,
        in_batch: bool,
    ) -> None:
        self._in_batch = in_batch
        self._task = task
        self._run = run
        self._algorithm = algorithm
        self._core = core

    def __repr__(self) -> str:
        # Ptychodus prints a failing task; the dataclass would print its arrays.
        return f'{type(self._task).__name__}({self._algorithm.name})'

    def _with_monitor(self) -> None:
        task, monitor = self._task, _HostedMonitor(self._task.task_monitor)
        replace(task, task_monitor=cast(ProcessingTaskMonitor, monitor))()

    def __call__(self) -> None:
        context = _HostedRun(
            reconstruct_input=self._task.reconstruct_input,
            output_file=getattr(self._task, 'output_product_file', None),
            monitor=self._task.task_monitor,
            task_manager=self._core.task_manager,
            window=self._core.window,
            item=getattr(self._task, 'product_item', None),
            pixel=object_pixel(self._task.reconstruct_input.product),
            run=self._run,
            model_file=None if self._run.after is None else self._run.after.made,
        )
        self._algorithm.context = context
        context.begin_images()
        try:
            if self._has_turn():
                self._with_monitor()
        except (EngineError, ChildCrashed, OSError) as error:
            # The monitor has recorded it, so a caller that waits gets the exception itself.
            self._tell_failure(error)
        except Exception as error:
            # Ptychodus' own line with the traceback does not reach the log pane.
            self._tell_failure(error)
            raise
        else:
            if not context.delivered:
                self._core.discard(self._task)
        finally:
            context.end_images()
            self._algorithm.context = RunContext()
            self._core.queue.remove(self._run)
            self._core.refresh()

    def _tell_failure(self, error: Exception) -> None:
        self._core.discard(self._task)
        # Batch mode prints it by itself, and may be over by now.
        if not self._in_batch:
            self._core.tell_failure(self._task, error)

    def _has_turn(self) -> bool:
        """Return whether the run may begin; a caller that waits for one that may not gets the reason."""
        run = self._run
        if run.stopped:
            reason = f'{run} was stopped before it began.'
        elif run.after is not None and run.after.made is None:
            reason = f'{run} is not run, because the training before it has left no model.'
            # No dialog: that of the training, with the cause, is open.
            logger.error('%s', reason)
        else:
            return True
        with suppress(Cancelled), self._task.task_monitor:
            raise Cancelled(reason)
        return False
