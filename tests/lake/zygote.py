"""Starts the program again and again by forking, so that a hundred crashes cost a hundred crawls and not their imports.

Reads orders as lines of JSON from standard input, and answers each with the process id, and then the exit status, as
`waitpid` gives it.

`file_bytes` is how long any file may grow, as if the disk were full. `kill_at_write` N ends the program by SIGKILL:
before a write to the store where N is odd, after one where it is even, two for each write. `kill_after` does so after
that many seconds. `fault` is what `failing_disk.c` shall do, if it is loaded: operation, N, number of the error (0 for
SIGKILL), whether all later ones fail too; where it struck is written to the file `struck`. Parts end early, so that
there is something to resume.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import obstore

import crawler.comparison
import crawler.job
import crawler.publication
import crawler.tables.delta
from crawler import cli
from crawler.sinks import parts
from crawler.sinks.memory import Memory

#: What changes a store: a folder by the first ones, on a thread, and a bucket by the others.
_WRITES = ("put", "rename", "delete")
_ASYNC_WRITES = ("put_async", "delete_async")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


@contextmanager
def _counted(countdown: list[int]) -> Generator[None]:
    """Die before or after the body, if it is its turn."""
    countdown[0] -= 2
    left = countdown[0]  # others may write meanwhile
    if left == -1:
        _die()
    try:
        yield
    finally:  # also where it was refused, as the probe is that every attempt makes
        if left == 0:
            _die()


def _deadly(write: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        with _counted(countdown):
            return write(*args, **kwargs)

    return counted


def _deadly_async(write: Callable[..., Awaitable[Any]], countdown: list[int]) -> Callable[..., Awaitable[Any]]:
    async def counted(*args: Any, **kwargs: Any) -> Any:
        with _counted(countdown):
            return await write(*args, **kwargs)

    return counted


def _be_the_program(order: dict[str, Any]) -> None:
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    log = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(log, 1)
    sizes = parts.Sizes(seconds=order["checkpoint"], share=0.0, part=order.get("part", 1 << 26))
    parts.Sizes = lambda: sizes  # type: ignore[assignment,misc]  # a fake in its place
    parts.Memory = partial(Memory, 1 << 16)  # type: ignore[assignment,misc]  # a fake in its place
    if limit := order.get("file_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if at := order.get("kill_at_write"):
        countdown = [at]
        for name in _WRITES:
            setattr(obstore, name, _deadly(getattr(obstore, name), countdown))
        for name in _ASYNC_WRITES:
            setattr(obstore, name, _deadly_async(getattr(obstore, name), countdown))
    if fault := order.get("fault"):
        operation, at, error, ever = fault
        tempfile.gettempdir()  # it tries some folders, and writes into each
        struck = os.open("struck", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if not ctypes.CDLL(None).fail_at(operation.encode(), at, error, ever, struck):
            raise ValueError(operation)
    if number := order.get("signal_while_publishing"):

        async def interrupted(*_: object) -> None:
            os.kill(os.getpid(), number)
            await anyio.sleep_forever()

        crawler.publication.merged = interrupted  # type: ignore[assignment]  # a fake in its place
    sys.argv = ["crawler", *order["arguments"]]
    cli.main()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _be_the_program(order)
            except SystemExit as ended:
                sys.stdout.flush()  # which `_exit` does not
                os._exit(ended.code if isinstance(ended.code, int) else 1)
            except BaseException:  # noqa: BLE001  (whatever it is, two of us must not go on)
                import traceback  # noqa: PLC0415  (of a failure alone)

                traceback.print_exc()
                os._exit(99)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        if (seconds := order.get("kill_after")) is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
