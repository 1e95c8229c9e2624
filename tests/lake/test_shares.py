"""Array jobs: n processes that know nothing of each other, one run, published by whoever is last."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from crawler.cutting import Shares
from crawler.emulator import Emulator, Estate
from crawler.errors import Fatal, UsageError
from crawler.hints import Hints, Memory
from crawler.hints_file import HintsFile
from crawler.ledger import Ledger, Totals
from crawler.model import Account, Outcome, Result, RowKind, Unit
from crawler.pace import Quota
from crawler.publication import Publication
from crawler.runs import layout
from crawler.runs.attempt import join, read_manifest
from crawler.runs.journal import Journal
from crawler.runs.shards import ShardJournal
from crawler.shard import Report
from crawler.shares import SharedPublication
from crawler.sinks.formats import encoding_of
from crawler.sinks.spool import PartFile
from crawler.store import Store
from crawler.tables import Table
from crawler.timeline import Timeline
from tests.lake.conftest import Place, Zygote
from tests.lake.test_crash import check_published, check_unpublished_or_whole, command, requests


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return Place(f"{tmp_path}/out/", folder=tmp_path / "out")


def share(place: Place, which: str, *options: str) -> list[str]:
    return ["shard", which, *command(place, "r"), *options]


class NoTable:
    """A table whose catalog went away during the crawl."""

    copies = False

    def check(self) -> None: ...

    def has(self, run_id: str) -> bool:
        raise Fatal("TableFailed", f"{run_id}: the catalog is down")

    def add(self, *_: object) -> None: ...


async def tables() -> Sequence[Table]:
    return [NoTable()]


async def one_share(
    store: Store, exits: ExitStack, tables: Callable[[], Awaitable[Sequence[Table]]]
) -> SharedPublication:
    """A run of a single share."""
    claim = await join(
        store, "r", "parquet", {"shard": "of 1", "account": [], "account_tag": [], "region": [], "repository": []}
    )
    publication = Publication(store, claim, Journal(store, claim), tables, rows=RowKind.IDS, publish_partial=True)
    exits.enter_context(closing(publication))
    hints = HintsFile("", None, (), "")
    share = SharedPublication(store, publication, hints, rows=RowKind.IDS, share=(1, 1), tolerated=frozenset())
    return exits.enter_context(closing(share))


def test_the_last_share_tells_that_the_run_is_in_no_table(tmp_path: Path) -> None:
    """Also though the manifest is there: it is its own. Of another's the other one tells."""

    async def main() -> None:
        store = Store.local(str(tmp_path))
        with ExitStack() as exits:
            share = await one_share(store, exits, tables)
            ledger = Ledger()
            async with share.keeping() as send:
                ledger.sends = [send]
                await ledger.record(Result(Unit(ACCOUNTS[0], ACCOUNTS[0].account_id, "east"), Outcome.EMPTY))
            with pytest.raises(Fatal, match="the catalog is down"):
                await share.publish("complete", ledger, Timeline())
            assert await read_manifest(store, "r")

    anyio.run(main)


def test_two_alive_on_one_shard_leave_the_parts_of_one(tmp_path: Path) -> None:
    """Whoever was held for lost wakes when the other has committed the shard, or when the run is published."""

    async def main() -> None:
        store = Store.local(str(tmp_path))
        with ExitStack() as exits:
            share = await one_share(store, exits, tables)
            lost, other = (exits.enter_context(closing(ShardJournal(store, share.claim, 1, ()))) for _ in range(2))
            with part() as file:
                for journal in (lost, other):
                    await journal.commit([await journal.upload(file)], [])
            sealed = await other.seal(Report(1, b"", b"", Totals()))
            late = await lost.seal(Report(1, b"", b"", Totals()))
            data = layout.data("r", share.claim.date)
            assert late.parts == sealed.parts
            assert await store.names(data) == [each.path for each in sealed.parts]
            await store.create(layout.manifest("r"), b"{}")
            with part() as file, pytest.raises(Fatal, match="published"):
                await lost.upload(file)
            assert await store.names(data) == [each.path for each in sealed.parts]

    anyio.run(main)


