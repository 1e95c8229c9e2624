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
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stdout, suppress
from importlib import import_module
from typing import Any, TypeVar

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

#: Seconds in which a head that is there takes a connection, and answers.
_PATIENCE = 5.0

#: Seconds in which a cluster takes us in.
_LONGEST = 60.0

_LOCAL = "local"

#: What HTTP/2, and so gRPC, begins with: its preface and an empty frame of settings, which is how it is answered, too.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_FRAME = 9

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


def _place(address: str | None) -> str:
    # Not Ray's own search for one that is here: it would wait for what a killed one has left behind.
    return address or os.environ.get("RAY_ADDRESS") or _LOCAL


def reach(address: str | None) -> None:
    """Raise `UsageError` where no cluster answers at the address, or none that takes us. Joins nothing yet."""
    place = _place(address)
    if place == _LOCAL:
        return
    _knock(place)
    with _told(place), _bounded(place):
        _ask(place)


@contextmanager
def connected(address: str | None) -> Generator[None]:
    """Be part of the cluster while the body runs; without an address, and RAY_ADDRESS, of this machine alone.

    Raises `UsageError` where that cannot be.
    """
    place = _place(address)
    # Ray prints what its machines have to say on standard output, which is not for that, and waits for its reader.
    with redirect_stdout(sys.stderr):
        # One of this machine has bounds of its own, and may need long where the machine is busy.
        with _told(place), nullcontext() if place == _LOCAL else _bounded(place):
            ray.init(place, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _told(place: str) -> Generator[None]:
    try:
        yield
    except (RayError, OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--address {place}: no Ray cluster: {_first_line(error)}") from error


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
        with socket.create_connection((host, int(port)), _PATIENCE) as head:
            if not _speaks_grpc(head):
                raise UsageError(f"--address {address}: who answers there is no head of a Ray cluster")
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: nobody answers there: {error}") from error


def _speaks_grpc(head: socket.socket) -> bool:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):  # only Ray has the certificates to ask with
        return True
    try:
        head.sendall(_PREFACE)
        answer = head.recv(_FRAME, socket.MSG_WAITALL)
    except OSError:
        return False
    return answer[3:4] == _PREFACE[-6:-5]  # what kind of a frame it is


def _ask(address: str) -> None:
    """Raise `RayError` where the head refuses us, as for a wrong token: `ray.init` tries for 20 s, and forgets why."""
    # None of this is public. Of a Ray that has other names for it `ray.init` tells all that there is to tell.
    with suppress(ImportError, AttributeError):
        tokens = import_module("ray._private.authentication.authentication_token_setup")
        tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)
        import_module("ray._raylet").GcsClient(address=address)


class Cluster:
    """See `Crew`. `crawl` is run as a task with the `assignment` and a shard; what it returns may be a `Fatal`."""

    def __init__(self, crawl: Callable[[AssignmentT, Shard], Report | Fatal], assignment: AssignmentT) -> None:
        # Ray tries nothing again: whoever hands out shards does, and knows from which machine each one came back.
        self._task = ray.remote(num_cpus=_CPUS, max_retries=0)(crawl)
        self._assignment: Any = assignment
        self._handed: dict[int, Any] = {}
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
        task = self._handed[shard.number] = self._task.remote(self._assignment, shard)
        report = await _report_of(task)
        del self._handed[shard.number]
        return report

    async def stop(self, shard: Shard) -> Report | None:
        """See `Crew`. A task that runs is interrupted, and ends with what it has: see `crawl_alone`."""
        task = self._handed.pop(shard.number, None)
        if task is None:
            return None
        try:
            ray.cancel(task, force=False)
            return await _report_of(task)
        except (RayError, Lost, Fatal):  # it had not begun, or was not ready to be interrupted
            return None
        finally:
            ray.cancel(task, force=True)


async def _report_of(task: Any) -> Report:  # noqa: ANN401  (an `ObjectRef`, whose type says nothing of awaiting it)
    try:
        report: Report | Fatal = await task
    except RayTaskError:  # a bug, with its traceback
        raise
    except _LOST as lost:
        raise Lost(_first_line(lost)) from lost
    except RayError as failure:  # the same for each shard, however often: its environment, its scheduler
        raise Fatal("RayFailed", f"Ray cannot run a shard: {_first_line(failure)}") from failure
    if isinstance(report, Fatal):
        raise report
    return report
