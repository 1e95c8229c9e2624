"""The one function that crawls a shard, and what is sent to whoever does."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from crawler import shard_crawl
from crawler.errors import Denied, Fatal, UsageError
from crawler.hints import Hints, Memory
from crawler.model import Account, Target
from crawler.pace import Quota
from crawler.runs.documents import Claim
from crawler.settings import Settings
from crawler.shard import Report, Shard
from crawler.shard_crawl import Assignment, Workplace
from tests.fakes import World, small_tree

A, B = Account("1" * 12, "one", role=("arn:aws:iam::111111111111:role/inventory",)), Account("2" * 12)


def world() -> World:
    return World({(A.account_id, "east"): small_tree("a", "b"), (B.account_id, "east"): small_tree("c")})


def place(world: World) -> Workplace:
    return Workplace(Assignment(Settings(accounts="accounts.yaml"), "r", None, ("text", 0)), world, None)


def test_a_report_has_all_that_came_of_a_shard() -> None:
    there = world()
    there.always(("repositories", B.account_id, "east", 0), Denied("AccessDeniedException", "no"))

    async def main() -> None:
        report = await place(there).crawl_shard(Shard(7, (A, B)), anyio.CancelScope())
        assert report.rows is not None
        with report.rows as rows:
            rows.seek(0)
            found = Counter(tuple(json.loads(line).values()) for line in rows)
        assert found == Counter(there.trees[A.account_id, "east"].rows(A.account_id, "east"))
        assert (report.number, report.totals.accounts, report.totals.rows) == (7, 2, 4)
        assert [json.loads(line)["repositoryName"] for line in report.units.splitlines()] == ["a", "b", None]
        assert [json.loads(line)["outcome"] for line in report.left.splitlines()] == ["DENIED"]

    anyio.run(main)


def test_a_shard_that_is_stopped_tells_what_it_has() -> None:
    there = world()
    there.always(("images", B.account_id, "east", "c", 1), 3600.0)

    async def main() -> None:
        work = anyio.CancelScope(deadline=anyio.current_time() + 0.3)
        report = await place(there).crawl_shard(Shard(1, (A, B)), work)
        assert report.rows is not None
        report.rows.close()
        assert report.totals.stopped == 2
        assert {json.loads(line)["code"] for line in report.left.splitlines()} == {"Interrupted"}

    anyio.run(main)


def test_an_output_that_is_not_shared_is_told_at_once(tmp_path: Path) -> None:
    claim = Claim("r", 1, "2026-01-01", "parquet", "", "", {}, {})
    assignment = Assignment(Settings(accounts="", output=f"{tmp_path}/"), "r", claim, ("text", 0))

    async def main() -> None:
        with pytest.raises(Fatal, match=r"^OutputNotShared: "):
            async with shard_crawl.workplace(assignment):
                pass

    anyio.run(main)


def test_hints_of_a_part_come_back_in_its_place() -> None:
    """What is learned of a shard takes the place of what was known of it, and of nothing else."""
    hints = Hints()
    for account in (A, B):
        hints.keep(Target(account, "east", account.account_id), Memory({"ListImages": Quota(20.0, 40.0)}), whole=True)
    part = hints.part([A])
    assert list(part) == [f"{A.account_id}/east"]
    assert Hints.of_part(part, hints._rows).learned == {}
    here, there = f"{A.account_id}/east", f"{A.account_id}/west"
    hints.learn({here: Memory(), there: Memory({"ListImages": Quota(5.0, 1.0)})})
    assert set(json.loads(hints.written(1))["targets"]) == {there, f"{B.account_id}/east"}
    assert hints.learned[here] == Memory(), "to be forgotten, whoever is told"
    assert Hints.of_part(part, hints._rows).of(Target(A, "east", A.account_id)).rates["ListImages"].rate == 20


def test_who_crawls_one_shard_alone_is_interrupted_and_tells_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """So Ray cancels a task, and goes on to use its process."""
    there = world()
    there.always(("images", B.account_id, "east", "c", 1), 3600.0)
    monkeypatch.setattr(shard_crawl.logs, "configure", lambda *_: None)

    @asynccontextmanager
    async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            yield Workplace(assignment, there, None)
            group.cancel_scope.cancel()

    async def interrupt() -> None:
        while not there.calls["images", B.account_id, "east", "c", 1]:
            await checkpoint()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(shard_crawl, "workplace", workplace)
    handler = signal.getsignal(signal.SIGINT)
    report = shard_crawl.crawl_alone(Assignment(Settings(accounts=""), "r", None, ("text", 0)), Shard(1, (B,)))
    assert signal.getsignal(signal.SIGINT) is handler
    assert isinstance(report, Report)
    assert report.rows
    report.rows.close()
    assert report.totals.rows == 1, "of its first page"
    assert {json.loads(line)["code"] for line in report.left.splitlines()} == {"Interrupted"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Fatal("StoreDenied", "not allowed"), "StoreDenied: not allowed"),
        (ExceptionGroup("", [Fatal("StoreDenied", "not allowed")]), "StoreDenied: not allowed"),
        (UsageError("/out: cannot be written"), "WorkerFailed: /out: cannot be written"),
        (ZeroDivisionError(), None),
        (ExceptionGroup("", [Fatal("StoreDenied", "not allowed"), ZeroDivisionError()]), None),
    ],
    ids=["fatal", "fatal, in a group", "usage", "a bug", "a bug beside"],
)
def test_who_crawls_one_shard_alone_returns_what_ends_all_and_raises_bugs(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str | None
) -> None:
    there = world()
    monkeypatch.setattr(shard_crawl.logs, "configure", lambda *_: None)
    failing: list[Exception] = []

    @asynccontextmanager
    async def workplace(assignment: Assignment) -> AsyncGenerator[Workplace]:
        for each in failing:
            raise each
        yield Workplace(assignment, there, None)

    monkeypatch.setattr(shard_crawl, "workplace", workplace)
    assignment = Assignment(Settings(accounts="accounts.yaml"), "r", None, ("text", 0))
    report = shard_crawl.crawl_alone(assignment, Shard(1, (A,)))
    assert isinstance(report, Report)
    assert report.rows
    report.rows.close()
    failing.append(error)
    if told is None:
        with pytest.raises(type(error)):
            shard_crawl.crawl_alone(assignment, Shard(1, (A,)))
    else:
        failure = shard_crawl.crawl_alone(assignment, Shard(1, (A,)))
        assert isinstance(failure, Fatal)
        assert str(failure) == told
