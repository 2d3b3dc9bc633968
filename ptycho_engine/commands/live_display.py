"""How a live session stands: in a line, and on a page where one is served."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any, Self

from ..live.page import LivePage
from ..live.session import LiveSession
from ..live.view import curve_view, finite, image_views
from ..reconstruction.result import Reconstruction
from ..scan.scan import Scan
from ..scoring.scores import scanned_box

__all__ = ['Display', 'progress_line']

logger = logging.getLogger('ptychopinn.live')


class Display:
    """Shows progress while the block runs: over itself on a terminal, else now and then in the log.

    Parameters
    ----------
    page : LivePage, optional
        That of the session, too.
    quiet : bool
        Whether nothing goes to the terminal.
    """

    def __init__(self, page: LivePage | None, *, quiet: bool) -> None:
        self._page, self._terminal = page, sys.stderr.isatty() and not quiet
        self._state: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            sys.stderr.write('\n')

    def show(self, session: LiveSession, rate: float, behind: int, *, due: bool) -> None:
        """Show how a session stands; where `due`, in the log too, and with images that nobody may look at."""
        text = progress_line(session, rate, behind)
        if self._terminal:
            sys.stderr.write(f'\r\033[K{text}')
            sys.stderr.flush()
        elif due:
            logger.info('%s.', text)
        if self._page is not None:
            self._state = {'phase': 'measuring', **_standing(session, rate, behind)}
            if session.counts.used and (due or self._page.watched):
                shot = session.snapshot(all_placed=False)
                self._state['images'] = image_views(shot.object_array, shot.weight, shot.box)
            self._page.show(self._state)

    def reconstructing(self, scan: Scan) -> None:
        """Say on the page that the scan is over, and with how many frames."""
        self._turn({'phase': 'reconstructing', 'used': len(scan.raw), 'waiting': 0, 'rate': 0.0})

    def ended(self, result: Reconstruction, scan: Scan) -> None:
        """Show the result on the page."""
        if self._page is not None:
            images = image_views(result.object_array, result.weight, scanned_box(scan))
            self._turn({'phase': 'ended', 'images': images})

    def _turn(self, changes: dict[str, Any]) -> None:
        self._state |= changes
        if self._page is not None:
            self._page.show(self._state)


def progress_line(session: LiveSession, rate: float, behind: int) -> str:
    """Return how a session stands, in one line."""
    counts = session.counts
    parts = [f'{counts.used} frames in the image', f'{rate:.0f} frames/s']
    for number, what in (
        (behind + session.waiting, 'wait'),
        (session.unplaced, 'without position'),
        (counts.left_out, 'left out'),
        (counts.lost, 'lost'),
    ):
        if number:
            parts.append(f'{number} {what}')
    return ', '.join([*parts, session.quality.sentence])


def _standing(session: LiveSession, rate: float, behind: int) -> dict[str, Any]:
    """Return what the page shows beside images."""
    counts, quality = session.counts, session.quality
    return {
        'name': session.source,
        'frames': counts.frames,
        'used': counts.used,
        'rate': rate,
        'waiting': behind + session.waiting,
        'unplaced': session.unplaced,
        'left_out': counts.left_out,
        'lost': counts.lost,
        'unseen': finite(quality.unseen),
        'error': finite(quality.error),
        'gain': finite(quality.gain),
        'enough': quality.enough,
        'calibrated': '; '.join(quality.calibrated),
        'curve': curve_view(session.curve),
    }
