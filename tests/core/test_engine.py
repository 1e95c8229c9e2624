"""Signals, sent for real: the first stops the work and leaves time to write, the second ends the process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler.engines.local import GRACE, Stop
from tests.fakes import leaves, run

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


def test_what_is_left_of_the_grace() -> None:
    async def main() -> list[float]:
        stop = Stop()
        seen = [stop.seconds_left()]
        async with stop.listening():
            kill_self(signal.SIGTERM)
            await stop.run(anyio.sleep_forever)
            seen.append(stop.seconds_left())
            await anyio.sleep(1.5)
            seen.append(stop.seconds_left())
            await anyio.sleep(1.5)
        await anyio.sleep(10)
        return [*seen, stop.seconds_left()]

    assert run(main) == [math.inf, GRACE, GRACE - 1.5, 0.0]


def test_what_is_still_unwritten_after_the_grace_is_cut_short() -> None:
    async def main() -> tuple[Stop, float]:
        stop = Stop()
        async with stop.listening():
            kill_self(signal.SIGINT)
            await stop.run(anyio.sleep_forever)
            since = anyio.current_time()
            await anyio.sleep_forever()
        return stop, anyio.current_time() - since

    stop, waited = run(main)
    assert stop.cut_short
    assert waited == pytest.approx(GRACE)
    assert GRACE < 5


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

    with pytest.raises(ExceptionGroup) as caught:
        run(main, backend)
    assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug"]


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
