"""A crawl put together from settings: for the program, for its rehearsals, and as a library."""

from __future__ import annotations

from crawler.accounts import AccountsFile, Selection
from crawler.aws import AwsRegistries
from crawler.crawl import Crawl
from crawler.ledger import Ledger
from crawler.model import Account, Outcome, Result, Unit, Warn
from crawler.settings import Settings


def registries_of(settings: Settings, warn: Warn) -> AwsRegistries:
    """AWS, asked as the settings say."""
    return AwsRegistries(
        policy=settings.policy(),
        warn=warn,
        page_size=settings.page_size,
        tag_status=settings.tag_status,
        image_status=settings.image_status,
        attempt_timeout=settings.timeout,
        pool_limit=settings.targets_at_once * settings.requests_per_target,
        rate_share=settings.rate_share,
    )


async def crawl_all(crawl: Crawl, ledger: Ledger, settings: Settings, file: AccountsFile) -> None:
    """Crawl the accounts of the file, or those of its organization that are selected."""
    if not file.organization:
        await crawl.accounts(file.accounts)
        return
    unmatched = set(settings.account)

    def selects(account: Account) -> bool:
        unmatched.difference_update([name for name in unmatched if Selection([name]).selects(account)])
        return Selection(settings.account, settings.account_tag).selects(account)

    await crawl.organization(file.organization, selects)
    for name in sorted(unmatched):
        # In a file this is known before the crawl; here it is what the crawl could not find.
        message = f"--account {name}: no active account of the organization has this id or name"
        await ledger.record(Result(Unit(), Outcome.FAILED, "SelectorUnmatched", message))
