"""Limits on concurrent requests, body size and buffered bytes, and cancellation when a client disconnects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pg_semantic.service import auth, error_responses
from pg_semantic.settings import Settings, variable

_BODIES = 16  # of the maximum size, buffered at once
_BODY_SECONDS = 30.0
_UNBOUNDED = auth.OPEN | {"/metrics"}  # monitoring must get through under overload


class _Refused(Exception):  # noqa: N818 - not an error: carries a response
    def __init__(self, app: ASGIApp) -> None:
        self.app = app


class _Gone(Exception):  # noqa: N818 - not an error: the client disconnected
    pass


class AdmissionMiddleware:
    """Middleware that reads request bodies within limits, and cancels the work for a client that disconnects.

    Requests to open paths don't count, and their bodies aren't read. Otherwise callers without the key could exhaust
    the limit.

    Args:
        open_paths: Paths that need no key. They have no limits, like ``/health``, ``/ready`` and ``/metrics``.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, open_paths: frozenset[str] = auth.OPEN) -> None:
        self._app = app
        self._settings = settings
        self._unbounded = _UNBOUNDED | open_paths
        self._requests = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admits a request, or refuses it with status 408, 413 or 429."""
        if scope["type"] != "http" or scope["path"] in self._unbounded:
            await self._app(scope, receive, send)
            return
        try:
            async with self._place():
                await self._take(scope, receive, send)
        except _Refused as refused:
            await refused.app(scope, receive, send)
        except _Gone:
            return

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._requests >= self._settings.service_requests:
            raise _Refused(
                error_responses.overloaded(
                    f"The service is busy with {self._requests} requests. Try again in a moment."
                )
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        try:
            await self._read(body, scope, receive)
            await _serve_unless_gone(self._app, scope, _Replay(bytes(body), receive), send=send)
        finally:
            self._bytes -= len(body)

    async def _read(self, body: bytearray, scope: Scope, receive: Receive) -> None:
        most = self._settings.service_body_bytes
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise _Refused(_too_large(most))
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    self._keep(body, message.get("body", b""), most=most)
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            slow = error_responses.answer(
                408, f"The request body didn't arrive within {_BODY_SECONDS:g} s. Try again.", "too_slow"
            )
            raise _Refused(slow) from None

    def _keep(self, body: bytearray, part: bytes, *, most: int) -> None:
        if len(body) + len(part) > most:
            raise _Refused(_too_large(most))
        if self._bytes + len(part) > most * _BODIES:
            raise _Refused(
                error_responses.overloaded("The service is reading too many bytes at once. Try again in a moment.")
            )
        body += part
        self._bytes += len(part)


class _Replay:
    """Passes the body to the application, and then reports nothing until the client disconnects."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def until_gone(self) -> None:
        """Waits for the client to disconnect."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()


async def _serve_unless_gone(app: ASGIApp, scope: Scope, replay: _Replay, *, send: Send) -> None:
    serving = asyncio.ensure_future(app(scope, replay, send))
    leaving = asyncio.ensure_future(replay.until_gone())
    try:
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        for task in (serving, leaving):
            task.cancel()
        await asyncio.gather(serving, leaving, return_exceptions=True)


def _too_large(most: int) -> ASGIApp:
    message = f"The request body is too large: send at most {most} bytes ({variable('service_body_bytes')})."
    return error_responses.answer(413, message, "too_large", headers={"Connection": "close"})