@contextmanager
def part() -> Iterator[PartFile]:
    with PartFile(".ndjson.gz") as file:
        encoding = encoding_of("ndjson.gz", "r", RowKind.IDS)
        file.open(encoding)
        file.finish()
        yield file


@pytest.mark.slow
def test_the_last_share_publishes_the_run(program: Zygote, place: Place, estate: Estate, emulator: Emulator) -> None:
    expected = Counter(estate.rows())
    hints = program.folder / "hints.json"
    options = ("--hints", "hints.json", "--page-size", "200")
    for which in ("3/3", "1/3"):
        assert program.run(*share(place, which, *options)) == 0, program.said()
        check_unpublished_or_whole(place, "r", expected)
        assert place.manifest("r") is None
        assert not hints.exists(), "what one share has learned is not all"
    # A share that is there is not crawled again, whoever starts it once more.
    before = requests(emulator)
    assert program.run(*share(place, "1/3", *options)) == 0, program.said()
    assert requests(emulator) == before
    assert "share 1 of run r is committed; 2 of 3 are; nothing was crawled" in program.said()
    assert program.run(*share(place, "2/3", *options)) == 0, program.said()
    check_published(place, "r", expected)
    learned = json.loads(hints.read_bytes())
    assert set(learned["targets"]) == {f"{id_}/{at}" for id_, it in estate.accounts.items() for at in it.repositories}
    assert learned["pages"] > sum(target["pages"] for target in learned["targets"].values())
    manifest = place.manifest("r")
    assert manifest
    assert (manifest["status"], len(manifest["records"])) == ("complete", 3)
    assert json.loads(place.read(manifest["timeline"]))["intervals"] == [], "one share's time is not the run's"
    before = requests(emulator)
    assert program.run(*share(place, "2/3", *options)) == 0, program.said()
    assert "run r is already published" in program.said()
    assert requests(emulator) == before


def test_a_share_that_is_killed_is_crawled_again(program: Zygote, local: Place, estate: Estate) -> None:
    at = 9
    while (code := program.run(*share(local, "1/2"), kill_at_write=at)) == 0:
        at -= 2  # fewer writes than that
    assert code == -signal.SIGKILL
    for which in ("1/2", "2/2"):
        assert program.run(*share(local, which)) == 0, program.said()
    check_published(local, "r", Counter(estate.rows()))


def test_what_a_share_could_not_list_is_told_by_the_run(program: Zygote, local: Place) -> None:
    with (program.folder / "accounts.yaml").open("a") as accounts:
        accounts.write("- account_id: '123123123123'\n  role: inventory\n  regions: [eu-west-1]\n")
    assert sorted(program.run(*share(local, which)) for which in ("1/2", "2/2")) == [0, 3], program.said()
    manifest = local.manifest("r")
    assert manifest
    assert (manifest["status"], manifest["missing"]) == ("incomplete", 1)
    lines = [line for line in local.ledger("r") if line["registryId"] == "123123123123"]
    assert [line["outcome"] for line in lines] == ["DENIED"]


def test_what_no_share_matches_is_not_published(program: Zygote, local: Place) -> None:
    """And is never a success, whoever says so again."""
    codes = [
        program.run(*share(local, which, "--repository", "tpyo", "--region", "eu-*", "--region", "ue-*"))
        for which in ("1/2", "2/2", "1/2")
    ]
    assert codes == [0, 1, 1]
    assert local.manifest("r") is None
    assert program.said().count("--repository tpyo matches none of 30 repositories; globs match whole names") == 2


def test_what_no_share_matches_beside_what_one_does_is_a_warning(program: Zygote, local: Place) -> None:
    for which in ("1/2", "2/2"):
        asked = ("--repository", "team/1", "--repository", "tpyo", "--region", "eu-*", "--region", "ue-*")
        assert program.run(*share(local, which, *asked)) == 0, program.said()
    assert local.manifest("r")
    said = [text for text in program.said().splitlines() if "matches n" in text]
    assert [text.partition("--")[2].split()[0] for text in said] == ["region", "repository"]
    assert "ue-*" in said[0]
    assert "tpyo" in said[1]


