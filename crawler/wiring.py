"""A crawl put together from settings: for the program, for its rehearsals, and as a library."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from crawler.accounts import AccountsFile, Selection
from crawler.aws import AwsRegistries
from crawler.aws.answers import Decode, image_ids
from crawler.engines import Engine
from crawler.extras import need
from crawler.hints import MAX_BYTES
from crawler.hints_file import HintsFile, estate, local_hints, local_text, stored_hints
from crawler.ledger import Ledger
from crawler.model import Account, ImageId, Organization, Outcome, Result, Unit, Warn
from crawler.settings import Settings
from crawler.sinks.output import Output
from crawler.wanted import told_unmatched

if TYPE_CHECKING:
    from crawler.store import Store


def registries_of(settings: Settings, warn: Warn) -> AwsRegistries:
    """AWS, asked as the settings say."""
    return AwsRegistries(
        policy=settings.policy(),
        warn=warn,
        rows=settings.rows,
        page_size=settings.page_size,
        tag_status=settings.tag_status,
        image_status=settings.image_status,
        attempt_timeout=settings.timeout,
        pool_limit=settings.targets_at_once * settings.requests_per_target,
        rate_share=settings.rate_share,
        image_ids=_decoder(settings),
    )


def _decoder(settings: Settings) -> Decode[ImageId]:
    if not settings.publishes or settings.format not in (None, "parquet"):
        return image_ids
    from crawler.aws import columns  # noqa: PLC0415  (its library is an extra)

    return columns.image_ids


@asynccontextmanager
async def hints_of(settings: Settings, everything: AccountsFile) -> AsyncGenerator[HintsFile]:
    """What the last run left for this one, in a file or in a bucket; `everything` is the accounts file as it is.

    Raises `UsageError` or `Fatal` where it cannot be read.
    """
    name, known = settings.hints, (estate(everything), settings.selection(), settings.rows)
    if name is None:
        yield HintsFile("", None, *known)
    elif settings.share:  # one of many, of whom only the last one writes: it is opened then
        kept = HintsFile(name, await hints_text(name), *known)
        if kept.replaceable:
            kept.kept_by(partial(_write_hints, name))
        yield kept
    elif name.startswith("s3://"):
        async with _bucket_of(name) as (store, key):
            yield await stored_hints(store, key, *known)
    else:
        async with local_hints(name, *known) as kept:
            yield kept


async def hints_text(name: str) -> bytes | None:
    """What a hints file or object holds, None if there is none; `UsageError` or `Fatal` tell why not."""
    if not name.startswith("s3://"):
        return local_text(name)
    async with _bucket_of(name) as (store, key):
        return await store.read(key, MAX_BYTES + 1)


async def _write_hints(name: str, written: bytes) -> None:
    if not name.startswith("s3://"):
        with Output(name) as output:
            output.write(written)
            output.publish()
        return
    async with _bucket_of(name) as (store, key):
        await store.put(key, written)


@asynccontextmanager
async def _bucket_of(name: str) -> AsyncGenerator[tuple[Store, str]]:
    need("lake", "obstore", "pyarrow")
    from crawler.publication import opened  # noqa: PLC0415  (its libraries are an extra, and heavy)

    folder, _, key = name.rpartition("/")
    async with opened(f"{folder}/") as store:
        yield store, key


async def crawl_all(crawl: Engine, ledger: Ledger, settings: Settings, file: AccountsFile) -> None:
    """Crawl the accounts of the file, or those of its organization that are selected."""
    if not file.organization:
        await crawl.accounts(file.accounts)
    else:
        await _crawl_organization(crawl, ledger, settings, file.organization)
    ledger.unmatched = crawl.regions.globs, crawl.repositories.globs


async def _crawl_organization(crawl: Engine, ledger: Ledger, settings: Settings, organization: Organization) -> None:
    unmatched = set(settings.account)

    def selects(account: Account) -> bool:
        unmatched.difference_update([name for name in unmatched if Selection([name]).selects(account)])
        return Selection(settings.account, settings.account_tag).selects(account)

    await crawl.organization(organization, selects)
    for name in sorted(unmatched):
        # In a file this is known before the crawl; here it is what the crawl could not find.
        message = f"--account {name}: no active account of the organization has this id or name"
        await ledger.record(Result(Unit(), Outcome.FAILED, "SelectorUnmatched", message))


def tell_unmatched(crawl: Engine, ledger: Ledger, settings: Settings) -> None:
    """Warn of what matched nothing, beside what did. Where nothing matched at all, that is the verdict."""
    for warning in told_unmatched(settings.asked(), crawl.regions.globs, crawl.repositories.globs):
        ledger.warn(*warning)
