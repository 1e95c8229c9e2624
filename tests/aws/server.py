"""An HTTP server that answers byte for byte what a test tells it to: also what no HTTP library would send."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """`ListImages`, `AssumeRole`, or a path."""
        target = self.headers.get("x-amz-target")
        if target:
            return target.rpartition(".")[2]
        return self.form.get("Action") or self.line.split()[1]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def access_key(self) -> str:
        return self.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]


#: Bytes are sent as they are, then the connection goes on; None resets it.
Reply = bytes | None
Handler = Callable[[Request], Reply]


def answer(body: object = b"", status: int = 200, **headers: str) -> bytes:
    """A well-formed response; what is not bytes is sent as JSON. Underscores in header names become hyphens."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def assumed(access_key: str = "ASIAROLE", *, operation: str = "AssumeRole") -> bytes:
    return answer(
        f"""<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{operation}Result><Credentials>
        <AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>canarySecret{access_key}</SecretAccessKey>
        <SessionToken>canaryToken{access_key}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>
        <AssumedRoleUser><AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser>
        </{operation}Result></{operation}Response>""".encode()
    )


def refused(code: str, status: int = 400, message: str = "no") -> bytes:
    return answer({"__type": code, "message": message}, status)


def sts_refused(code: str, status: int = 403, message: str = "no") -> bytes:
    return answer(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "</ErrorResponse>".encode(),
        status,
    )


@dataclass
class Server:
    port: int
    scheme: str = "http"
    host: str = "127.0.0.1"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def count(self, operation: str) -> int:
        return sum(request.operation == operation for request in self.requests)

    def asked(self, operation: str) -> list[Request]:
        return [request for request in self.requests if request.operation == operation]


#: At the end of a reply: close the connection after it.
CLOSE = b"\0<close>\0"


async def _read_request(stream: asyncio.StreamReader) -> Request:
    head = (await stream.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
    line, *rest = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    body = await stream.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on a free port of 127.0.0.1. A reply without a full body leaves the connection open and silent."""
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await _read_request(reader)
                server.requests.append(request)
                reply = handler(request)
                if reply is None:
                    break
                writer.write(reply.removesuffix(CLOSE))
                await writer.drain()
                if reply.endswith(CLOSE):
                    writer.close()
                    return
        writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        talking.add(task)
        task.add_done_callback(talking.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = Server(port, "https" if tls else "http", "localhost" if tls else "127.0.0.1")
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(talking):
            task.cancel()
        await asyncio.gather(*talking)
        await asyncio.sleep(0)  # transports close their sockets one step later
        await listener.wait_closed()
