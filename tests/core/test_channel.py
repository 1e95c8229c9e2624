"""A channel between two processes: what is sent arrives whole, or the channel is no more."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import anyio
import pytest

from crawler.engines import channel
from crawler.engines.channel import Channel, Gone

#: More than a socket holds that nobody reads.
MUCH = b"x" * 5_000_000


def between(body: Callable[[Channel, Channel], Awaitable[None]]) -> None:
    """Run the body with both ends of a channel."""

    async def main() -> None:
        ours, theirs = map(Channel.open, socket.socketpair())
        one, other = await ours, await theirs
        try:
            with anyio.fail_after(20):
                await body(one, other)
        finally:
            await one.aclose()
            await other.aclose()

    anyio.run(main)


def test_a_message_on_its_way_survives_that_its_sender_is_cancelled() -> None:
    async def body(one: Channel, other: Channel) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(one.send, MUCH)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await other.receive() == (MUCH, None)
        await one.send("next")
        assert await other.receive() == ("next", None)

    between(body)


def test_who_is_cancelled_waits_for_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither with half a message on its way, nor behind one; and nothing follows half a message."""
    monkeypatch.setattr(channel, "PATIENCE", 0.1)

    async def body(one: Channel, other: Channel) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(one.send, MUCH)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.1, shield=True) as behind:
                await one.send("behind")
            assert behind.cancelled_caught
            group.cancel_scope.cancel()
        with pytest.raises(Gone):
            await one.send("after")
        with pytest.raises(Gone):
            await other.receive()

    between(body)
