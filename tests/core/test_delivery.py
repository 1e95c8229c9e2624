"""What was listed and is not written yet is no success: neither while it is on its way, nor when it never arrives."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler.delivery import Delivery
from crawler.errors import Fatal
from crawler.ledger import Ledger
from crawler.model import Account, Chain, Outcome, Result, Target, Unit
from crawler.sinks.writer import BATCH_BYTES

TARGET = Target(Account("1" * 12, "one"), "east", "1" * 12)
ROW = b"row\n"


def ended(name: str | None, outcome: Outcome = Outcome.OK) -> Result:
    return Result(Unit.of(TARGET, name), outcome, chain=Chain(pages=1, items=1, attempts=2))


class Output:
    """A blocking `write` that lets so many bytes through, and then waits or fails."""

    def __init__(self, room: int, failure: Fatal | None = None) -> None:
        self.room = room
        self.more = threading.Event()
        self.reached = threading.Event()
        self._failure = failure

    def write(self, data: bytes) -> None:
        self.room -= len(data)
        if self.room < 0:
            self.reached.set()
            if self._failure:
                raise self._failure
            self.more.wait(30)


class Lines:
    """A ledger, and the outcomes of its lines by name."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.ledger = Ledger(self._line)

    async def _line(self, data: bytes) -> None:
        await checkpoint()
        self.told += map(json.loads, data.splitlines())

    def outcomes(self) -> dict[str | None, tuple[str, str | None]]:
        found = {line["repositoryName"]: (line["outcome"], line["code"]) for line in self.told}
        assert len(found) == len(self.told), "a unit has two lines"
        return found


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await checkpoint()


def test_a_repository_is_told_once_its_rows_are_written() -> None:
    lines, output = Lines(), Output(room=0)

    async def main() -> None:
        async with Delivery(lines.ledger).writing(output.write) as send:
            await send(ROW)
            await lines.ledger.record(ended("a"))
            await until(output.reached)
            assert lines.told == []
            assert (lines.ledger.fetched(), sum(chain.attempts for chain in lines.ledger.under_way())) == (1, 2)
            output.more.set()
            output.room = BATCH_BYTES
            while not lines.told:
                await checkpoint()
            await send(ROW)
            await lines.ledger.record(ended("b"))
            assert not lines.ledger.running.keys() - {id(chain) for chain in lines.ledger.under_way()}
        assert not lines.ledger.running

    anyio.run(main)
    assert lines.outcomes() == {"a": ("OK", None), "b": ("OK", None)}
    assert (lines.ledger.totals.rows, lines.ledger.totals.requests) == (2, 4)


def test_what_has_no_rows_or_is_no_success_waits_for_nothing() -> None:
    lines, output = Lines(), Output(room=0)
    results = [ended(None), *(ended(outcome, outcome) for outcome in Outcome if outcome is not Outcome.OK)]

    async def main() -> None:
        async with Delivery(lines.ledger).writing(output.write) as send:
            await send(ROW)
            await until(output.reached)
            for result in results:
                await lines.ledger.record(result)
            assert len(lines.told) == len(results)
            output.more.set()

    anyio.run(main)
    assert len(lines.told) == len(results)


@pytest.mark.parametrize("how", ["a disk that is full", "a reader that stops reading"])
def test_what_was_not_written_by_the_end_has_failed(how: str) -> None:
    failure = Fatal("WriteFailed", "No space left on device") if how.startswith("a disk") else None
    lines, output = Lines(), Output(room=len(ROW), failure=failure)

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with Delivery(lines.ledger).writing(output.write) as send:
                await send(ROW)
                await lines.ledger.record(ended("written"))
                while not lines.told:
                    await checkpoint()
                await send(ROW)
                await lines.ledger.record(ended("on its way"))
                await until(output.reached)
                if not failure:
                    await send(ROW)
                    await lines.ledger.record(ended("waits"))
                    scope.cancel()
                await anyio.sleep_forever()

    try:
        if failure:
            with pytest.raises(ExceptionGroup):
                anyio.run(main)
        else:
            anyio.run(main)
    finally:
        output.more.set()
    lost = {"on its way"} if failure else {"on its way", "waits"}
    assert lines.outcomes() == {"written": ("OK", None), **dict.fromkeys(lost, ("FAILED", "NotWritten"))}
    assert lines.ledger.totals.rows == 1 + len(lost)
    (cause,) = lines.ledger.failures
    assert cause.units == len(lost)
    assert not lines.ledger.running
