"""Attempts at one run, beside each other: one of them wins, the others say so, and nothing is counted twice."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

import anyio
import obstore
import pytest
from obstore.store import LocalStore

from crawler.errors import Fatal, UsageError
from crawler.hints import Hints
from crawler.model import PUBLIC, Account, Chain, Outcome, Result, RowKind, Target, Unit
from crawler.publication import Publication
from crawler.runs import attempt, layout, owners
from crawler.runs.attempt import begin, join, leave, lineage, living
from crawler.runs.catalog import clean
from crawler.runs.documents import Claim, Manifest, Record
from crawler.runs.journal import Journal
from crawler.runs.publish import merged, publish
from crawler.sinks.formats import encoding_of
from crawler.sinks.lines import Lines
from crawler.sinks.memory import Memory
from crawler.sinks.parts import Part, PartSink, Sizes
from crawler.sinks.spool import PartFile
from crawler.store import Exists, Store
from crawler.tables import Table
from tests.fakes import leaves

SETTINGS: dict[str, Any] = {"accounts": "sha256:0"}


@pytest.fixture(autouse=True)
def nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """All attempts of a test are of this process, which lives."""
    monkeypatch.setattr(attempt, "SILENCE", 0.0)


def run(tmp_path: Path, main: Callable[[Store], Awaitable[None]]) -> None:
    async def with_store() -> None:
        await main(Store.local(str(tmp_path / "out")))

    anyio.run(with_store)


def whole(name: str, rows: int = 0) -> Result:
    return Result(Unit(Account("1" * 12, "a"), "1" * 12, "east", name), Outcome.OK, chain=Chain(pages=1, items=rows))


EAST = Target(Account("1" * 12, "a"), "east", "1" * 12)
PUBLISHES: dict[str, Any] = {"rows": RowKind.IDS, "publish_partial": False}


async def no_tables() -> Sequence[Table]:
    return ()


class Whole:
    """A journal that only notes which units are whole."""

    def __init__(self) -> None:
        self.units: list[tuple[str | None, str | None]] = []

    def holds(self, target: Target, repository: str | None) -> bool:  # noqa: ARG002  (its protocol's)
        return False

    async def upload(self, file: PartFile) -> Part:
        return Part("part", file.rows, file.size, "")

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:  # noqa: ARG002  (its protocol's)
        self.units += [
            (result.unit.account.account_id, result.unit.repository) for result in results if result.unit.account
        ]


async def ignore(_: Result) -> None:
    pass


def test_a_later_attempt_fences_the_earlier_one(tmp_path: Path) -> None:
    """What the earlier one commits after it was taken over is refused; and if it comes through, it is not counted."""

    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await first.commit([], [whole("one")])
        claim = await begin(store, "r", "parquet", SETTINGS)
        assert (claim.attempt, list(claim.base)) == (2, first.records)
        second = Journal(store, claim)
        await second.recall(ignore)
        assert second.holds(EAST, "one")
        assert not second.holds(EAST, "two")
        assert not second.holds(replace(EAST, account=Account("2" * 12)), "one"), "who has filters of its own"
        with pytest.raises(Fatal, match="taken over by attempt 2"):
            await first.commit([], [whole("two")])
        # A record that was on its way when the check was made:
        late = layout.record("r", 1, 2)
        await store.create(late, Record("r", 1, [], []).encode())
        await second.commit([], [whole("two")])
        assert await lineage(store, claim) == (*first.records, *second.records[1:])
        assert late not in await lineage(store, claim)
        first.close()
        second.close()

    run(tmp_path, main)


def test_who_was_taken_over_leaves_no_part_beside_what_is_published(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "ndjson", SETTINGS))
        claim = await begin(store, "r", "ndjson", SETTINGS)
        second = Journal(store, claim)
        manifest = Manifest(
            run="r", status="complete", date=claim.date, format="ndjson", schema_version=1, started="", published="",
            attempt=2, rows=0, missing=0, targets={}, repositories={}, parts=[], ledger="", records=[], settings={},
            program="",
        )  # fmt: skip
        await publish(store, second, manifest)
        with PartFile(".ndjson") as file:
            file.open(encoding_of("ndjson", "r"))
            file.finish()
            with pytest.raises(Fatal, match="taken over by attempt 2"):
                await first.upload(file)
        assert await store.names(layout.data("r", claim.date)) == [layout.success("r", claim.date)]
        first.close()
        second.close()

    run(tmp_path, main)


def test_a_unit_that_was_committed_twice_is_held_once(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await first.commit([], [whole("one"), whole("one")])
        second = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await second.recall(ignore)
        assert second.holds(EAST, "one")
        first.close()
        second.close()

    run(tmp_path, main)


def test_a_name_that_utf8_cannot_hold_is_committed_recalled_and_held(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await first.commit([], [whole("a\ud800")])
        second = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        recalled: list[str | None] = []

        async def recall(result: Result) -> None:
            recalled.append(result.unit.repository)

        await second.recall(recall)
        assert recalled == ["a\ud800"]
        assert second.holds(EAST, "a\ud800")
        assert not second.holds(EAST, "a\ud801")
        first.close()
        second.close()

    run(tmp_path, main)


def test_a_local_disk_without_room_for_what_is_held_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/somewhere")

    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await first.commit([], [whole(f"{number:0500}") for number in range(100)])
        second = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        second._held.execute("PRAGMA max_page_count = 3")  # SQLite's own words for a full disk
        with pytest.raises(Fatal, match="/somewhere: database or disk is full: make room there, or set TMPDIR"):
            await second.recall(ignore)
        first.close()
        second.close()

    run(tmp_path, main)


def test_what_is_held_of_an_account_names_no_repository_of_a_target_that_is_whole(tmp_path: Path) -> None:
    def unit(account: str, region: str, name: str | None) -> Result:
        return Result(Unit(Account(account * 12), "1" * 12, region, name), Outcome.EMPTY)

    async def main(store: Store) -> None:
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        assert list(first.held_of("1" * 12)) == []
        await first.commit([], [unit("1", "east", "a b"), unit("1", "east", None), unit("1", "west", "a b\nc")])
        await first.commit(
            [], [unit("2", "east", "d"), Result(Unit(Account("1" * 12), PUBLIC + "1" * 12, "east", "p"), Outcome.EMPTY)]
        )
        second = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await second.recall(ignore)
        assert set(second.held_of("1" * 12)) == {
            ("1" * 12, "1" * 12, "east", None),
            ("1" * 12, "1" * 12, "west", "a b\nc"),
            ("1" * 12, PUBLIC + "1" * 12, "east", "p"),
        }
        assert set(second.held_of("2" * 12)) == {("2" * 12, "1" * 12, "east", "d")}
        assert list(second.held_of("1" * 11)) == []
        first.close()
        second.close()

    run(tmp_path, main)


def test_two_that_begin_at_the_same_moment(tmp_path: Path) -> None:
    ended: list[object] = []

    async def main(store: Store) -> None:
        async def one() -> None:
            try:
                ended.append(await begin(store, "r", "parquet", SETTINGS))
            except Fatal as error:
                ended.append(str(error))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)

    run(tmp_path, main)
    numbers = [claim.attempt for claim in ended if isinstance(claim, Claim)]
    assert len(numbers) == len(set(numbers)), "two have the same number"
    assert all("another process has just begun this run" in text for text in ended if isinstance(text, str))


def test_the_claim_of_a_killed_process_may_arrive_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bucket's server may work off a request whose sender is no more, after it was asked what is there."""
    listed = attempt.newest
    ended = {**owners.ourselves(), "began": "1"}

    async def main(store: Store) -> None:
        late = Claim("r", 1, "2026-07-01", "parquet", "2026-07-01", "2026-07-01", ended, SETTINGS)
        arriving = [late.encode()]

        async def then_it_arrives(store: Store, run_id: str) -> Claim | None:
            found = await listed(store, run_id)
            if arriving:
                await store.create(layout.claim(run_id, 1), arriving.pop())
            return found

        monkeypatch.setattr(attempt, "newest", then_it_arrives)
        claim = await begin(store, "r", "parquet", SETTINGS)
        assert (claim.attempt, claim.date) == (2, "2026-07-01")

    run(tmp_path, main)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "SILENCE", 17.0)
    monkeypatch.setattr(attempt, "BEAT", 0.05)


