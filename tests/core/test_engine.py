"""Signals, sent for real: the first stops the work and leaves time to write, the second ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler.engines.local import GRACE, Stop
from tests.fakes import run

both = pytest.mark.parametrize("backend", ["trio", "asyncio"])
hangup = pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="these tests run under nohup")
signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=hangup)])


def kill_self(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@both
@signals
def test_the_first_signal_cancels_the_work_and_nothing_else(backend: str, number: signal.Signals) -> None:
    told: list[str] = []

    async def main() -> Stop:
        stop = Stop()

        async def work() -> None:
            kill_self(number)
            try:
                await anyio.sleep_forever()
            finally:
                told.append("work ends")

        async with stop.listening():
            await stop.run(work)
            await checkpoint()  # what is written now is not cancelled
            told.append("written")
        return stop

    stop = run(main, backend)
    assert (stop.signal, stop.cut_short) == (number, False)
    assert told == ["work ends", "written"]


@both
@signals
def test_it_listens_from_the_first_moment(backend: str, number: signal.Signals) -> None:
    async def main() -> Stop:
        stop = Stop()
        async with stop.listening():
            kill_self(number)
            await stop.run(anyio.sleep_forever)
        return stop

    assert run(main, backend).signal == number


@both
def test_a_signal_before_the_work_begins_is_not_lost(backend: str) -> None:
    async def main() -> list[str]:
        stop, began = Stop(), []

        async def work() -> None:
            began.append("began")
            await anyio.sleep_forever()

        async with stop.listening():
            kill_self(signal.SIGTERM)
            while stop.signal is None:
                await checkpoint()
            await stop.run(work)
        return began

    assert run(main, backend) == ["began"]


def test_what_is_still_unwritten_after_the_grace_is_cut_short() -> None:
    async def main() -> tuple[Stop, float]:
        stop = Stop()
        async with stop.listening():
            with stop.within():
                kill_self(signal.SIGINT)
                await stop.run(anyio.sleep_forever)
                since = anyio.current_time()
                await anyio.sleep_forever()
        return stop, anyio.current_time() - since

    stop, waited = run(main)
    assert stop.cut_short
    assert waited == pytest.approx(GRACE)
    assert GRACE < 5


def test_what_the_ledger_has_to_tell_of_has_ended_before_its_own_end() -> None:
    async def main() -> tuple[Stop, list[float]]:
        stop, waited = Stop(), []
        async with stop.listening():
            since = anyio.current_time()
            with stop.within():
                with stop.within(spare=1.5):
                    kill_self(signal.SIGINT)
                    await anyio.sleep_forever()
                waited.append(anyio.current_time() - since)
                with stop.within(spare=0.5):
                    await anyio.sleep_forever()
                waited.append(anyio.current_time() - since)
        return stop, waited

    stop, waited = run(main)
    assert stop.cut_short
    assert waited == pytest.approx([GRACE - 1.5, GRACE - 0.5])


def test_a_signal_that_comes_between_two_works_is_one_for_all_that_follows() -> None:
    """What follows the crawl: the ledger is written, the publication not begun, and what may wait has what is left."""
    told: list[object] = []

    async def main() -> None:
        stop = Stop()

        async def work() -> None:
            told.append("begun")
            await checkpoint()
            told.append("ended")

        async with stop.listening():
            await stop.run(work)
            kill_self(signal.SIGTERM)
            await anyio.sleep(1.0)
            told.append("between")
            await stop.run(work)
            since = anyio.current_time()
            with stop.within():
                await anyio.sleep_forever()
            told.append(anyio.current_time() - since)
            with stop.within(at_least=0.5):
                await anyio.sleep_forever()
            told.append(anyio.current_time() - since)

    run(main)
    assert told == ["begun", "ended", "between", "begun", GRACE - 1.0, GRACE - 0.5]


def test_a_signal_cuts_short_what_was_begun_without_a_bound() -> None:
    async def main() -> float:
        stop = Stop()
        async with stop.listening():
            since = anyio.current_time()
            with stop.within(at_least=0.5):
                kill_self(signal.SIGTERM)
                await anyio.sleep_forever()
        return anyio.current_time() - since

    assert run(main) == GRACE


@both
def test_without_a_signal_nothing_changes(backend: str) -> None:
    async def main() -> Stop:
        stop = Stop()
        async with stop.listening():
            await stop.run(checkpoint)
        return stop

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop = run(main, backend)
    assert (stop.signal, stop.cut_short) == (None, False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_under_nohup_a_terminal_may_go_away() -> None:
    async def main() -> Stop:
        stop = Stop()
        async with stop.listening():
            kill_self(signal.SIGHUP)
            await stop.run(checkpoint)
        return stop

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(main).signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


@both
def test_an_error_of_the_work_leaves(backend: str) -> None:
    async def fails() -> None:
        await checkpoint()
        raise ValueError("a bug")

    async def main() -> None:
        stop = Stop()
        async with stop.listening():
            await stop.run(fails)

    with pytest.raises(ValueError, match="a bug"):
        run(main, backend)


PROGRAM = """
import os, signal, sys
import anyio
from crawler.engines.local import Stop

async def main():
    stop = Stop()
    async with stop.listening():
        with anyio.CancelScope(shield=True):
            for name in sys.argv[2:]:
                os.kill(os.getpid(), signal.Signals[name])
                while stop.signal is None:
                    await anyio.sleep(0)
            if len(sys.argv) > 3:
                await anyio.sleep_forever()
        await stop.run(anyio.sleep_forever)
    print(stop.signal.name)
    sys.exit(128 + stop.signal)

anyio.run(main, backend=sys.argv[1])
"""


@both
@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["SIGINT"], 130, "SIGINT\n"),
        (["SIGTERM"], 143, "SIGTERM\n"),
        (["SIGINT", "SIGINT"], 130, ""),
        (["SIGTERM", "SIGINT"], 130, ""),
        (["SIGINT", "SIGTERM"], 143, ""),
        pytest.param(["SIGHUP"], 129, "SIGHUP\n", marks=hangup),
        # A shell that ends sends it, and so does the kernel: that is one terminal gone, and no one in a hurry.
        pytest.param(["SIGHUP", "SIGHUP", "SIGINT"], 130, "", marks=hangup),
    ],
)
def test_the_second_signal_ends_the_process_where_it_stands(
    backend: str, names: list[str], code: int, said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, backend, *names],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, said, "")
