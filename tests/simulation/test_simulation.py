"""Hundreds of worlds in which everything goes wrong, on a virtual clock; and crawlers that are wrong are found out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest

from crawler import listing
from crawler.crawl import Crawl
from crawler.doubts import Doubts
from crawler.errors import ChainBroken, CrawlError, Transient
from crawler.governor import Governor
from crawler.model import Chain, Fetch, Outcome, Page, Result, Unit
from crawler.pages import pages
from crawler.retry import RetryPolicy, persist
from tests.simulation.oracle import judge
from tests.simulation.story import Story

SEEDS, SLICE = 500, 25


def tell_and_judge(seeds: Iterable[int]) -> None:
    for seed in seeds:
        try:
            judge(Story(seed).tell())
        except BaseException as error:
            error.add_note(f"replay it: python -m tests.simulation {seed}")
            raise


@pytest.mark.parametrize("first", range(0, SEEDS, SLICE))
def test_whatever_happens(first: int) -> None:
    tell_and_judge(range(first, first + SLICE))


def test_a_seed_is_one_story() -> None:
    first, again = Story(7).tell(), Story(7).tell()
    assert [attempt.lines for attempt in first.attempts] == [attempt.lines for attempt in again.attempts]
    assert [attempt.sink.rows for attempt in first.attempts] == [attempt.sink.rows for attempt in again.attempts]


async def without_the_last_page(fetch: Fetch[Any], chain: Chain) -> AsyncGenerator[Page[Any]]:
    token: str | None = None
    while True:
        page = await fetch(token)
        chain.pages += 1
        chain.items += len(page.items)
        if page.next_token is None and token:
            return
        yield page
        token = page.next_token
        if token is None:
            return
        if chain.pages > 50:
            raise ChainBroken("RepeatedToken", "")


async def all_that_comes(pages: AsyncGenerator[Page[Any]], _sent: object, _chain: object) -> AsyncGenerator[Page[Any]]:
    async with aclosing(pages):
        async for page in pages:
            yield page


async def with_other_tags(fetch: Fetch[Any], chain: Chain) -> AsyncGenerator[Page[Any]]:
    async with aclosing(pages(fetch, chain)) as found:
        async for page in found:
            yield replace(page, items=[{**image, "imageTag": "v1"} for image in page.items])


async def gives_up_quietly(call: Callable[[], Any], policy: RetryPolicy) -> Any:
    try:
        return await persist(call, policy)
    except CrawlError:
        return Page([], None)


async def without_slots(self: Governor, call: Any, *arguments: Any) -> Any:  # noqa: ARG001  (the function's that it stands for)
    return await call(*arguments)


async def settles_as_empty(self: Crawl, unit: Any, work: Any) -> Any:
    result, error = await settle(self, unit, work)
    if error and error.outcome is Outcome.DENIED:
        object.__setattr__(result, "outcome", Outcome.EMPTY)
    return result, error


async def takes_an_old_answer(self: Doubts, *_: object) -> None:
    self._known = bool(self._witnesses)


async def never_again(call: Callable[[], Any], _: RetryPolicy) -> Any:
    return await call()


async def settles_as_out_of_time(self: Crawl, unit: Any, work: Any) -> Any:
    """Does nothing for a repository, and has an excuse."""
    if unit.repository is None:
        return await settle(self, unit, work)
    error = Transient("TargetTimeout", "")
    return Result(unit, Outcome.FAILED, error.code, error.message), error


async def settles_as_failed(self: Crawl, unit: Any, work: Any) -> Any:
    """Does nothing for a repository, and blames the service."""
    if unit.repository is None:
        return await settle(self, unit, work)
    error = Transient("ServerException", "a hiccup")
    return Result(unit, Outcome.FAILED, error.code, error.message), error


settle = Crawl._settle


class Behind:
    """Rows that are kept until somebody writes them."""

    def __init__(self) -> None:
        self.pages: list[Any] = []

    async def send(self, images: Any) -> None:
        self.pages.append(images)


async def commits_and_then_writes(self: Crawl, at: Any, name: str) -> None:
    """What is cancelled loses nothing by it; what is killed does."""
    behind = Behind()

    async def listed(chain: Chain) -> Outcome:
        fetch = self._persistent(at.registry.images(name, None), at.governor, chain)
        await listing.list_parts(lambda *_: fetch, (None,), behind, chain, restarts=0)  # type: ignore[arg-type]  # parts of one kind
        return Outcome.OK if chain.items else Outcome.EMPTY

    with self._sink.repository(at.target, name) as rows:
        result, error = await self._settle(Unit.of(at.target, name), listed)
        if error is None:
            rows.commit(result)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
            for page in behind.pages:
                await rows.send(page)
    await self._ledger.record(result)


@pytest.mark.parametrize(
    ("where", "what", "wrong"),
    [
        (listing, "pages", without_the_last_page),
        (listing, "pages", with_other_tags),
        (listing, "unsent", all_that_comes),
        ("crawler.retry", "persist", gives_up_quietly),
        (Governor, "run", without_slots),
        (Crawl, "_settle", settles_as_empty),
        (Crawl, "_settle", settles_as_failed),
        (Crawl, "_settle", settles_as_out_of_time),
        (Doubts, "ask", takes_an_old_answer),
        ("crawler.retry", "persist", never_again),
        ("crawler.aws.keys", "persist", never_again),
    ],
)
def test_a_crawler_that_is_wrong_is_found_out(
    where: object, what: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(where, str):
        monkeypatch.setattr(f"{where}.{what}", wrong)
    else:
        monkeypatch.setattr(where, what, wrong)
    with pytest.raises(AssertionError):
        tell_and_judge(range(100))


def test_what_counts_before_it_is_written_is_found_out_by_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crawl, "_repository", commits_and_then_writes)
    found = {seed for seed in range(60) if "rows are missing" in judged(seed)}
    assert found
    assert all(any(attempt.killed for attempt in Story(seed).tell().attempts) for seed in found)


def judged(seed: int) -> str:
    try:
        judge(Story(seed).tell())
    except AssertionError as error:
        return str(error)
    return ""
