"""Progress bars: events in, a bar on the terminal out."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from .events import BatchDone, EpochDone, Event, IterationDone, PatchesDone

__all__ = ['RateLimiter', 'show_progress']

BAR = '{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}'


PREVIEW_INTERVAL_S = 0.5
PREVIEW_SHARE = 0.1
"""Part of the time that making and showing what there is so far may take."""


class RateLimiter:
    """When the state of a run is shown: at once, then every half second, or less often where it is costly."""

    def __init__(self) -> None:
        self._next = time.perf_counter()

    def show(self, make: Callable[[], Event]) -> Iterator[Event]:
        """Yield what `make` returns, if it is time again."""
        begin = time.perf_counter()
        if begin < self._next:
            return
        yield make()
        end = time.perf_counter()
        self._next = end + max(PREVIEW_INTERVAL_S, (end - begin) / PREVIEW_SHARE)


def show_progress(events: Iterator[Event], enabled: bool) -> Iterator[Event]:
    """Pass events on while a bar shows how far they are; silent when not enabled or not on a terminal.

    Log lines appear above the bar.
    """
    if not enabled or not sys.stderr.isatty():
        yield from events
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with (
        logging_redirect_tqdm([logging.getLogger()]),
        tqdm(leave=False, dynamic_ncols=True, total=1.0, bar_format=BAR) as bar,
    ):
        for event in events:
            match event:
                case BatchDone():
                    what = 'simulated objects' if event.simulated else 'training'
                    title = f'{what}, epoch {event.epoch}/{event.n_epochs}'
                    _advance(bar, title, (event.epoch - 1 + event.fraction) / event.n_epochs)
                case EpochDone():
                    bar.set_postfix_str(f'deviance {event.training_deviance:.3g}', refresh=False)
                case PatchesDone():
                    title = f'reconstructing, {event.done}/{event.total} patterns'
                    _advance(bar, title, event.done / event.total)
                case IterationDone():
                    what = 'looking for what is wrong' if event.calibrating else 'refining'
                    title = f'{what}, held-out deviance {event.held_out_deviance:.4g}'
                    _advance(bar, title, event.iteration / event.n_iterations)
                case _:
                    pass
            yield event


def _advance(bar: Any, title: str, fraction: float) -> None:
    bar.set_description_str(title, refresh=False)
    bar.update(fraction - bar.n)