def test_what_is_said_of_an_organization_is_said_once(program: Zygote, local: Place) -> None:
    (program.folder / "accounts.yaml").write_text("organization:\n  member_role: inventory\n  regions: [eu-west-1]\n")
    for which in ("1/3", "2/3", "3/3"):
        assert program.run(*share(local, which, "--account", "nobody", "--account", "000000000001")) == 3
    manifest = local.manifest("r")
    assert manifest
    assert (manifest["status"], manifest["missing"]) == ("incomplete", 1)
    assert [line["code"] for line in local.ledger("r") if line["accountId"] is None] == ["SelectorUnmatched"]


@pytest.mark.slow
def test_a_run_without_one_of_its_shares_is_finished_by_one_process(
    program: Zygote, local: Place, estate: Estate, emulator: Emulator
) -> None:
    assert program.run(*share(local, "1/2")) == 0, program.said()
    before = requests(emulator)
    assert program.run(*command(local, "r")) == 0, program.said()
    assert (
        0
        < requests(emulator) - before
        < sum(1 for account in estate.accounts.values() for _ in account.repositories) * 10
    )
    check_published(local, "r", Counter(estate.rows()))
    assert program.run(*share(local, "2/2")) in (0, 2), program.said()


@pytest.mark.slow
def test_shares_of_different_divisions_do_not_mix(program: Zygote, local: Place) -> None:
    assert program.run(*share(local, "1/2")) == 0, program.said()
    assert program.run(*share(local, "2/3")) == 2
    assert "this run was begun with another --shard" in program.said()


def test_shares_by_different_hints_do_not_mix(tmp_path: Path) -> None:
    async def main() -> None:
        store = Store.local(str(tmp_path))
        await join(store, "r", "parquet", {"shard": "of 2, by hints 0123"})
        for plan, said in (("of 2, by hints 4567", "--hints"), ("of 2", "--hints"), ("of 3, by hints 0123", "--shard")):
            with pytest.raises(UsageError, match=f"begun with another {said}:"):
                await join(store, "r", "parquet", {"shard": plan})

    anyio.run(main)


@pytest.mark.slow
def test_shares_that_run_at_once(program: Zygote, place: Place, estate: Estate) -> None:
    def run(which: str) -> int:
        environment = {**os.environ, **program.environment}
        return subprocess.run(
            [sys.executable, "-m", "crawler", *share(place, which)], env=environment, cwd=program.folder, check=False
        ).returncode

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(run, ["1/4", "2/4", "3/4", "4/4"])) == [0] * 4
    check_published(place, "r", Counter(estate.rows()))


ACCOUNTS = [Account(f"{number:012}") for number in range(1000)]


def test_every_account_is_in_one_share() -> None:
    shares = [Shares(7, Hints()) for _ in range(2)]
    assert [shares[0].of(account) for account in ACCOUNTS] == [shares[1].of(account) for account in ACCOUNTS]
    sizes = Counter(map(shares[0].of, ACCOUNTS))
    assert set(sizes) == set(range(1, 8))
    assert max(sizes.values()) < 1.3 * 1000 / 7
    # Kept for ever: machines of different versions may share a run.
    assert [shares[0].of(account) for account in ACCOUNTS[:5]] == [3, 4, 1, 5, 6]


def test_hints_spread_what_is_long() -> None:
    known = {f"{number:012}/east": Memory({"ListImages": Quota(1.0, 1.0)}, {}, 1000) for number in range(8)}
    shares = Shares(4, Hints.of_part(known, Hints()._rows))
    assert Counter(shares.of(account) for account in ACCOUNTS[:8]) == {1: 2, 2: 2, 3: 2, 4: 2}
    assert shares.plan != Shares(4, Hints()).plan
