"""Where a run's rows go, as the job sees it: a stream, or a store in which it is published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from crawler.delivery import Delivery
from crawler.hints import Memory
from crawler.ledger import Ledger
from crawler.model import Account, Result, RowKind
from crawler.runs.layout import make_run_id
from crawler.shard import Held, Report
from crawler.sinks import Sink
from crawler.sinks.ndjson import NdjsonSink
from crawler.sinks.output import Output
from crawler.sinks.writer import Send
from crawler.timeline import Timeline

if TYPE_CHECKING:
    from crawler.runs.documents import Claim

Take = Callable[[Report], Awaitable[None]]
Learn = Callable[[Mapping[str, Memory]], None]


class AlreadyPublished(Exception):
    """The run that was asked for is there: its id is its own idempotency key. `status` is as in the report."""

    def __init__(self, run_id: str, where: str, status: str) -> None:
        super().__init__(
            f"run {run_id} is already published in {where}, {status}: nothing was crawled; another --run-id crawls anew"
        )
        self.status = status


class Destination(Protocol):
    """What the job asks of it, in this order. Its failures are `Fatal`. `run_id` names the run in the log."""

    @property
    def run_id(self) -> str:
        """See the class."""
        ...

    @property
    def claim(self) -> Claim | None:
        """Under which others commit parts of this run; None where rows go to a stream."""
        ...

    def taking(self, ledger: Ledger) -> AbstractAsyncContextManager[Sink]:
        """Take rows while the body runs. What they are not safe with by the end is no success in the `ledger`."""
        ...

    def gathering(self) -> AbstractAsyncContextManager[Take]:
        """In place of `taking`: take reports of shards while the body runs, the rows of each all at once."""
        ...

    def held(self, account: Account) -> Iterable[Held]:
        """What earlier attempts have committed of what an account reads. After `recall`."""
        ...

    def keeping(self) -> AbstractAsyncContextManager[Send | None]:
        """Take the lines of the ledger while the body runs; None where it wants none."""
        ...

    async def recall(self, record: Callable[[Result], Awaitable[None]], learn: Learn) -> None:
        """Pass on the results of units that earlier attempts have brought to an end, and what they have learned."""
        ...

    async def publish(self, status: str, ledger: Ledger, timeline: Timeline) -> None:
        """Let appear what was taken, all at once. `status` is as in the report."""
        ...

    def left_behind(self) -> str:
        """Say what an interrupted run leaves, and where; empty for nothing."""
        ...

    def published(self) -> str:
        """Say under which name it was published; empty where it was not, or has none."""
        ...


class StreamDestination:
    """Standard output, or a file that appears when it is whole."""

    def __init__(self, output: Output, name: str, rows: RowKind) -> None:
        self.run_id = make_run_id(datetime.now(UTC))
        self._output = output
        self._name = name
        self._rows = rows
        self.claim: Claim | None = None

    @asynccontextmanager
    async def taking(self, ledger: Ledger) -> AsyncGenerator[Sink]:
        """See `Destination`."""
        async with Delivery(ledger).writing(self._output.write) as send:
            yield NdjsonSink(send, self._rows)

    @asynccontextmanager
    async def gathering(self) -> AsyncGenerator[Take]:
        """See `Destination`."""
        turn = anyio.Lock()

        async def take(report: Report) -> None:
            if report.rows:
                with ExitStack() as waiting:
                    rows = waiting.enter_context(report.rows)
                    async with turn:
                        waiting.pop_all()  # the thread closes it: that may be abandoned, and reads on
                        await to_thread.run_sync(self._copy, rows, abandon_on_cancel=True)

        yield take

    def _copy(self, rows: IO[bytes]) -> None:
        with rows:
            self._output.copy(rows)

    def held(self, account: Account) -> Iterable[Held]:  # noqa: ARG002  (its protocol's)
        """See `Destination`."""
        return ()

    @asynccontextmanager
    async def keeping(self) -> AsyncGenerator[None]:
        """See `Destination`."""
        yield None

    async def recall(self, record: Callable[[Result], Awaitable[None]], learn: Learn) -> None:
        """See `Destination`. There are no earlier attempts."""

    async def publish(self, status: str, ledger: Ledger, timeline: Timeline) -> None:  # noqa: ARG002  (its protocol's)
        """See `Destination`."""
        self._output.publish()

    def published(self) -> str:
        """See `Destination`."""
        return ""

    def left_behind(self) -> str:
        """See `Destination`."""
        return f"the rows so far are in {self._name}.partial" if self._name != "-" else ""
