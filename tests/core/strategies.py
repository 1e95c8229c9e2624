"""Worlds of any shape, and what may go wrong at each of their pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hypothesis import strategies as st

from crawler.errors import CrawlError, Denied, Gone, KeysExpired, KeysUnknown, Throttled, Transient
from crawler.model import ImageId
from tests.fakes import HANG, Spot, Step, Tree, World, image

REGIONS = ("eu-1", "us-1")

#: Digests repeat, within a page and across pages; an image may have several tags, or none.
image_ids: st.SearchStrategy[ImageId] = st.builds(
    image, st.sampled_from("abc"), st.none() | st.sampled_from(["latest", "v1", ""])
)


def _unlike(pages: list[list[ImageId]]) -> list[list[ImageId]]:
    """Leave out what repeats an earlier page, which breaks a chain."""
    return [page for number, page in enumerate(pages) if not page or page not in pages[:number]]


chains = st.lists(st.lists(image_ids, max_size=3), min_size=1, max_size=4).map(_unlike)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw repositories in pages of any size, empty ones among them."""
    images = draw(st.dictionaries(st.sampled_from(["a", "b", "team/c", "team/d"]), chains, max_size=4))
    names: list[list[str]] = [[]]
    for name in images:
        names += [[] for _ in range(draw(st.integers(0, 2)))]
        names[-1].append(name)
    return Tree(names + [[] for _ in range(draw(st.integers(0, 1)))], images)


def worlds(accounts: Sequence[str]) -> st.SearchStrategy[dict[tuple[str, str], Tree]]:
    places = [(account, region) for account in accounts for region in REGIONS]
    return st.fixed_dictionaries({}, optional={place: trees() for place in places})


def spots(world: Mapping[tuple[str, str], Tree]) -> Iterator[Spot]:
    """Every page there is."""
    for place, tree in world.items():
        yield from (("repositories", *place, index) for index in range(len(tree.names)))
        for name, pages in tree.images.items():
            yield from (("images", *place, name, index) for index in range(len(pages)))


#: What the default policy survives, a few times over.
passing: st.SearchStrategy[list[Step]] = st.lists(
    st.sampled_from(
        [
            Throttled("ThrottlingException", "Rate exceeded"),
            Throttled("ThrottlingException", "Rate exceeded", 7.5),
            Transient("ServerException", "fault"),
            HANG,
        ]
    ),
    max_size=4,
)

#: What no patience helps against.
lasting: st.SearchStrategy[CrawlError] = st.sampled_from(
    [
        Throttled("ThrottlingException", "Rate exceeded"),
        Transient("ServerException", "fault"),
        Denied("AccessDeniedException", "no"),
        KeysUnknown("UnrecognizedClientException", "who?"),
        KeysExpired("ExpiredTokenException", "late"),
        Gone("RepositoryNotFoundException", "gone"),
    ]
)


@st.composite
def schedules(draw: st.DrawFn, world: World) -> dict[Spot, list[Step]]:
    """Draw faults that pass, for some of the pages."""
    return {spot: steps for spot in spots(world.trees) if (steps := draw(passing))}


@st.composite
def failures(draw: st.DrawFn, world: World) -> dict[Spot, CrawlError]:
    """Draw faults that last, for a few of the pages."""
    everywhere = list(spots(world.trees))
    if not everywhere:
        return {}
    return draw(st.dictionaries(st.sampled_from(everywhere), lasting, max_size=4))
