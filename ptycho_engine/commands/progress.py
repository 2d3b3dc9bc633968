"""Progress bars: events in, a bar on the terminal out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..events import BatchDone, EpochDone, Event, PatchesDone

__all__ = ['show_progress']


def show_progress(events: Iterator[Event], quiet: bool) -> Iterator[Event]:
    """Pass events on while a bar shows how far they are; silent when quiet or not on a terminal.

    Log lines appear above the bar.
    """
    hidden = quiet or not sys.stderr.isatty()
    with (
        logging_redirect_tqdm([logging.getLogger()]),
        tqdm(disable=hidden, leave=False, dynamic_ncols=True) as bar,
    ):
        for event in events:
            match event:
                case BatchDone():
                    _advance(bar, 'training', 'epoch', event.n_epochs, event.epoch - 1 + event.fraction)
                case EpochDone():
                    bar.set_postfix_str(f'deviance {event.training_deviance:.3g}', refresh=False)
                case PatchesDone():
                    _advance(bar, 'reconstructing', 'pattern', event.total, event.done)
                case _:
                    pass
            yield event


def _advance(bar: Any, title: str, unit: str, total: float, done: float) -> None:
    if bar.total != total:
        bar.set_description(title, refresh=False)
        bar.unit = unit
        bar.reset(total=total)
    bar.update(done - bar.n)
