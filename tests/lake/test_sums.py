"""Ledger, manifest, records and rows say the same of a run, for what they say it of; and shares that meet a fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import crawler.publication
from crawler.crawl import Crawl, Limits
from crawler.errors import Denied, Fatal, Gone
from crawler.hints import Hints
from crawler.hints_file import HintsFile
from crawler.ledger import Ledger
from crawler.model import Account
from crawler.publication import Order, Publication, publication
from crawler.retry import RetryPolicy
from crawler.runs import layout
from crawler.runs.journal import Journal
from crawler.shares import AlreadyCommitted, SharedPublication, shared_publication, status_of
from crawler.sinks import Sink
from crawler.sinks.parts import Sizes
from crawler.timeline import Timeline
from crawler.wanted import Filter
from tests.fakes import World, small_tree
from tests.lake.conftest import Place

A, B = Account("1" * 12, "one"), Account("2" * 12)
SETTINGS: dict[str, Any] = {
    "accounts": "sha256:0", "account": [], "account_tag": [], "region": [], "repository": [],
}  # fmt: skip
NO = Denied("AccessDeniedException", "no")
formats = pytest.mark.parametrize("form", ["parquet", "ndjson", "ndjson.gz", "ndjson.zst"])


def world() -> World:
    return World({(A.account_id, "east"): small_tree("a", "b", "c", "d"), (B.account_id, "east"): small_tree("e")})


def order(place: Place, form: str = "ndjson") -> Order:
    return Order(place.output, form, "r", resume=False, settings=SETTINGS)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


async def crawl(world: World, sink: Sink, ledger: Ledger, *accounts: Account) -> None:
    policy = RetryPolicy(attempts=1)
    await Crawl(world, sink, ledger, limits=Limits(), policy=policy, wanted=Filter()).accounts(accounts)


async def run(place: Place, world: World, form: str = "ndjson", accounts: tuple[Account, ...] = (A, B)) -> None:
    """One attempt at a run, to its publication."""
    ledger = Ledger()
    async with publication(order(place, form)) as to:
        async with to.keeping() as send, to.taking(ledger) as sink:
            ledger.sends = [send]
            await to.recall(ledger.record, Hints().learn)
            await crawl(world, sink, ledger, *accounts)
        await to.publish(status_of(ledger, frozenset()), ledger, Timeline())


def check(place: Place) -> None:
    """What is said of each other by the four places that say how many rows there are."""
    manifest, rows, ledger = place.manifest("r"), place.rows("r"), place.ledger("r")
    assert manifest
    by_repository = Counter(row[:3] for row in rows.elements())
    assert manifest["rows"] == sum(part["rows"] for part in manifest["parts"]) == rows.total()
    for line in ledger:
        unit = (line["registryId"], line["region"], line["repositoryName"])
        whole = line["outcome"] in ("OK", "EMPTY")
        assert by_repository[unit] == (line["rows"] if whole else 0), line
    assert manifest["rows"] == sum(line["rows"] for line in ledger if line["outcome"] in ("OK", "EMPTY"))
    for kind, of in (("repositories", True), ("targets", False)):
        counted = Counter(line["outcome"] for line in ledger if (line["repositoryName"] is not None) is of)
        assert +Counter(manifest[kind]) == counted
    for name in manifest["records"]:
        head, *units = map(json.loads, place.read(name).splitlines())
        assert sum(part["rows"] for part in head["parts"]) == sum(unit["rows"] for unit in units)
    assert (manifest["missing"] == 0) is (manifest["status"] == "complete")


@formats
def test_rows_of_what_was_not_listed_to_the_end_are_in_the_ledger_alone(local: Place, form: str) -> None:
    there = world()
    there.always(("images", A.account_id, "east", "a", 1), NO)  # after its first page
    there.always(("images", A.account_id, "east", "b", 0), NO)
    there.always(("images", A.account_id, "east", "c", 1), Gone("RepositoryNotFoundException", "gone"))
    anyio.run(run, local, there, form)
    check(local)
    told = {line["repositoryName"]: (line["outcome"], line["rows"]) for line in local.ledger("r")}
    assert told == {
        None: ("OK", 0),
        "a": ("DENIED", 1),
        "b": ("DENIED", 0),
        "c": ("GONE", 1),
        "d": ("OK", 2),
        "e": ("OK", 2),
    }
    assert local.rows("r").total() == 4


async def checkpoint_of(*_: object) -> None:
    """Commits nothing."""
    await checkpoint()


def unpublished(monkeypatch: pytest.MonkeyPatch, place: Place, world: World, *accounts: Account) -> None:
    """An attempt that ends before it publishes."""

    async def fail(*_: object) -> None:
        raise Fatal("StoreFailed", "no room")

    with monkeypatch.context() as patch:
        patch.setattr(Publication, "publish", fail)
        with pytest.raises(Fatal):
            anyio.run(run, place, world, "ndjson", accounts or (A, B))


def test_what_one_account_has_listed_of_a_registry_is_not_held_of_another(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the registry of another account may want a part of it; its owner still wants all."""
    reader = Account(B.account_id, regions=("east",), registries=(A.account_id,), repositories=("a", "e"))
    there = world()
    unpublished(monkeypatch, local, there, reader)
    anyio.run(run, local, there, "ndjson", (A, reader))
    assert local.rows("r") == there.rows() + Counter(row for row in there.rows() if row[2] == "a")
    lines = Counter((line["accountId"], line["repositoryName"]) for line in local.ledger("r"))
    assert lines[A.account_id, "d"] == lines[A.account_id, "a"] == lines[B.account_id, "a"] == 1


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize("which", range(5))
def test_a_resume_crawls_anew_what_was_in_a_part_that_is_not_as_it_was(
    local: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: str, which: int
) -> None:
    """Once, also if the part comes back later; and though another record has its target as a whole."""
    there = world()
    monkeypatch.setattr("crawler.sinks.parts.Sizes", lambda: Sizes(part_units=1))
    unpublished(monkeypatch, local, there)
    assert local.folder
    part = sorted((local.folder / "data").rglob("part-*"))[which]
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(data[:-100])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "commit", checkpoint_of)
        unpublished(monkeypatch, local, there)
    assert f"{part}: should be there, with {len(data)} bytes, and is not: crawled anew" in caplog.text
    part.write_bytes(data)
    asked = there.calls.copy()
    anyio.run(run, local, there)
    again = {spot[3] for spot, times in (there.calls - asked).items() if spot[0] == "images"}
    assert len(again) == 1
    check(local)
    assert local.rows("r") == there.rows()


