"""One more process of this program, at the other end of a channel: how it is started, and how it ends."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from signal import Signals

import anyio
from anyio.abc import Process

from crawler.engines.channel import Channel
from crawler.errors import Fatal

#: What an interpreter was told before the program began, and how another one is told so: what keeps it to itself, and
#: how it goes about its work. As `multiprocessing` does; `-P` is given always.
_FLAGS = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "no_site": "-S",
    "optimize": "-O",
    "dont_write_bytecode": "-B",
    "bytes_warning": "-b",
    "debug": "-d",
    "verbose": "-v",
}

#: What may be had again where less is asked for.
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})


async def start(name: str) -> tuple[Process, Channel]:
    """A worker, and our end of what it talks through. Raises `Fatal` where the system has none for us."""
    try:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await _started(theirs)
        except BaseException:  # cancelled, too: a channel, which would close it, is only made of what has started
            ours.close()
            raise
        return process, await Channel.open(ours)
    except OSError as error:
        scarce = "give fewer --workers, or room for more processes and open files (memory, ulimit -u, ulimit -n)"
        advice = scarce if error.errno in _SCARCE else f"is {sys.executable} as it was when this run began?"
        raise Fatal("WorkerNotStarted", f"worker {name} cannot be started: {error}: {advice}") from error


async def end(process: Process, seconds: float) -> None:
    """See to the end of a process that has nothing left to do. It is killed if it takes longer."""
    with anyio.move_on_after(seconds):
        await process.wait()
        return
    kill(process)
    # The kernel may not let it go, as where a disk does not answer: that shall not keep us, too.
    with anyio.move_on_after(seconds):
        await process.wait()


def kill(process: Process) -> None:
    """Kill it, unless it has ended."""
    with suppress(ProcessLookupError):
        process.kill()


def killed_by(process: Process) -> str | None:
    """The signal that has ended a process, None where it ended by itself."""
    code = process.returncode
    if code is not None and code >= 0:
        return None
    number = Signals.SIGKILL if code is None else -code  # it is killed, though the kernel has not let it go yet
    try:
        return Signals(number).name
    except ValueError:  # the real-time ones between the first and the last have no name
        return f"signal {number}"


def command(descriptor: int) -> list[str]:
    """This program, from where we have it: `-m` would give our keys to a folder of its name in the current one."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from crawler.__main__ import main; main()"
    return [sys.executable, "-P", *_options(), "-c", program, "worker", str(descriptor)]


def _options() -> Iterator[str]:
    for name, option in _FLAGS.items():
        yield from [option] * getattr(sys.flags, name)
    for warning in sys.warnoptions:
        yield f"-W{warning}"
    given: dict[str, str | bool] = sys._xoptions  # noqa: SLF001  (so documented)  # pyright: ignore[reportPrivateUsage]
    for name, value in given.items():
        yield f"-X{name}" if value is True else f"-X{name}={value}"


async def _started(end: socket.socket) -> Process:
    """A process that has this end of a pair. Not in our session: Ctrl-C is for us, and we tell it."""
    return await anyio.open_process(
        command(end.fileno()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a reader of ours learns that we have ended, whoever else is still there
        stderr=None,
        pass_fds=[end.fileno()],
        start_new_session=True,
    )
