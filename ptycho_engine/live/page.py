"""A page that shows a live session in a browser of the same machine (LIVE-15).

Three files and a stream of server-sent events, by Starlette and Uvicorn, on the loopback address alone and
in a thread of its own. Nothing that the page does changes the run.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ['LivePage']

ADDRESS = '127.0.0.1'
HOSTS = [ADDRESS, 'localhost']
"""Names under which a browser may ask; under others a page elsewhere would read this one (DNS rebinding)."""

FOLDER = Path(__file__).with_name('web')
FILES = {
    '/': ('page.html', 'text/html'),
    '/page.js': ('page.js', 'text/javascript'),
    '/page.css': ('page.css', 'text/css'),
}
HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}
"""The page needs nothing from elsewhere, and no other page gets anything of it."""

MOST_VIEWERS = 32
ALIVE_S = 10.0
"""A comment is sent after so long without an event, by which a viewer that went away is noticed."""
GRACE_S = 1.0
"""For viewers to take the last event."""


class LivePage:
    """Serves the page while the block runs.

    Parameters
    ----------
    port : int
        0 for any that is free.

    Raises
    ------
    ConfigError
        If the packages that serve it are not installed, or the port cannot be had.
    """

    def __init__(self, port: int) -> None:
        missing = [name for name in ('starlette', 'uvicorn') if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f'--web needs {" and ".join(missing)}, not installed; pip install starlette uvicorn.'
            )
        if not 0 <= port < 1 << 16:
            raise ConfigError(f'--web is {port}; expected a port, 0 to 65535.')
        try:
            self._socket = socket.create_server((ADDRESS, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = 'another program uses it' if taken else os.strerror(error.errno or 0)
            raise ConfigError(
                f'--web: port {port} cannot be had ({why}); choose another one, or 0 for any.'
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._viewers = self._version = 0
        self._event, self._over = '', False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name='ptychopinn-page', daemon=True)

    @property
    def url(self) -> str:
        """What to open."""
        return f'http://{ADDRESS}:{self.port}/'

    @property
    def watched(self) -> bool:
        """Whether anybody looks at the page; else nothing need be drawn for it."""
        return self._viewers > 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(2 * GRACE_S)

    def show(self, values: Mapping[str, Any]) -> None:
        """Send values that JSON knows to all who look, and to those who come later."""
        text = json.dumps(values, separators=(',', ':'), allow_nan=False)
        self._loop.call_soon_threadsafe(self._renew, text)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        import uvicorn

        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        config = uvicorn.Config(
            _application(self._events),
            lifespan='off',
            access_log=False,
            log_config=None,
            log_level='error',
            server_header=False,
            limit_concurrency=MOST_VIEWERS,
            timeout_graceful_shutdown=round(GRACE_S),
        )
        self._server = uvicorn.Server(config)
        self._ready.set()
        await self._server.serve(sockets=[self._socket])

    def _renew(self, text: str) -> None:
        self._event, self._version = text, self._version + 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _end(self) -> None:
        self._over = self._server.should_exit = True
        self._changed.set()

    async def _events(self) -> AsyncIterator[str]:
        """Yield the event that was last when it could be sent, whenever there is a new one."""
        sent = 0
        self._viewers += 1
        try:
            yield 'retry: 1000\n\n'
            while True:
                changed = self._changed
                if self._version > sent:
                    sent = self._version
                    yield f'data: {self._event}\n\n'
                elif self._over:
                    return
                else:
                    try:
                        await asyncio.wait_for(changed.wait(), ALIVE_S)
                    except TimeoutError:
                        yield ': still there\n\n'
        finally:
            self._viewers -= 1


def _application(events: Callable[[], AsyncIterator[str]]) -> Starlette:
    """Return the ASGI application of the page, whose stream `events` makes for each viewer."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    def foreign(request: Request) -> bool:
        """Whether another page asks, of another origin than it would have under this name."""
        origin = request.headers.get('origin')
        return origin is not None and origin != f'http://{request.headers.get("host", "")}'

    async def answer(request: Request) -> Response:
        if foreign(request):
            return PlainTextResponse('Only for the page itself.', 403, HEADERS)
        if request.url.path == '/events':
            return StreamingResponse(events(), headers=HEADERS, media_type='text/event-stream')
        name, kind = FILES[request.url.path]
        return FileResponse(FOLDER / name, headers=HEADERS, media_type=kind)

    return Starlette(
        routes=[Route(path, answer) for path in ('/events', *FILES)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
    )