def test_a_resume_lets_go_of_nothing_once_another_attempt_has_published(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which then removes the small parts that it has merged."""
    unpublished(monkeypatch, local, world())
    records = [name for name in local.names() if "/records/" in name]

    async def main() -> None:
        async with publication(order(local)) as late:
            assert local.folder
            for part in (local.folder / "data").rglob("part-*"):
                part.unlink()
            (local.folder / layout.manifest("r")).touch()
            with pytest.raises(Fatal, match=r"^PublishedElsewhere: run r: "):
                await late.recall(Ledger().record, Hints().learn)

    anyio.run(main)
    assert records
    assert {*records} <= {*local.names()}


def test_a_first_attempt_does_not_publish_a_part_that_was_removed_meanwhile(local: Place) -> None:
    there = world()

    async def main() -> None:
        ledger = Ledger()
        async with publication(order(local)) as to:
            async with to.keeping() as send, to.taking(ledger) as sink:
                ledger.sends = [send]
                await to.recall(ledger.record, Hints().learn)
                await crawl(there, sink, ledger, A, B)
            assert local.folder
            (part,) = (local.folder / "data").rglob("part-*")
            part.unlink()
            with pytest.raises(Fatal, match=f"^PartMissing: {part}: should be there, with"):
                await to.publish(status_of(ledger, frozenset()), ledger, Timeline())

    anyio.run(main)
    assert local.manifest("r") is None


@pytest.mark.parametrize("most", [2, 3, 500])
def test_so_many_parts_are_merged_at_a_time_as_files_may_be_open(
    local: Place, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    there = world()
    monkeypatch.setattr("crawler.runs.publish.MERGED_PARTS", most)
    monkeypatch.setattr("crawler.sinks.parts.Sizes", lambda: Sizes(part_units=1))
    anyio.run(run, local, there)
    manifest = local.manifest("r")
    assert manifest
    records = [json.loads(local.read(name).splitlines()[0]) for name in manifest["records"]]
    small = sum(len(record["parts"]) for record in records)
    assert small == 5
    assert len(manifest["parts"]) == -(-small // most)
    check(local)


def test_what_a_resume_adds_up_is_the_same(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt ends before it publishes, with half of a repository fetched."""
    there = world()
    there.will(("images", A.account_id, "east", "a", 1), NO)
    unpublished(monkeypatch, local, there)
    asked = there.calls.copy()
    anyio.run(run, local, there)
    check(local)
    assert local.rows("r") == there.rows()
    again = {spot[3] for spot, times in (there.calls - asked).items() if spot[0] == "images"}
    assert again == {"a"}


# Shares. Each is what `crawler shard n/2` does, without the process around it.


@asynccontextmanager
async def share(place: Place, number: int, form: str = "ndjson") -> Any:
    hints = HintsFile("", None, [], "")
    async with shared_publication(order(place, form), (number, 2), "of 2", hints, frozenset()) as shared:
        yield shared


async def crawl_share(shared: SharedPublication, world: World, account: Account) -> Callable[[], Awaitable[None]]:
    """Crawl a share; return what commits it, and publishes the run if it is the last."""
    ledger = Ledger()
    async with shared.keeping() as send, shared.taking(ledger) as sink:
        ledger.sends = [send]
        await crawl(world, sink, ledger, account)
    ledger.warn("a warning", account.account_id)

    async def publish() -> None:
        await shared.publish(status_of(ledger, frozenset()), ledger, Timeline())

    return publish


async def share_alone(place: Place, world: World, number: int, form: str = "ndjson") -> str:
    async with share(place, number, form) as shared:
        publish = await crawl_share(shared, world, (A, B)[number - 1])
        await publish()
        return str(shared.published())


@formats
def test_shares_add_up_to_the_run(local: Place, form: str) -> None:
    there = world()
    there.always(("images", A.account_id, "east", "a", 1), NO)

    async def main() -> None:
        assert "1 of 2 are" in await share_alone(local, there, 1, form)
        assert local.manifest("r") is None
        with pytest.raises(AlreadyCommitted, match="share 1 of run r is committed; 1 of 2 are") as found:
            await share_alone(local, there, 1, form)
        assert found.value.status == "incomplete"
        assert "run r is published" in await share_alone(local, there, 2, form)

    anyio.run(main)
    check(local)
    manifest = local.manifest("r")
    assert manifest
    assert (manifest["status"], manifest["rows"], manifest["missing"]) == ("incomplete", 8, 1)


@formats
def test_two_shares_that_end_at_the_same_moment_publish_one_run(local: Place, form: str) -> None:
    """Both find all records there, merge the parts, and tidy up; whoever is second finds the manifest."""
    there = world()
    said: list[str] = []

    async def end(shared: SharedPublication) -> None:
        await shared.conclude()
        said.append(shared.published())

    async def main() -> None:
        async with share(local, 1, form) as one, share(local, 2, form) as two:
            commits = [await crawl_share(one, there, A), await crawl_share(two, there, B)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(SharedPublication, "conclude", lambda *_: checkpoint())
                for commit in commits:
                    await commit()
            async with anyio.create_task_group() as group:
                group.start_soon(end, one)
                group.start_soon(end, two)

    anyio.run(main)
    assert said == [f"run r is published in {local.output}: all of its 2 shares are there"] * 2
    check(local)
    assert local.rows("r") == there.rows()
    manifest = local.manifest("r")
    assert manifest
    data = {name for name in local.names() if name.startswith("data/")}
    success = f"data/date={manifest['date']}/run=r/_SUCCESS"
    assert data == {success, *(part["path"] for part in manifest["parts"])}


@pytest.mark.parametrize("merges", [False, True], ids=["before it has the parts", "after it has merged them"])
def test_a_share_that_finds_the_run_published_by_another_is_content(
    local: Place, monkeypatch: pytest.MonkeyPatch, *, merges: bool
) -> None:
    """In another second, or by another version: the two manifests differ, and the first one counts."""
    there = world()
    merged = crawler.publication.merged

    async def main() -> None:
        async with share(local, 1) as one, share(local, 2) as two:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(SharedPublication, "conclude", lambda *_: checkpoint())
                await (await crawl_share(one, there, A))()
            commit = await crawl_share(two, there, B)

            async def meanwhile(*args: Any) -> Any:
                parts = await merged(*args) if merges else None
                monkeypatch.setattr("crawler.publication.merged", merged)
                with monkeypatch.context() as patch:
                    patch.setattr("crawler.publication.__version__", "of another")
                    await one.conclude()
                return parts or await merged(*args)

            monkeypatch.setattr("crawler.publication.merged", meanwhile)
            await commit()
            assert two.published() == one.published()
            assert two.published().startswith("run r is published")

    anyio.run(main)
    check(local)
    assert local.rows("r") == there.rows()
    manifest = local.manifest("r")
    assert manifest
    assert manifest["program"] == "of another"


def damaged(line: bytes) -> dict[str, bytes]:
    head, newline, units = line.partition(b"\n")
    document = json.loads(head)

    def with_rest(**rest: object) -> bytes:
        return json.dumps({**document, "rest": {**document["rest"], **rest}}).encode() + newline + units

    return {
        "empty": b"",
        "cut in its head": line[:40],
        "cut in its units": line[:-10],
        "without its units": head + newline,
        "left that is no text": with_rest(left=[1]),
        "left that is no line": with_rest(left=["{}\n"]),
        "no number of accounts": with_rest(accounts="many"),
        "warnings without a place": with_rest(warnings=["alone"]),
        "of a later program": json.dumps({**document, "version": 99}).encode() + newline + units,
    }


@pytest.mark.parametrize("damage", damaged(b'{"rest":{}}\n{}\n'))
def test_a_run_is_not_published_from_a_share_whose_record_is_damaged(local: Place, damage: str) -> None:
    there = world()

    async def main() -> None:
        await share_alone(local, there, 1)
        assert local.folder
        record = local.folder / layout.record("r", 1, 1)
        record.write_bytes(damaged(record.read_bytes())[damage])
        for number in (2, 2, 1):  # the last to end; the same command again; and the damaged one's
            with pytest.raises(Fatal, match=rf"^RecordUnfit: {record}: is ") as told:
                await share_alone(local, there, number)
            assert "use " in told.value.message or "not a file of this program" in told.value.message

    anyio.run(main)
    assert local.manifest("r") is None


def test_a_share_whose_part_is_gone_publishes_nothing(local: Place) -> None:
    there = world()

    async def main() -> None:
        await share_alone(local, there, 1)
        assert local.folder
        (part,) = (local.folder / "data").rglob("part-*")
        part.unlink()
        with pytest.raises(Fatal, match=f"^PartMissing: {part}: should be there, with"):
            await share_alone(local, there, 2)

    anyio.run(main)
    assert local.manifest("r") is None


def test_a_share_that_somebody_else_has_committed_meanwhile_counts_as_theirs(local: Place) -> None:
    """As when an array job starts a share again that it holds for dead."""
    there = world()

    async def main() -> None:
        async with share(local, 1) as late:
            commit = await crawl_share(late, there, A)
            await share_alone(local, there, 1)
            await commit()
            assert late.published() == "share 1 of run r is committed; 1 of 2 are"
        await share_alone(local, there, 2)

    anyio.run(main)
    check(local)
    assert local.rows("r") == there.rows()


def test_the_report_of_a_share_comes_back_from_its_record(local: Place) -> None:
    anyio.run(share_alone, local, world(), 1)
    record = local.read(layout.record("r", 1, 1)).splitlines()
    assert json.loads(record[0])["rest"]["warnings"] == [["a warning", A.account_id]]