IN_USE = rf"^InUse: .*: attempt 1 is alive on .*, process {os.getpid()}"


@pytest.mark.usefixtures("watched")
def test_one_that_lives_is_left_alone(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        claim = await begin(store, "r", "parquet", SETTINGS)
        async with living(store, claim):
            with pytest.raises(Fatal, match=IN_USE):
                await begin(store, "r", "parquet", SETTINGS)
        await leave(store, claim)
        with anyio.fail_after(5):
            assert (await begin(store, "r", "parquet", SETTINGS)).attempt == 2

    run(tmp_path, main)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("crawled", [False, True], ids=["before its first sign", "before it publishes"])
def test_one_that_shows_no_sign_just_now_is_watched(tmp_path: Path, *, crawled: bool) -> None:
    async def main(store: Store) -> None:
        claim = await begin(store, "r", "parquet", SETTINGS)
        if crawled:
            async with living(store, claim):
                pass
        told = anyio.Event()

        async def other() -> None:
            with pytest.raises(Fatal, match=IN_USE):
                await begin(store, "r", "parquet", SETTINGS)
            told.set()

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await anyio.wait_all_tasks_blocked()
            async with living(store, claim):
                await told.wait()

    run(tmp_path, main)


@pytest.mark.usefixtures("watched")
def test_a_share_that_lives_is_left_alone_though_another_has_ended(tmp_path: Path) -> None:
    """The claim is that of the share that came first."""

    async def main(store: Store) -> None:
        claim = await join(store, "r", "parquet", {**SETTINGS, "shard": "of 2"})
        path = tmp_path / "out" / layout.claim("r", 1)
        path.write_bytes(replace(claim, owner={**claim.owner, "began": "1"}).encode())
        async with living(store, claim):
            with pytest.raises(Fatal, match=r"^InUse: "):
                await begin(store, "r", "parquet", SETTINGS)

    run(tmp_path, main)


@pytest.mark.usefixtures("watched")
def test_one_whose_process_has_ended_is_not_watched(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        claim = await begin(store, "r", "parquet", SETTINGS)
        await store.put(layout.alive("r", 1), b"7")
        path = tmp_path / "out" / layout.claim("r", 1)
        path.write_bytes(replace(claim, owner={**claim.owner, "began": "1"}).encode())
        with anyio.fail_after(5):
            assert (await begin(store, "r", "parquet", SETTINGS)).attempt == 2

    run(tmp_path, main)


class Denying(Store):
    """Nobody may remove anything, nor say that he has ended."""

    async def put(self, path: str, file: IO[bytes] | bytes) -> None:
        if file == b"ended":
            raise Fatal("StoreDenied", f"{self.uri_of(path)}: not allowed: AccessDenied: s3:PutObject")
        await super().put(path, file)

    async def delete(self, path: str) -> None:
        raise Fatal("StoreDenied", f"{self.uri_of(path)}: not allowed: AccessDenied: s3:DeleteObject")


def test_a_crawl_does_not_fail_at_its_last_sign_of_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = Denying.local(str(tmp_path / "out"))
        claim = await begin(store, "r", "parquet", SETTINGS)
        async with living(store, claim):
            pass
        await leave(store, claim)

    anyio.run(main)
    assert "run r: whoever goes on with it may have to watch this process first: StoreDenied: " in caplog.text


@pytest.mark.usefixtures("watched")
def test_clean_leaves_the_parts_of_one_that_lives(tmp_path: Path) -> None:
    """It uploads parts before it has a record of them."""

    async def upload(store: Store, claim: Claim) -> str:
        with closing(Journal(store, claim)) as journal, PartFile(".ndjson") as file:
            file.raw().write(b"1\n")
            return (await journal.upload(file)).path

    async def main(store: Store) -> None:
        first = await begin(store, "r", "ndjson", SETTINGS)
        orphan = await upload(store, first)
        await leave(store, first)
        second = await begin(store, "r", "ndjson", SETTINGS)
        part = await upload(store, second)
        async with living(store, second):
            assert (await clean(store, timedelta(0))).parts == 1
        assert await store.names("data/") == [part] != [orphan]
        await leave(store, second)
        assert (await clean(store, timedelta(0))).parts == 1

    run(tmp_path, main)


def test_one_that_is_silent_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its process cannot be seen, as on another machine."""
    monkeypatch.setattr(attempt, "SILENCE", 0.2)
    monkeypatch.setattr(attempt, "BEAT", 0.1)

    async def main(store: Store) -> None:
        claim = await begin(store, "r", "parquet", SETTINGS)
        await store.put(layout.alive("r", 1), b"7")
        with anyio.fail_after(5):
            assert (await begin(store, "r", "parquet", SETTINGS)).attempt == 2
        with pytest.raises(ExceptionGroup) as caught:
            async with living(store, claim):
                await anyio.sleep(5)
        assert caught.group_contains(Fatal, match="taken over by attempt 2")

    run(tmp_path, main)


def test_a_store_that_ignores_conditions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, rename = obstore.put_async, obstore.rename

    async def put_anyway(*args: Any, mode: str | None = None, **more: Any) -> Any:  # noqa: ARG001  (the function's that it stands for)
        return await put(*args, **more)

    def rename_anyway(*args: Any, overwrite: bool = True) -> None:  # noqa: ARG001  (the function's that it stands for)
        rename(*args)

    monkeypatch.setattr(obstore, "put_async", put_anyway)
    monkeypatch.setattr(obstore, "rename", rename_anyway)

    async def main(store: Store) -> None:
        with pytest.raises(UsageError, match="ignores If-None-Match"):
            await begin(store, "r", "parquet", SETTINGS)

    run(tmp_path, main)


def test_create_never_replaces_and_forgives_itself(tmp_path: Path) -> None:
    async def main(store: Store) -> None:
        await store.create("a/b", b"one")
        await store.create("a/b", b"one")
        with pytest.raises(Exists):
            await store.create("a/b", b"two")
        assert await store.read("a/b") == b"one"
        assert await store.names("") == ["a/b"]

    run(tmp_path, main)


@pytest.mark.parametrize("left", ["nothing", "half a line", "one line less", "the head alone"])
def test_a_record_that_lost_its_end_is_not_rested_on(tmp_path: Path, left: str) -> None:
    """What it no longer names would be crawled again, beside the rows that its part still holds."""

    async def main(store: Store) -> None:
        assert store.folder
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await first.commit([Part("data/p", 4, 10, "00")], [whole("one", rows=2), whole("two", rows=2)])
        record = store.folder / first.records[0]
        head, one, two = record.read_bytes().splitlines(keepends=True)
        cut = {
            "nothing": b"",
            "half a line": head + one + two[:20],
            "one line less": head + one,
            "the head alone": head,
        }
        record.write_bytes(cut[left])
        claim = await begin(store, "r", "parquet", SETTINGS)
        with (
            closing(Publication(store, claim, Journal(store, claim), no_tables, **PUBLISHES)) as second,
            pytest.raises(Fatal, match=rf"^RecordUnfit: {record}: is (damaged|not a file of this program)"),
        ):
            await second.recall(ignore, Hints().learn)
        first.close()

    run(tmp_path, main)


def test_a_process_that_has_ended_is_known_to_have(tmp_path: Path) -> None:
    ours = owners.ourselves()
    assert not owners.dead(ours)
    assert not owners.dead({**ours, "host": "elsewhere", "pid": "1"})
    assert owners.dead({**ours, "began": "1"}), "another process has its id by now"
    assert not owners.dead({**ours, "pid": "none", "began": "1"}), "what is damaged tells nothing"
    done = subprocess.Popen([sys.executable, "-c", ""], cwd=tmp_path)
    done.wait()
    assert owners.dead({**ours, "pid": str(done.pid), "began": "12345"})


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="not Linux: nothing is known of other processes")
def test_a_process_of_any_name_may_have_its_id_by_now() -> None:
    """Linux cuts the name of a command after fifteen bytes, also in the middle of a character."""
    named = "import os, sys; open('/proc/self/comm', 'wb').write(b'caf\\xc3'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", named], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline()
        assert owners._began(other.pid).isdecimal()
        other.communicate()


def test_a_record_that_was_killed_while_it_got_its_name_is_one_record(tmp_path: Path) -> None:
    """Created files have two names for a moment, the first of them hidden."""

    async def main(store: Store) -> None:
        journal = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        await journal.commit([], [whole("one")])
        assert store.folder
        (record,) = (store.folder / path for path in journal.records)
        for leftover in (f".{record.name}.new-0badcafe", f"{record.name}.new-0badcafe"):
            (record.parent / leftover).hardlink_to(record)
        assert list(await lineage(store, journal.claim)) == journal.records
        journal.close()

    run(tmp_path, main)


def test_what_is_half_written_in_a_folder_is_hidden_from_those_who_read_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = obstore.rename

    def rename(*args: Any, **kwargs: Any) -> None:
        seen.extend(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
        real(*args, **kwargs)

    monkeypatch.setattr(obstore, "rename", rename)

    async def main(store: Store) -> None:
        await store.put("data/part", b"rows")
        await store.create("data/other", b"rows")
        assert await store.names("data/") == ["data/other", "data/part"]

    run(tmp_path, main)
    assert len(seen) == 3
    assert [name for name in seen if not name.startswith(".")] == ["part"]


def test_a_target_of_which_a_repository_failed_is_not_whole_whoever_else_reads_the_registry() -> None:
    """Otherwise a resume would take the repository for listed, and nothing would be said of it at all."""
    one, other = EAST, replace(EAST, account=Account("2" * 12))
    journal = Whole()

    async def main() -> None:
        sink = PartSink(Lines("r", ""), journal)
        async with sink.running():
            for target in (one, other):
                with sink.repository(target, "broken"):
                    pass
            for target in (one, other):
                sink.target_ended(Result(Unit.of(target), Outcome.OK))
            third = replace(EAST, account=Account("3" * 12))
            sink.target_ended(Result(Unit.of(third), Outcome.OK))

    anyio.run(main)
    assert journal.units == [("3" * 12, None)]


class FailingJournal:
    """Stores the first part at once, and fails to commit it when the next is there."""

    def __init__(self) -> None:
        self.next = anyio.Event()

    def holds(self, target: Target, repository: str | None) -> bool:  # noqa: ARG002  (its protocol's)
        return False

    async def upload(self, file: PartFile) -> Part:
        return Part("part", file.rows, file.size, "")

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:  # noqa: ARG002  (its protocol's)
        await self.next.wait()
        raise Fatal("StoreFailed", "no room")


def test_a_store_that_fails_while_the_next_part_waits_is_the_only_error() -> None:
    async def main() -> None:
        journal = FailingJournal()
        sink = PartSink(Lines("r", ""), journal, Sizes(seconds=0.0, part_units=1))
        target = Target(Account("1" * 12, "a"), "1" * 12, "east")
        async with sink.running():
            for name in ("one", "two", "three"):
                with sink.repository(target, name) as rows:
                    await rows.send([{"imageDigest": "sha256:0"}])
                    rows.commit(whole(name))
                await anyio.sleep(0.1)  # a thread writes meanwhile
            journal.next.set()
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(main)
    assert [type(leaf) for leaf in leaves(caught.value)] == [Fatal]


class SlowJournal(FailingJournal):
    """Its first commit takes until `next`; it keeps the names of each."""

    def __init__(self) -> None:
        super().__init__()
        self.began = anyio.Event()
        self.commits: list[list[str | None]] = []

    async def commit(self, parts: Sequence[Part], results: Sequence[Result]) -> None:
        assert len(parts) == 1
        self.commits.append([result.unit.repository for result in results])
        self.began.set()
        await self.next.wait()


def test_what_comes_while_a_slow_store_commits_is_one_part_and_holds_nobody_up() -> None:
    journal = SlowJournal()

    async def main() -> None:
        sink = PartSink(Lines("r", ""), journal, Sizes(seconds=0.0), Memory(waiting=1))

        async def send(name: str) -> None:
            with sink.repository(EAST, name) as rows:
                await rows.send([{"imageDigest": "sha256:0"}])
                rows.commit(whole(name))

        async with sink.running():
            await send("one")
            await journal.began.wait()
            for name in ("two", "three", "four"):
                await send(name)
            await sink.memory.room()
            journal.next.set()

    anyio.run(main)
    assert journal.commits == [["one"], ["two", "three", "four"]]


def test_a_ledger_that_finds_no_room_at_its_end_is_a_failure_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.publication.local_file", partial(Path("/dev/full").open, "wb"))

    async def main(store: Store) -> None:
        claim = await begin(store, "r", "parquet", SETTINGS)
        publication = Publication(store, claim, Journal(store, claim), no_tables, **PUBLISHES)
        with pytest.raises(Fatal, match="No space left on device"):
            async with publication.keeping() as send:
                await send(b"line\n")
        publication.close()

    run(tmp_path, main)


def test_a_record_that_was_being_linked_when_its_process_was_killed_counts_once(tmp_path: Path) -> None:
    """Between link and unlink the file has both names; before the link, only the other one."""

    async def main(store: Store) -> None:
        assert store.folder
        first = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        part = layout.part("r", first.claim.date, 1, 1, "")
        await store.put(part, b"1234567890")
        await first.commit([Part(part, 2, 10, "00")], [whole("one", rows=2)])
        record = store.folder / first.records[0]
        os.link(record, f"{record}.new-deadbeef")
        os.link(record, record.with_name("00001-000002.ndjson.new-deadbeef"))
        second = Journal(store, await begin(store, "r", "parquet", SETTINGS))
        recalled: list[str | None] = []

        async def note(result: Result) -> None:
            recalled.append(result.unit.repository)

        await second.recall(note)
        assert list(second.claim.base) == first.records
        assert [held.path for held in second.parts] == [part]
        assert recalled == ["one"]
        first.close()
        second.close()

    run(tmp_path, main)


def test_beside_success_lies_what_the_manifest_names_and_nothing_else(tmp_path: Path) -> None:
    beside: list[list[str]] = []

    class Watched(Store):
        async def put(self, path: str, file: IO[bytes] | bytes) -> None:
            await super().put(path, file)
            if path.endswith("_SUCCESS"):
                beside.append([name for name in await self.names("data/") if name != path])

    async def main() -> None:
        store = Watched.local(str(tmp_path / "out"))
        journal = Journal(store, await begin(store, "r", "ndjson", SETTINGS))
        encoding = encoding_of("ndjson", "r", RowKind.IDS)
        for row in (b"1\n", b"2\n"):
            with PartFile(".ndjson") as file:
                file.raw().write(row)
                file.rows = 1
                journal.parts.append(await journal.upload(file))
        parts = await merged(store, journal, encoding)
        assert [part.rows for part in parts] == [2]
        manifest = Manifest(
            run="r", status="complete", date=journal.claim.date, format="ndjson", schema_version=1, started="",
            published="", attempt=1, rows=2, missing=0, targets={}, repositories={}, parts=parts, ledger="",
            records=[], settings={}, program="",
        )  # fmt: skip
        await publish(store, journal, manifest)
        assert beside == [[parts[0].path]]
        journal.close()

    anyio.run(main)


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "out" / "data").mkdir(parents=True)
    half = tmp_path / "out" / "data" / ".part.new-00ff"
    half.touch()

    def refuse(path: Path, missing_ok: bool = False) -> None:  # noqa: ARG001, FBT001, FBT002  (as pathlib has it)
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    async def main(store: Store) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            with pytest.raises(Fatal, match=rf"{half}: Input/output error"):
                await clean(store, timedelta(0))

    run(tmp_path, main)


@pytest.mark.parametrize("full", ["crawler.sinks.spool.local_file", "crawler.store.local_file"])
def test_small_parts_that_find_no_room_to_be_merged_in_are_told(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file still gathers is written when it is closed, and must not fail there in another way."""

    async def main() -> None:
        # As in a bucket, whose parts are copied first.
        store = Store("s3://bucket/", LocalStore(prefix=tmp_path / "out", mkdir=True))
        journal = Journal(store, await begin(store, "r", "ndjson", SETTINGS))
        for _ in range(2):
            with PartFile(".ndjson") as file:
                file.raw().write(b"1\n")
                file.rows = 1
                journal.parts.append(await journal.upload(file))
        monkeypatch.setattr(full, partial(Path("/dev/full").open, "r+b"))
        with pytest.raises(Fatal, match="No space left on device: make room there"):
            await merged(store, journal, encoding_of("ndjson", "r", RowKind.IDS))
        journal.close()

    anyio.run(main)


def test_clean_leaves_alone_what_is_not_ours(tmp_path: Path) -> None:
    old = time.time() - 7 * 86400
    ours = [tmp_path / "out" / name for name in ("runs/r/a.json.new-00ff", "data/x#7", ".writable.new-0a")]
    others = [tmp_path / "out" / name for name in ("letters/draft#2", "x.new-00", "runs-of-mine/a#1")]
    for path in (*ours, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (old, old))

    async def main(store: Store) -> None:
        assert (await clean(store)).local == len(ours)

    run(tmp_path, main)
    assert [path.exists() for path in (*ours, *others)] == [False] * 3 + [True] * 3
