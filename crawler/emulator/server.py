"""The emulator as a server: in a loop that runs already, in a thread of its own, or as the whole process."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from crawler.emulator.estate import Estate
from crawler.emulator.services import Services
from crawler.emulator.sessions import HUB_ACCESS_KEY, HUB_SECRET_KEY
from crawler.emulator.world import Options, World

try:
    import uvloop

    from crawler.emulator.connection import Connection
except ModuleNotFoundError as error:  # pragma: no cover - the tests install the extra
    text = f"the emulator needs {error.name}: install it with `pip install 'ecr-inventory-crawler[emulator]'`"
    raise ModuleNotFoundError(text, name=error.name) from error

_LOOPBACK = "127.0.0.1"
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Emulator:
    """A server that runs. `url` is what AWS_ENDPOINT_URL should be."""

    url: str
    world: World

    def environment(self) -> dict[str, str]:
        """The AWS_… variables that make any AWS client talk to this server, with the hub's keys.

        The caller's own files are kept out. AWS_PROFILE and AWS_SESSION_TOKEN, if set, are for the caller to remove.
        """
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": HUB_ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": HUB_SECRET_KEY,
            "AWS_DEFAULT_REGION": self.world.estate.regions[0],
            "AWS_REGION": self.world.estate.regions[0],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",  # which some read first
        }

    def stats(self) -> dict[str, Any]:
        """The same as `GET /stats`."""
        return self.world.counters.snapshot()

    def reset(self) -> None:
        """The same as `POST /reset`: count anew. Keys, faults struck and throttles stay as they are."""
        self.world.counters.reset()


@asynccontextmanager
async def serve(
    estate: Estate, options: Options | None = None, *, host: str = _LOOPBACK, port: int = 0
) -> AsyncGenerator[Emulator]:
    """Serve in the running asyncio loop until the block is left. Port 0 takes a free one."""
    options = options or Options()
    world = World(estate, options)
    services = Services(world)
    random = Random(options.seed)  # noqa: S311 - latency is no secret  # nosec B311
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(services, random, connections), host, port, ssl=options.tls, backlog=_BACKLOG
    )
    scheme, bound = ("https" if options.tls else "http"), server.sockets[0].getsockname()[1]
    try:
        yield Emulator(f"{scheme}://{host}:{bound}", world)
    finally:
        server.close()
        for connection in list(connections):
            connection.transport.abort()
        await server.wait_closed()


@contextmanager
def running(
    estate: Estate, options: Options | None = None, *, host: str = _LOOPBACK, port: int = 0
) -> Generator[Emulator]:
    """Serve from a thread with its own loop until the block is left, for tests and callers that are not async."""
    started: Future[tuple[Emulator, Callable[[], object]]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serve(estate, options, host=host, port=port) as emulator:
            started.set_result((emulator, lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    def body() -> None:
        try:
            _run(main())
        except OSError as error:
            # Only the start can fail like this: the port is taken, or the host is not ours.
            started.set_exception(error)

    thread = threading.Thread(target=body, name="emulator", daemon=True)
    thread.start()
    try:
        emulator, stop = started.result()
    except OSError:
        thread.join()
        raise
    try:
        yield emulator
    finally:
        stop()
        thread.join()


def run(estate: Estate, options: Options | None = None, *, host: str = _LOOPBACK, port: int = 0) -> None:
    """Serve until SIGINT or SIGTERM. Prints the URL and what to export, one line, for `eval` or for reading."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serve(estate, options, host=host, port=port) as emulator:
            pairs = " ".join(f"{name}={value}" for name, value in emulator.environment().items())
            sys.stdout.write(f"export {pairs}\n")
            sys.stdout.flush()
            await stop.wait()

    _run(main())


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
