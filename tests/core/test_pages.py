"""Chains of pages: followed to their end, and stopped loudly where there is none."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import ChainBroken
from crawler.model import Chain, Fetch, Page
from crawler.pages import EMPTY_PAGES_CAP, each_once, pages, token_hash, unsent
from tests.fakes import run

Answer = Callable[[int], Page[str]]


class Server:
    """Answers the n-th request with the n-th page, and remembers the tokens it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.tokens: list[str | None] = []

    async def __call__(self, token: str | None) -> Page[str]:
        await checkpoint()
        self.tokens.append(token)
        return self.answer(len(self.tokens) - 1)


def listed(*all_pages: Page[str]) -> Server:
    return Server(lambda index: all_pages[index])


def follow(
    fetch: Fetch[str],
    chain: Chain | None = None,
    cap: int = EMPTY_PAGES_CAP,
    got: list[Page[str]] | None = None,
) -> list[Page[str]]:
    """Collect the pages into `got`, which has what came before where the chain breaks."""
    got = [] if got is None else got

    async def main() -> None:
        async with aclosing(pages(fetch, chain or Chain(), empty_pages_cap=cap)) as listing:
            async for page in listing:
                got.append(page)

    try:
        run(main)
    except ChainBroken as broken:
        broken.add_note(f"{len(got)} pages before")
        raise
    return got


@given(st.lists(st.lists(st.text(max_size=2), max_size=3), min_size=1, max_size=30))
def test_pages_come_in_order_empty_ones_included(items: list[list[str]]) -> None:
    last = len(items) - 1
    server = Server(lambda index: Page(items[index], f"token {index}" if index < last else None))
    chain = Chain()
    assert [page.items for page in follow(server, chain)] == items
    assert server.tokens == [None, *(f"token {index}" for index in range(last))]
    assert (chain.pages, chain.items) == (len(items), sum(map(len, items)))
    assert chain.last_token_hash == (token_hash(f"token {last - 1}") if last else None)


@given(lead=st.integers(0, 5), length=st.integers(1, 40))
def test_a_cycle_of_any_length_is_stopped_at_its_first_repeat(lead: int, length: int) -> None:
    def answer(index: int) -> Page[str]:
        return Page([f"row {index}"], f"t{index}" if index < lead else f"c{(index - lead) % length}")

    server, chain = Server(answer), Chain()
    with pytest.raises(ChainBroken, match="RepeatedToken") as caught:
        follow(server, chain)
    # Every token was sent once, and the page that points back was delivered before its token was judged.
    assert len(server.tokens) == len(set(server.tokens)) == lead + length + 1
    assert chain.pages == chain.items == lead + length + 1
    assert caught.value.__notes__ == [f"{lead + length + 1} pages before"]


@pytest.mark.parametrize("between", [[], [Page(["c"], "t2", 12)], [Page([], "t2", 13)]])
def test_a_page_that_comes_again_is_the_end_and_not_delivered_again(between: list[Page[str]]) -> None:
    first, again = Page(["a", "b"], "t1", 11), Page(["a", "b"], None, 11)
    chain, got = Chain(), list[Page[str]]()
    with pytest.raises(ChainBroken) as caught:
        follow(listed(first, *between, again), chain, got=got)
    count = 2 + len(between)
    assert str(caught.value) == f"RepeatedPage: page {count} holds what an earlier page of its chain held"
    assert got == [first, *between]
    assert (chain.pages, chain.items) == (count, 2 + sum(len(page.items) for page in between))


@pytest.mark.parametrize("fingerprint", [None, 11])
def test_pages_that_cannot_be_told_apart_and_empty_ones_may_come_again(fingerprint: int | None) -> None:
    items = ["a"] if fingerprint is None else []
    assert len(follow(listed(Page(items, "t1", fingerprint), Page(items, None, fingerprint)))) == 2


@pytest.mark.parametrize(("tokens", "requests"), [("AA", 2), ("ABAB", 3), ("ABCB", 4), ("ABB", 3)])
def test_tokens_that_come_again(tokens: str, requests: int) -> None:
    server = Server(lambda index: Page(["row"], tokens[index]))
    with pytest.raises(
        ChainBroken, match=rf"^RepeatedToken: page {requests} points back to an earlier page: token [0-9a-f]{{32}}\b"
    ):
        follow(server)
    assert len(server.tokens) == requests


def test_the_message_names_the_token_and_never_shows_it() -> None:
    with pytest.raises(ChainBroken) as caught:
        follow(Server(lambda _: Page([], "s3cret")))
    assert "s3cret" not in str(caught.value)
    assert token_hash("s3cret") in str(caught.value)


@pytest.mark.parametrize("cap", [1, 2, 7])
def test_empty_pages_are_capped_at_exactly_the_cap(cap: int) -> None:
    server = Server(lambda index: Page([], f"t{index}"))
    with pytest.raises(ChainBroken) as caught:
        follow(server, cap=cap)
    assert str(caught.value) == f"EmptyPages: {cap} empty pages in a row, each with a token for one more"
    assert len(server.tokens) == cap


def test_empty_pages_short_of_the_cap_are_followed_and_a_row_starts_the_count_anew() -> None:
    def answer(index: int) -> Page[str]:
        return Page(["row"] if index % 5 == 4 else [], f"t{index}" if index < 24 else None)

    assert len(follow(Server(answer), cap=5)) == 25


