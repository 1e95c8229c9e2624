"""Shards as tasks of Ray Core, on a cluster or on this machine alone.

https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stdout
from typing import Any, TypeVar

import anyio
import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from crawler.engines import Lost
from crawler.errors import Fatal, UsageError
from crawler.shard import Report, Shard

AssignmentT = TypeVar("AssignmentT")

#: CPUs that Ray sets aside for a shard: it waits for AWS most of its time.
_CPUS = 0.5

#: Shards handed to Ray for each that it can run at once: so many that none of its workers waits for us.
_WINDOW = 2

#: Seconds in which a head that is there takes a connection.
_PATIENCE = 5.0

#: Seconds in which a cluster takes us in.
_LONGEST = 60.0

_LOCAL = "local"

#: What tells that a process is no more, its machine, or what it returned.
_LOST = (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """Be part of the cluster while the body runs; without an address, and RAY_ADDRESS, of this machine alone.

    Raises `UsageError` where nobody answers there.
    """
    # Not Ray's own search for one that is here: it would wait for what a killed one has left behind.
    address = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    if address != _LOCAL:
        _knock(address)
    # Ray prints what its machines have to say on standard output, which is not for that, and waits for its reader.
    with redirect_stdout(sys.stderr):
        try:
            # One of this machine has bounds of its own, and may need long where the machine is busy.
            with nullcontext() if address == _LOCAL else _bounded(address):
                ray.init(address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
        except (RayError, OSError, ValueError, RuntimeError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"--address {address}: no Ray cluster: {said}") from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _bounded(address: str) -> Generator[None]:
    """End the process if the body takes too long: Ray waits in C++, for minutes, where no exception reaches it."""

    def give_up() -> None:
        sys.stderr.write(f"--address {address}: what answers there does not answer as Ray does\n")
        sys.stderr.flush()
        os._exit(2)

    timer = threading.Timer(_LONGEST, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _knock(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if "://" in address or not (colon and port.isdecimal()):
        raise UsageError(f"--address {address}: write HOST:PORT of the head's GCS, as `ray start --head` prints it")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: nobody answers there: {error}") from error


class Cluster:
    """See `Crew`. `crawl` is run as a task with the `assignment` and a shard; what it returns may be a `Fatal`."""

    def __init__(self, crawl: Callable[[AssignmentT, Shard], Report | Fatal], assignment: AssignmentT) -> None:
        # Ray tries nothing again: whoever hands out shards does, and knows from which machine each one came back.
        self._task = ray.remote(num_cpus=_CPUS, max_retries=0)(crawl)
        self._assignment: Any = assignment
        self.workers = self.at_once = 1

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Cluster]:
        """Use the cluster that this process is connected to."""
        self._assignment = ray.put(self._assignment)
        cpus = max(1.0, ray.cluster_resources().get("CPU", 1.0))
        self.workers = int(cpus)
        self.at_once = int(_WINDOW * cpus / _CPUS)
        yield self

    async def crawl(self, shard: Shard) -> Report:
        """See `Crew`."""
        task = self._task.remote(self._assignment, shard)
        try:
            report: Report | Fatal = await task
        except anyio.get_cancelled_exc_class():
            ray.cancel(task, force=True)
            raise
        except RayTaskError:  # a bug, with its traceback
            raise
        except _LOST as lost:
            raise Lost(_first_line(lost)) from lost
        except RayError as failure:  # the same for each shard, however often: its environment, its scheduler
            raise Fatal("RayFailed", f"Ray cannot run a shard: {_first_line(failure)}") from failure
        if isinstance(report, Fatal):
            raise report
        return report

    async def stop(self, shard: Shard) -> Report | None:  # noqa: ARG002
        """See `Crew`. A task that was cancelled tells nothing."""
        return None
