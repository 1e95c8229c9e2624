"""The faults that break an answer on the wire."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from crawler.emulator.messages import Answer

if TYPE_CHECKING:
    from crawler.emulator.connection import Connection

#: Time for what was written to reach the client before a reset, which would overtake it; seconds.
_SETTLE = 0.02
_DRIP = 0.2
_CHUNK_BYTES = 1000


def _reset(connection: Connection) -> None:
    """Close with RST: with a linger of 0 the kernel drops what is left and says so."""
    sock: socket.socket = connection.transport.get_extra_info("socket")
    # A duplicate of our own: the loop's object is not a socket everywhere. The option belongs to the connection.
    with socket.socket(fileno=os.dup(sock.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()


def _whole(answer: Answer) -> bytes:
    return b"Content-Length: %d" % len(answer.body)


def _half(connection: Connection, answer: Answer) -> None:
    connection.transport.write(connection.head(answer, _whole(answer)) + answer.body[: len(answer.body) // 2])


def _reset_before_response(connection: Connection, answer: Answer) -> None:  # noqa: ARG001 - none of it is sent
    _reset(connection)


def _reset_mid_body(connection: Connection, answer: Answer) -> None:
    _half(connection, answer)
    connection.after(_SETTLE, lambda: _reset(connection))


def _short_fin(connection: Connection, answer: Answer) -> None:
    _half(connection, answer)
    connection.transport.close()


def _chunks(body: bytes) -> bytes:
    pieces = [body[i : i + _CHUNK_BYTES] for i in range(0, len(body), _CHUNK_BYTES)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def _unterminated_chunk(connection: Connection, answer: Answer) -> None:
    connection.transport.write(connection.head(answer, b"Transfer-Encoding: chunked") + _chunks(answer.body))
    connection.transport.close()


def _chunked_body(connection: Connection, answer: Answer) -> None:
    head = connection.head(answer, b"Transfer-Encoding: chunked")
    connection.transport.write(head + _chunks(answer.body) + b"0\r\n\r\n")
    connection.done()


def _content_length_too_large(connection: Connection, answer: Answer) -> None:
    connection.transport.write(connection.head(answer, b"Content-Length: %d" % (len(answer.body) + 100)) + answer.body)
    connection.transport.close()


def _content_length_too_small(connection: Connection, answer: Answer) -> None:
    claimed = max(0, len(answer.body) - 20)
    connection.transport.write(connection.head(answer, b"Content-Length: %d" % claimed) + answer.body)
    connection.done()


def _stall(connection: Connection, answer: Answer) -> None:
    if answer.seconds is not None:
        connection.after(answer.seconds, lambda: _send(connection, answer))


def _send(connection: Connection, answer: Answer) -> None:
    connection.transport.write(connection.head(answer, _whole(answer)) + answer.body)
    connection.done()


def _twice(connection: Connection, answer: Answer) -> None:
    connection.transport.write(2 * (connection.head(answer, _whole(answer)) + answer.body))
    connection.done()


def _slow_loris(connection: Connection, answer: Answer) -> None:
    connection.transport.write(connection.head(answer, _whole(answer)))
    seconds = _DRIP if answer.seconds is None else answer.seconds

    def drip(sent: int) -> None:
        connection.transport.write(answer.body[sent : sent + 1])
        if sent + 1 < len(answer.body):
            connection.after(seconds, lambda: drip(sent + 1))
        else:
            connection.done()

    connection.after(seconds, lambda: drip(0))


#: What `Answer.delivery` may name, apart from `whole`.
DELIVERIES: Mapping[str, Callable[[Connection, Answer], None]] = {
    "reset-before-response": _reset_before_response,
    "reset-mid-body": _reset_mid_body,
    "short-fin": _short_fin,
    "unterminated-chunk": _unterminated_chunk,
    "content-length-too-large": _content_length_too_large,
    "content-length-too-small": _content_length_too_small,
    "stall": _stall,
    "slow-loris": _slow_loris,
    "chunked-body": _chunked_body,
    "answered-twice": _twice,
}
