"""What a store does when it is not the store that fails, and when what it holds is not what was expected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from crawler import hints, hints_file
from crawler.errors import Fatal
from crawler.hints_file import stored_hints
from crawler.store import Store


def run(tmp_path: Path, main: Callable[[Store], Awaitable[None]]) -> None:
    async def with_store() -> None:
        await main(Store.local(str(tmp_path / "out")))

    anyio.run(with_store)


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_local_disk_that_is_full_is_not_the_stores_fault(tmp_path: Path, buffering: int) -> None:
    async def main(store: Store) -> None:
        await store.put("part", b"row\n" * 100_000)
        with pytest.raises(Fatal, match="No space left on device") as failure:
            await store.fetch("part", file)
        assert failure.value.code == "SpoolFailed"
        assert store.uri not in failure.value.message

    # What it still gathers finds no room either when it is closed.
    with suppress(OSError), Path("/dev/full").open("wb", buffering=buffering) as file:
        run(tmp_path, main)


def test_a_part_that_is_not_there_is(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        with (
            (tmp_path / "copy").open("wb") as file,
            pytest.raises(Fatal, match="is named by this run, and is not there"),
        ):
            await store.fetch("part", file)

    run(tmp_path, main)


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        for size in (0, 9, 10, 11, 5000):
            await store.put("some", b"x" * size)
            assert await store.read("some", 10) == b"x" * min(size, 10)
        assert await store.read("none", 10) is None

    run(tmp_path, main)


def test_hints_that_no_crawl_has_written_are_neither_taken_in_nor_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hints, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(hints_file, "MAX_BYTES", 1 << 20)
    read: list[int | None] = []

    class Watched(Store):
        async def read(self, path: str, at_most: int | None = None) -> bytes | None:
            found = await super().read(path, at_most)
            read.append(len(found or b""))
            return found

    async def main() -> None:
        store = Watched.local(str(tmp_path / "out"))
        await store.put("hints.json", b" " * (5 << 20))
        file = await stored_hints(store, "hints.json", ["1" * 12], "")
        assert not file.replaceable
        await file.publish(1)
        assert len(await store.read("hints.json") or b"") == 5 << 20

    anyio.run(main)
    assert read[0] == (1 << 20) + 1
    assert "is larger than 1 MB, which no crawl has written: the crawl begins without hints, and leaves" in caplog.text
