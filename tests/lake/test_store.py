"""What a store does when it is not the store that fails, and when what it holds is not what was expected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import anyio
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError

from crawler import hints, hints_file
from crawler import store as store_module
from crawler.errors import Fatal
from crawler.hints_file import stored_hints
from crawler.store import Exists, Store


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


def test_a_part_of_a_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        await store.put("part", b"rows" * 100_000)
        with await store.opened("part") as file:
            assert Path(file.name) == (tmp_path / "out" / "part")
            assert file.read() == b"rows" * 100_000
        with pytest.raises(Fatal, match="No such file") as missing:
            await store.opened("none")
        assert missing.value.code == "StoreFailed"

    run(tmp_path, main)


def test_a_link_that_was_left_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"precious")
    folder.mkdir()
    for name in ("put", "created"):
        (folder / name).symlink_to(victim)

    async def main(store: Store) -> None:
        await store.put("put", b"rows")
        with pytest.raises(Exists):
            await store.create("created", b"rows")

    run(tmp_path, main)
    assert victim.read_bytes() == b"precious"
    assert not (folder / "put").is_symlink()


def test_a_disk_that_cannot_be_read_is_the_stores_fault() -> None:
    """The first page of memory is nobody's: Linux answers EIO, as a broken disk does."""

    async def main() -> None:
        with await Store.existing("/proc/self").opened("mem") as file:
            with pytest.raises(Fatal, match="Input/output error") as failure:
                file.read(10)
            assert failure.value.code == "StoreFailed"

    anyio.run(main)


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


def test_a_folder_that_vanishes_under_a_write_is_told_and_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def put_into_nothing(*args: Any, **more: Any) -> None:
        put(*args, **more)
        rmtree(tmp_path / "out")

    monkeypatch.setattr(obstore, "put", put_into_nothing)

    async def main(store: Store) -> None:
        for write in (store.put, store.create):
            with pytest.raises(Fatal, match=r"out/data/part: .*No such file or directory.*; nothing more is published"):
                await write("data/part", b"rows")

    run(tmp_path, main)


def test_a_conflict_that_nobody_asked_about_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may answer 409 to a write without any condition."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AlreadyExistsError("409 Conflict")

    monkeypatch.setattr(obstore, "put", refuse)

    async def main(store: Store) -> None:
        with pytest.raises(Fatal, match="out/data/part: 409 Conflict"):
            await store.put("data/part", b"rows")

    run(tmp_path, main)


@pytest.mark.parametrize("conflicts", [1, 3, 10**9])
def test_what_is_undecided_is_asked_again_and_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    """S3 answers 409 while it decides between two; then nothing is there yet, and the name is not taken."""
    monkeypatch.setattr(store_module, "_UNDECIDED", 0.0)
    put, left = obstore.put, [conflicts]

    def undecided(*args: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise AlreadyExistsError("ConditionalRequestConflict")
        put(*args, **more)

    monkeypatch.setattr(obstore, "put", undecided)

    async def main(store: Store) -> None:
        if conflicts > 10:
            with pytest.raises(Fatal, match="out/claim: is refused as if it were there, and is not"):
                await store.create("claim", b"ours")
            return
        await store.create("claim", b"ours")
        assert await store.read("claim") == b"ours"
        with pytest.raises(Exists):
            await store.create("claim", b"theirs")

    run(tmp_path, main)
