"""A crawl from within a Python program: pages as they come, and in the end what is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal, TypedDict, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from crawler.accounts import AccountsFile, open_accounts
from crawler.aws import known_regions
from crawler.crawl import Crawl
from crawler.errors import UsageError
from crawler.ledger import Failure, Ledger
from crawler.logs import leave_to_the_caller
from crawler.model import Image, ImageId, ImageStatus, Result, RowKind, TagStatus, Target
from crawler.settings import Settings
from crawler.verdict import fatal
from crawler.wiring import crawl_all, registries_of

_UNTAGGED: Sequence[str | None] = (None,)


class ImageDetails(TypedDict):
    """An image as DescribeImages tells it. Times are ISO 8601 in UTC, `imageTags` sorted; None is what AWS left out.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html
    """

    imageDigest: str
    imageTags: list[str]
    imageSizeInBytes: int | None
    imagePushedAt: str | None
    lastRecordedPullTime: str | None
    imageManifestMediaType: str | None
    artifactMediaType: str | None
    subjectManifestDigest: str | None
    imageStatus: str | None
    lastArchivedAt: str | None
    lastActivatedAt: str | None


@dataclass(frozen=True, slots=True)
class ImagePage:
    """Up to a thousand images of one repository. `image_ids` are mappings with `imageDigest` and `imageTag`.

    `account_id` is the account whose credentials were used, most often that of the registry itself. `imageTag` is None
    for an untagged image; an image with three tags comes three times.
    """

    account_id: str
    registry_id: str
    region: str
    repository: str
    image_ids: Sequence[ImageId]
    _details: Sequence[ImageDetails] | None = None

    @property
    def details(self) -> Sequence[ImageDetails]:
        """Each image once, with its tags. Raises `UsageError` where the crawl was not asked for them."""
        if self._details is None:  # an empty page would read as a repository without images
            raise UsageError('only crawl(…, rows="details") has details')
        return self._details


class Pages:
    """The pages of a crawl, an asynchronous iterator. What it could not list shows once it has ended.

    Order is not kept, and pages of several repositories come in turn. The crawl goes no faster than it is read: what
    waits for a reader is a page of each repository at work.
    """

    def __init__(self, received: MemoryObjectReceiveStream[ImagePage], ledger: Ledger) -> None:
        self._received = received
        self._ledger = ledger
        self.ended = False

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> ImagePage:
        try:
            return await self._received.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    @property
    def complete(self) -> bool:
        """Whether the crawl has ended and listed all that there is: accounts, regions, repositories."""
        return self.ended and bool(self._ledger.totals.targets) and not self._ledger.incomplete()

    @property
    def failures(self) -> Sequence[Failure]:
        """The first hundred causes of what is missing so far, each with its first unit; see `on_result` for all."""
        return self._ledger.failures


class _Rows:
    def __init__(self, target: Target, repository: str, kind: RowKind, send: MemoryObjectSendStream[ImagePage]) -> None:
        self._target = target
        self._repository = repository
        self._kind = kind
        self._send = send

    async def send(self, images: Sequence[Image]) -> None:
        target = self._target
        image_ids, details = cast("Sequence[ImageId]", images), None
        if self._kind is RowKind.DETAILS:
            details = cast("Sequence[ImageDetails]", images)
            image_ids = [
                {"imageDigest": image["imageDigest"], "imageTag": tag}
                for image in details
                for tag in image["imageTags"] or _UNTAGGED
            ]
        whose = (target.account.account_id, target.registry_id, target.region, self._repository)
        await self._send.send(ImagePage(*whose, image_ids, details))

    def commit(self, result: Result) -> None:
        pass


class _Stream:
    """A `Sink` whose pages somebody reads."""

    def __init__(self, kind: RowKind, send: MemoryObjectSendStream[ImagePage]) -> None:
        self._kind = kind
        self._send = send

    def holds(self, target: Target, repository: str | None = None) -> bool:  # noqa: ARG002 - as the protocol has it
        return False

    @contextmanager
    def repository(self, target: Target, name: str) -> Generator[_Rows]:
        yield _Rows(target, name, self._kind, self._send)

    def target_ended(self, result: Result) -> None:
        pass


@asynccontextmanager
async def crawl(
    accounts: str | PathLike[str],
    *,
    account: Sequence[str] = (),
    account_tag: Sequence[str] = (),
    region: Sequence[str] = (),
    repository: Sequence[str] = (),
    exclude_repository: Sequence[str] = (),
    rows: Literal["ids", "details"] = "ids",
    tag_status: TagStatus = TagStatus.ANY,
    image_status: ImageStatus = ImageStatus.ANY,
    targets_at_once: int = 32,
    requests_per_target: int = 8,
    max_rps: float | None = None,
    rate_share: float = 1.0,
    on_result: Callable[[Result], None] | None = None,
) -> AsyncGenerator[Pages]:
    """Crawl the accounts of a file; the options are those of the command line.

        async with crawl("accounts.yaml", region=["eu-*"]) as pages:
            async for page in pages:
                print(page.registry_id, page.repository, len(page.image_ids))
        if not pages.complete:
            ...  # pages.failures say what is missing, and why

    With `rows="details"` each page has `details` as well, typed as `ImageDetails`: size, times, media types.

    Needs asyncio. Leaving the block ends the crawl, wherever it is. `on_result` is called with the outcome of every
    unit; pages of a repository that fails later have come already, as its outcome tells.

    Raises:
        UsageError: for an accounts file, or a selection, that cannot be used; before anything is asked of AWS.
        Fatal: when leaving, for what no account survives, such as a wrong clock.
    """
    settings = Settings(
        accounts=fspath(accounts),
        account=tuple(account),
        account_tag=tuple(account_tag),
        region=tuple(region),
        repository=tuple(repository),
        exclude_repository=tuple(exclude_repository),
        rows=RowKind(rows),
        tag_status=tag_status,
        image_status=image_status,
        targets_at_once=targets_at_once,
        requests_per_target=requests_per_target,
        max_rps=max_rps,
        rate_share=rate_share,
    )
    leave_to_the_caller()
    file = open_accounts(settings.accounts, settings.account, settings.account_tag, regions=known_regions())
    send, received = anyio.create_memory_object_stream[ImagePage](0)
    ledger = Ledger(tell=on_result)
    pages = Pages(received, ledger)
    raised: Exception | None = None
    try:
        async with received, anyio.create_task_group() as group:
            group.start_soon(_run, settings, file, send, pages, ledger)
            try:
                yield pages
            except Exception as error:  # noqa: BLE001 - the reader's own, raised below as it is, and not in a group
                raised = error
            group.cancel_scope.cancel()
    except BaseExceptionGroup as error:
        if failure := fatal(error):
            raise failure from error
        raise
    if raised:
        raise raised


async def _run(
    settings: Settings, file: AccountsFile, send: MemoryObjectSendStream[ImagePage], pages: Pages, ledger: Ledger
) -> None:
    async with send, registries_of(settings, ledger.warn) as registries:
        walk = Crawl(
            registries,
            _Stream(settings.rows, send),
            ledger,
            limits=settings.limits(),
            policy=settings.policy(),
            wanted=settings.filter(),
            rows=settings.rows,
        )
        await crawl_all(walk, ledger, settings, file)
        pages.ended = True
