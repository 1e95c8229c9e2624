"""One registry in one region: its repositories and their images over the pool, encoded and decoded by hand.

Operations as regular as these need no service model: botocore's pipeline would be most of their cost.
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ListImages.html
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html
https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from crawler.aws.answers import Decode, image_details, image_ids, repositories
from crawler.aws.api import Endpoint
from crawler.aws.errors import DIALECT, translate
from crawler.aws.http import Pool
from crawler.aws.keys import Source, with_keys
from crawler.aws.signing import Keys
from crawler.errors import Refused
from crawler.model import Fetch, Image, ImageId, ImageStatus, Page, Part, RowKind, Split, TagStatus, Warn

T = TypeVar("T")

#: What servers of the model of 2016 allow; today's allow 1,000.
_OLD_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Service:
    """A service with registries: its name, what its operations are called by, and whether it filters images itself."""

    name: str
    target: str
    filters: bool


PRIVATE = Service("ecr", "AmazonEC2ContainerRegistry_V20150921.", filters=True)


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of ListImages, or of DescribeImages: their requests are alike. `image_ids` reads a page."""

    page_size: int = 1000
    tag_status: TagStatus = TagStatus.ANY
    image_status: ImageStatus = ImageStatus.ANY
    rows: RowKind = RowKind.IDS
    image_ids: Decode[ImageId] = image_ids


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server understands: pages of more than 100, and `filter.imageStatus`."""

    large_pages: bool = True
    image_status: bool = True


class Dialects:
    """The dialect of each endpoint, learned from its first refusal. Shared by all registries of a run."""

    def __init__(self, warn: Warn) -> None:
        self._known: dict[tuple[str, str], Dialect] = {}
        self._warn = warn

    def of(self, url: str, operation: str) -> Dialect:
        """The dialect to begin a chain with."""
        return self._known.get((url, operation), Dialect())

    def learn(self, url: str, operation: str, dialect: Dialect) -> None:
        """Remember what worked; say what will be missing."""
        if dialect == self.of(url, operation):
            return
        if self.of(url, operation).image_status and not dialect.image_status:
            self._warn("archived images are not listed, since the endpoint does not know filter.imageStatus", url)
        self._known[url, operation] = dialect


def older(refused: Dialect, *, large_pages: bool, image_status: bool) -> list[Dialect]:
    """The older dialects worth trying, the newest first. Only what is asked for, and may be left out, is dropped."""
    pages = [True, False] if refused.large_pages and large_pages else [refused.large_pages]
    statuses = [True, False] if refused.image_status and image_status else [refused.image_status]
    # Pages of 1,000 without the member before pages of 100 with it: ten times the requests is the greater loss.
    tries = [Dialect(large, status) for large in pages for status in statuses]
    return [dialect for dialect in tries if dialect != refused]


class EcrRegistry:
    """A `Registry`: one target, its endpoint and its keys. A Fetch makes one attempt, and renews expired keys once."""

    def __init__(
        self,
        *,
        registry_id: str,
        endpoint: Endpoint,
        source: Source,
        pool: Pool,
        dialects: Dialects,
        asking: Asking,
        service: Service = PRIVATE,
    ) -> None:
        self._registry_id = registry_id
        self._endpoint = endpoint
        self._source = source
        self._pool = pool
        self._dialects = dialects
        self._asking = asking
        self._service = service

    def __repr__(self) -> str:
        return f"<EcrRegistry {self._registry_id} in {self._endpoint.region} by {self._source!r}>"

    def repositories(self) -> Fetch[str]:
        """See `Registry`."""

        def request(dialect: Dialect) -> dict[str, Any]:
            size = 1000 if dialect.large_pages else _OLD_PAGE_SIZE
            return {"registryId": self._registry_id, "maxResults": size}

        return self._chain("DescribeRepositories", request, repositories, large_pages=True, image_status=False)

    def parts(self, split: Split) -> list[Part]:
        """See `Registry`."""
        tags, statuses = [self._asking.tag_status], [self._asking.image_status]
        if split is not Split.NO and tags == [TagStatus.ANY]:
            tags = [TagStatus.TAGGED, TagStatus.UNTAGGED]
        if split is Split.ALL and statuses == [ImageStatus.ANY]:
            statuses = [ImageStatus.ACTIVE, ImageStatus.ARCHIVED, ImageStatus.ACTIVATING]
        return [Part(tag, status) for tag in tags for status in statuses]

    def images(self, repository: str, part: Part | None = None) -> Fetch[Image]:
        """See `Registry`."""
        asking = self._asking
        part = part or Part(asking.tag_status, asking.image_status)

        def request(dialect: Dialect) -> dict[str, Any]:
            size = asking.page_size if dialect.large_pages else min(asking.page_size, _OLD_PAGE_SIZE)
            asked: dict[str, Any] = {
                "registryId": self._registry_id,
                "repositoryName": repository,
                "maxResults": size,
            }
            filters = {}
            if not self._service.filters:
                return asked
            if part.tag_status is not TagStatus.ANY:
                filters["tagStatus"] = part.tag_status.value
            if dialect.image_status:
                filters["imageStatus"] = part.image_status.value
            if filters:
                asked["filter"] = filters
            return asked

        # A server that does not know the member lists active images: right for ACTIVE, the best there is for ANY.
        droppable = self._service.filters and part.image_status in (ImageStatus.ANY, ImageStatus.ACTIVE)
        large = asking.page_size > _OLD_PAGE_SIZE
        decode: Decode[Image] = asking.image_ids if asking.rows is RowKind.IDS else image_details
        return self._chain(asking.rows.operation, request, decode, large_pages=large, image_status=droppable)

    def _chain(
        self,
        operation: str,
        request: Callable[[Dialect], dict[str, Any]],
        decode: Decode[T],
        *,
        large_pages: bool,
        image_status: bool,
    ) -> Fetch[T]:
        dialect: Dialect | None = None  # of the first page, and so of all: a token belongs to its request

        async def ask(spoken: Dialect) -> Page[T]:
            return decode(await self._post(operation, request(spoken), None))

        async def fetch(token: str | None) -> Page[T]:
            nonlocal dialect
            url = self._endpoint.url
            if dialect is None or token is None:
                dialect = self._dialects.of(url, operation)
            try:
                return decode(await self._post(operation, request(dialect), token))
            except Refused as refusal:
                if token is not None or refusal.code not in DIALECT:
                    raise
                tries = older(dialect, large_pages=large_pages, image_status=image_status)
                agreed = await _agreed(ask, dialect, tries) if tries else None
                if agreed is None:
                    raise  # what the newest dialect was told says most about the request itself
                dialect, page = agreed
                self._dialects.learn(url, operation, dialect)
                return page

        return fetch

    async def _post(self, operation: str, asked: dict[str, Any], token: str | None) -> bytes:
        endpoint = self._endpoint
        if token is not None:
            asked["nextToken"] = token
        body = _encode(asked)
        headers = {**endpoint.headers, "X-Amz-Target": self._service.target + operation}

        async def send(keys: Keys) -> bytes:
            signed = endpoint.signed(keys, headers, body)
            status, answered, data = await self._pool.request("POST", endpoint.route, signed, body)
            if status != 200:  # noqa: PLR2004 RFC 9110 §15.3.1
                what = f"{self._service.name}:{operation} of registry {self._registry_id} in {endpoint.region}"
                raise translate(status, answered, data, doing=what)
            return data

        return await with_keys(self._source, send)


async def _agreed(
    ask: Callable[[Dialect], Awaitable[Page[T]]], refused: Dialect, tries: Sequence[Dialect]
) -> tuple[Dialect, Page[T]] | None:
    """The newest dialect that is understood, and the page that came of it; None where none is.

    What was refused is asked first, and once more before an older one is taken: what stray refusals taught would leave
    archived images out for the rest of the run.
    """
    for dialect in (refused, *tries):
        page = await _understood(ask, dialect)
        if page is not None:
            whole = await _understood(ask, refused) if dialect != refused else None
            return (dialect, page) if whole is None else (refused, whole)
    return None


async def _understood(ask: Callable[[Dialect], Awaitable[Page[T]]], dialect: Dialect) -> Page[T] | None:
    try:
        return await ask(dialect)
    except Refused as refusal:
        if refusal.code not in DIALECT:
            raise
        return None


def _encode(asked: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(asked)
    except TypeError:  # a lone surrogate in a name: no UTF-8, but JSON has an escape for it
        return json.dumps(asked).encode("ascii")
