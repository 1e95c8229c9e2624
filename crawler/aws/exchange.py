"""One request and its answer on a connection of aiohttp's pool, without what `ClientSession.request` does around it.

aiohttp makes the connections (names, TLS, proxies, keep-alive) and parses the answers, in C. Its session prepares each
request for cookies, redirects, authentication, tracing, forms and streamed bodies, none of which exists here, and that
is two thirds of what a small request costs (benchmarks/README.md). `TCPConnector.connect` is the documented door below
it; `ResponseHandler` behind it is not, so pyproject.toml holds aiohttp to the minor versions that were tested.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from crawler.errors import CrawlError

#: Bytes. A page of 1,000 image IDs is a quarter of a MiB; what is 256 times that is no page.
BODY_LIMIT = 64 * 2**20

#: Bytes of a body that are read ahead; more pauses the connection.
_READ_AHEAD = 2**20

_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=None)


class Response(NamedTuple):
    """An answer, read to its end. `headers` are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def destination(origin: URL, proxy: URL | None, tls: ssl.SSLContext) -> aiohttp.ClientRequest:
    """What the connector wants to know of whom to connect to. Holds no request; good for all that go there."""
    return aiohttp.ClientRequest(
        "POST", origin, proxy=proxy, ssl=tls, skip_auto_headers=("User-Agent",), loop=asyncio.get_running_loop()
    )


async def exchange(connector: aiohttp.TCPConnector, to: aiohttp.ClientRequest, request: bytes) -> Response:
    """Send one serialized request and read its answer to the end.

    The connection goes back to the pool after a whole answer, and is closed after anything else.
    Raises what aiohttp raises, or `CrawlError` for an answer that is too large.
    """
    connection = await connector.connect(to, [], _NO_LIMIT)
    while connection.protocol and connection.protocol.should_close:
        # aiohttp asks that before it keeps a connection, not when it hands it out again. What has come meanwhile, asked
        # by nobody, would be taken for the answer to this request.
        connection.close()
        connection = await connector.connect(to, [], _NO_LIMIT)
    try:
        response = await _answer(connection, request, to.host)
    except BaseException:
        connection.close()
        raise
    connection.release()
    return response


def serialize(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """One HTTP/1.1 request (RFC 9112 §2.1) as bytes, its Content-Length added; `target` is path and query.

    Raises `CrawlError` for a header that would be two.
    """
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise _broken(headers)
    return b"%b\r\n\r\n%b" % (head.encode("utf-8", "surrogateescape"), body or b"")


def _broken(headers: Mapping[str, str]) -> CrawlError:
    # By name alone: the value may be a session token.
    names = [name for name, value in headers.items() if "\r" in value or "\n" in value]
    return CrawlError(
        "BadHeader", f"a line break in {', '.join(names)}: look at the credentials and AWS config it is from"
    )


async def _answer(connection: Connection, request: bytes, host: str) -> Response:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_bufsize=_READ_AHEAD)
    transport.write(request)
    while True:
        message, payload = await protocol.read()
        if message.code >= 200:  # noqa: PLR2004 RFC 9110 §15.2: interim answers come before the one that counts
            break
    headers: Mapping[str, str] = message.headers
    length = headers.get("Content-Length")
    if length is not None and "Content-Encoding" not in headers and int(length) <= BODY_LIMIT:
        return Response(message.code, headers, await payload.read())
    chunks: list[bytes] = []
    size = 0
    async for chunk in payload.iter_any():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise CrawlError("BodyTooLarge", f"{host} answers with more than {BODY_LIMIT} bytes")
        chunks.append(chunk)
    return Response(message.code, headers, b"".join(chunks))