def test_the_last_page_may_be_empty_at_the_cap() -> None:
    assert len(follow(listed(Page([], "a"), Page([], "b"), Page([], None)), cap=3)) == 3


@pytest.mark.parametrize("token", ["\ud800", "é" * 10_000, "\0", " "])
def test_tokens_are_opaque(token: str) -> None:
    server = listed(Page(["a"], token), Page(["b"], None))
    assert len(follow(server)) == 2
    assert server.tokens == [None, token]
    assert len(token_hash(token)) == 32


def test_one_page_is_asked_for_at_a_time_and_none_before_it_is_wanted() -> None:
    server = Server(lambda index: Page([str(index)], f"t{index}"))

    async def main() -> None:
        async with aclosing(pages(server, Chain())) as listing:
            assert server.tokens == []
            await anext(listing)
            assert len(server.tokens) == 1
            await anext(listing)
            assert len(server.tokens) == 2

    run(main)


def test_an_error_of_the_fetch_leaves_as_it_is_and_keeps_the_resume_point() -> None:
    def answer(index: int) -> Page[str]:
        if index == 2:
            raise ValueError("a bug")
        return Page(["row"], f"t{index}")

    chain = Chain()
    with pytest.raises(ValueError, match="a bug"):
        follow(Server(answer), chain)
    assert (chain.pages, chain.items, chain.last_token_hash) == (2, 2, token_hash("t1"))


def follow_anew(sent: list[int | None], chain: Chain, *all_pages: Page[str]) -> list[Page[str]]:
    """What a listing has that pages of these fingerprints have not; what came before an error is in `got`."""
    got: list[Page[str]] = []

    async def main() -> None:
        async with aclosing(unsent(pages(listed(*all_pages), chain), sent, chain)) as listing:
            async for page in listing:
                got.append(page)  # noqa: PERF401 (as above)

    try:
        run(main)
    except ChainBroken as broken:
        broken.add_note(f"{len(got)} pages before")
        raise
    return got


def test_a_listing_that_begins_anew_yields_only_what_had_not_been_sent() -> None:
    new, last = Page(["d"], "t4", 13), Page(["e"], None, 14)
    sent: list[int | None] = [11, 12]
    chain = Chain(pages=2, items=3)
    got = follow_anew(
        sent, chain, Page(["a", "b"], "t1", 11), Page([], "t2"), Page(["c"], "t3", 12), new, Page([], "t5"), last
    )
    assert got == [new, last]
    assert sent == [11, 12, 13, 14]
    # Pages that came again count again, their items do not.
    assert (chain.pages, chain.items) == (8, 5)


@pytest.mark.parametrize(("before", "now"), [(11, 99), (11, None), (None, 11), (None, None)])
def test_pages_that_do_not_come_again_as_they_were_break_the_chain(before: int | None, now: int | None) -> None:
    sent, chain = [before], Chain(pages=1, items=1)
    with pytest.raises(ChainBroken) as caught:
        follow_anew(sent, chain, Page(["b"], "t1", now), Page(["c"], None, 12))
    assert str(caught.value) == (
        "ListingChanged: the token of a page was refused, and what is listed anew is not what was; run again"
    )
    assert caught.value.__notes__ == ["0 pages before"]
    assert (sent, chain.items) == ([before], 1)


def test_the_listing_is_closed_with_what_reads_it() -> None:
    closed = []

    async def listing() -> AsyncGenerator[Page[str]]:
        try:
            await checkpoint()
            yield Page(["a"], "t1", 11)
            yield Page(["b"], None, 12)
        finally:
            closed.append(True)

    async def main() -> None:
        async with aclosing(unsent(listing(), [], Chain())) as new:
            await anext(new)
            assert not closed
        assert closed == [True]

    run(main)


def once(*all_pages: Page[str], got: list[list[str]]) -> None:
    async def main() -> None:
        async with aclosing(each_once(listed(*all_pages), Chain(), str.lower)) as listing:
            async for items in listing:
                got.append(items)  # noqa: PERF401 (as above)

    run(main)


def test_what_a_page_repeats_of_others_is_passed_over() -> None:
    got: list[list[str]] = []
    once(Page(["a", "b", "A"], "t1"), Page([], "t2"), Page(["B", "c"], None), got=got)
    assert got == [["a", "b"], [], ["c"]]


def test_a_page_with_nothing_new_is_the_end_of_a_list_of_names() -> None:
    got: list[list[str]] = []
    with pytest.raises(ChainBroken) as caught:
        once(Page(["a"], "t1"), Page(["b"], "t2"), Page(["B", "a"], "t3"), got=got)
    assert str(caught.value) == "RepeatedPage: page 3 names nothing that was not named before"
    assert got == [["a"], ["b"]]


def test_empty_pages_of_a_list_of_names_are_capped_too() -> None:
    server = Server(lambda index: Page([], f"t{index}"))

    async def main() -> None:
        async with aclosing(each_once(server, Chain(), str, empty_pages_cap=3)) as listing:
            async for _ in listing:
                pass

    with pytest.raises(ChainBroken, match="EmptyPages: 3 empty"):
        run(main)
    assert len(server.tokens) == 3
