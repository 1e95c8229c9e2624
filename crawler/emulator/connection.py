"""One HTTP connection: requests are parsed as they come and answered in their order.

A protocol of callbacks and not a task per request: the server has to be faster than any client that is measured
against it, and without latency the answer is on its way before the callback returns.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from random import Random
from typing import cast

import httptools
import orjson

from crawler.emulator.counters import Place
from crawler.emulator.deliveries import DELIVERIES
from crawler.emulator.messages import JSON, Answer, Request
from crawler.emulator.services import Services

_REASONS = {int(status): status.phrase for status in HTTPStatus}
_CREDENTIALS = (b"authorization", b"x-amz-security-token")
_LOCAL_PATHS = (b"/stats", b"/reset", b"/redirected")
_START = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nDate: %b\r\nx-amzn-RequestId: 00000000-0000-4000-8000-%012x\r\n"
_OK = _START.replace(b"%b", b"200 OK", 1).replace(b"%b", JSON.encode(), 1) + b"%b\r\n\r\n"
_request_numbers = itertools.count(1)


class Connection(asyncio.Protocol):
    """Server side of one connection."""

    def __init__(self, services: Services, random: Random, connections: set[Connection]) -> None:
        self._services = services
        self._counters = services.world.counters
        self._random = random
        self._connections = connections
        latency = services.world.options.latency
        self._latency = latency if isinstance(latency, tuple) else (latency, latency) if latency else None
        self._waiting: deque[Request] = deque()
        self._current: Place | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio opens the connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        # The parser calls these for every field: methods of the containers themselves are several times faster than
        # ours would be. A header that is repeated keeps its last value.
        self._url: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.on_url, self.on_header, self.on_body = self._url.append, self._headers.__setitem__, self._body.append
        self._parser = httptools.HttpRequestParser(self)
        self._connections.add(self)
        self._counters.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Asyncio has closed the connection, for whatever reason."""
        self._connections.discard(self)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            # A bug of ours: the loop reports it and closes the connection.
            raise
        except httptools.HttpParserError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def on_message_complete(self) -> None:
        """The parser has a whole request."""
        self._keep_alive = self._parser.should_keep_alive()
        request = Request(self._parser.get_method(), b"".join(self._url), self._headers.copy(), b"".join(self._body))
        self._url.clear()
        self._headers.clear()
        self._body.clear()
        if self._current is None:
            self._begin(request)
        else:
            self._waiting.append(request)

    def _begin(self, request: Request) -> None:
        if request.url.startswith(_LOCAL_PATHS):
            self._deliver(self._local(request))
            return
        answer, place = self._services.answer(request)
        self._current = place
        self._counters.enter(place)
        if self._latency is None:
            self._deliver(answer)
        else:
            self.after(self._random.uniform(*self._latency), lambda: self._deliver(answer))

    def _deliver(self, answer: Answer) -> None:
        if answer.delivery == "whole":
            self.transport.writelines((self.head(answer, b"Content-Length: %d" % len(answer.body)), answer.body))
            self.done()
        else:
            DELIVERIES[answer.delivery](self, answer)

    def head(self, answer: Answer, framing: bytes) -> bytes:
        """Status line and headers. `framing` is the field that tells where the body ends."""
        # The id comes from a counter: it only has to differ.
        now = _http_date(int(self.loop.time()))
        if not answer.headers and answer.status == HTTPStatus.OK and answer.content_type == JSON:
            return _OK % (now, next(_request_numbers), framing)
        date = answer.headers.get("Date", "").encode() or now
        start = _START % (_status_line(answer.status), answer.content_type.encode(), date, next(_request_numbers))
        if answer.headers:
            lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items() if name != "Date")
            start += lines.encode("latin-1")
        return start + framing + b"\r\n\r\n"

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Go on later, unless the connection is gone by then; at once for 0."""
        if seconds > 0:
            self._timer = self.loop.call_later(seconds, then)
        else:
            then()

    def done(self) -> None:
        """The answer is out: close if the client wants it so, else take the next request."""
        self._timer = None
        self._finish()
        if not self._keep_alive and not self._waiting:
            self.transport.close()
        elif self._waiting:
            self._begin(self._waiting.popleft())

    def _finish(self) -> None:
        if self._current is not None:
            self._counters.leave(self._current)
            self._current = None

    def _local(self, request: Request) -> Answer:
        """Requests about the emulator itself."""
        body = b"{}"
        if request.path == "/stats":
            body = orjson.dumps(self._counters.snapshot())
        elif request.path == "/reset" and request.method == b"POST":
            self._counters.reset()
        elif request.path.startswith("/redirected"):
            seen = [name.decode() for name in _CREDENTIALS if name in request.headers]
            self._counters.redirected.append(
                {"path": request.path, "method": request.method.decode(), "credentials": seen}
            )
        return Answer(body, content_type="application/json")


@cache
def _status_line(status: int) -> bytes:
    return f"{status} {_REASONS.get(status, '')}".encode()


@lru_cache(maxsize=1)
def _http_date(second: int) -> bytes:  # noqa: ARG001 - a new one each second of the loop's clock
    return formatdate(usegmt=True).encode()
