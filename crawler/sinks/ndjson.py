"""Rows as NDJSON, on whatever takes bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from crawler.model import Image, Result, RowKind, Target
from crawler.rows import ENCODERS
from crawler.sinks.writer import Send


class NdjsonSink:
    """Each page encoded where it was fetched, and sent as one piece of whole lines. Remembers nothing."""

    def __init__(self, send: Send, rows: RowKind = RowKind.IDS) -> None:
        self._send = send
        self._encode = ENCODERS[rows]

    def holds(self, target: Target, repository: str | None = None) -> bool:  # noqa: ARG002  (its protocol's)
        """See `Sink`."""
        return False

    def repository(self, target: Target, name: str) -> NdjsonRows:
        """See `Sink`."""
        return NdjsonRows(self._send, self._encode, target, name)

    def target_ended(self, result: Result) -> None:
        """See `Sink`."""


class NdjsonRows:
    """Rows of one repository, on their way as soon as they are sent."""

    __slots__ = ("_encode", "_name", "_send", "_target")

    def __init__(self, send: Send, encode: Callable[..., bytes], target: Target, name: str) -> None:
        self._send = send
        self._encode = encode
        self._target = target
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `Rows`."""

    async def send(self, images: Sequence[Image]) -> None:
        """See `Rows`."""
        if images:
            await self._send(self._encode(self._target.registry_id, self._target.region, self._name, images))

    def commit(self, result: Result) -> None:
        """See `Rows`."""
