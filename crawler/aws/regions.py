"""Which regions of an account's list are enabled for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from fnmatch import fnmatchcase
from functools import cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import structlog
from botocore.loaders import create_loader

from crawler.aws.keys import Source, with_keys
from crawler.aws.session import is_glob
from crawler.aws.signing import Keys
from crawler.errors import CrawlError, Fatal, KeysExpired, KeysUnknown, Transient
from crawler.model import Chain, Page
from crawler.pages import each_once
from crawler.retry import RetryPolicy, persist

if TYPE_CHECKING:
    from crawler.aws.api import Api, Documented
    from crawler.aws.session import Sessions
    from crawler.model import Account

_log = structlog.get_logger("crawler.aws")

_ENABLED = ("ENABLED", "ENABLED_BY_DEFAULT")

#: Empty pages in a row that are followed. All regions that there are fit on one, and five a second is all AWS allows.
_EMPTY_PAGES_CAP = 10


def is_described(region: Mapping[str, Any]) -> bool:
    """Tell whether an entry of DescribeRegions, which has the enabled ones only, says which region it is."""
    return isinstance(region.get("RegionName"), str)


def is_listed(region: Mapping[str, Any]) -> bool:
    """Tell whether an entry of ListRegions has a status, too: without one it would be taken for not enabled."""
    return is_described(region) and isinstance(region.get("RegionOptStatus"), str)


@cache
def known_regions() -> frozenset[str]:
    """All regions of all partitions that this botocore has heard of. AWS opens a few more each year."""
    partitions = create_loader().load_data("partitions")["partitions"]
    return frozenset(name for partition in partitions for name in partition["regions"] if not name.endswith("-global"))


def _unheard_of(patterns: Iterable[str]) -> list[str]:
    known = known_regions()
    globs = [pattern for pattern in patterns if pattern != "all"]
    return [glob for glob in globs if not any(fnmatchcase(name, glob) for name in known)]


class Regions:
    """Asks account:ListRegions, else ec2:DescribeRegions, else botocore's own list of the partition."""

    def __init__(self, sessions: Sessions, api: Api, policy: RetryPolicy) -> None:
        self._sessions = sessions
        self._api = api
        self._policy = policy

    async def of(self, account: Account, source: Source) -> dict[str, bool]:
        """The regions to crawl: names as written, globs as what is enabled and matches, each once, in that order.

        The value tells whether AWS calls the region enabled. Names are taken at their word and cost no call. A role
        that cannot be assumed raises `Denied` where it has to be: without keys no answer means anything. So does
        `CrawlError` leave where nothing is chosen and a glob matches no region that anybody has heard of: a slip of
        the pen must not read as an account in which nothing is enabled.
        """
        enabled: dict[str, bool] = {}
        if any(is_glob(pattern) for pattern in account.regions):
            enabled = await self._enabled(account, source)
        chosen: dict[str, bool] = {}
        for pattern in account.regions:
            if is_glob(pattern):
                chosen |= {
                    name: told for name, told in enabled.items() if pattern == "all" or fnmatchcase(name, pattern)
                }
            else:
                chosen.setdefault(pattern, enabled.get(pattern, False))
        if not chosen and (slips := _unheard_of(account.regions)):
            raise CrawlError("NoRegionMatches", f"regions: {', '.join(slips)} matches no region of AWS")
        return chosen

    async def _enabled(self, account: Account, source: Source) -> dict[str, bool]:
        await source.keys()
        profile = account.profile
        partition = await self._sessions.partition(profile, account.regions)
        try:
            # Some partitions have no Account service: asking there would end in a host name that does not exist.
            if await self._sessions.available("account", partition, with_global=True):
                return dict.fromkeys(await self._list_regions(account, source), True)
        except (Fatal, KeysExpired, KeysUnknown):
            raise  # said of a region that is always enabled: the keys are no good anywhere
        except CrawlError as error:
            _log.info("account:ListRegions gave no answer", account=account.account_id, code=error.code)
        try:
            return dict.fromkeys(await self._describe_regions(account, source), True)
        except (Fatal, KeysExpired):
            raise
        except CrawlError as error:
            _log.warning(
                "neither account:ListRegions nor ec2:DescribeRegions answers: every region of the partition is tried, "
                "and those that are not enabled will show as REGION_DISABLED; allow one of the two to the role",
                account=account.account_id,
                partition=partition,
                code=error.code,
            )
        return dict.fromkeys(await self._sessions.available("ecr", partition), False)

    async def _list_regions(self, account: Account, source: Source) -> tuple[str, ...]:
        asked = {"MaxResults": 50, "RegionOptStatusContains": list(_ENABLED)}

        async def fetch(token: str | None) -> Page[dict[str, str]]:
            params = asked | ({"NextToken": token} if token else {})
            answer = await self._call(account, source, "account", "ListRegions", params, entries=is_listed)
            return Page(answer["Regions"], answer.get("NextToken") or None)

        found: list[str] = []
        listing = each_once(fetch, Chain(), itemgetter("RegionName"), empty_pages_cap=_EMPTY_PAGES_CAP)
        async with aclosing(listing) as new:
            # Asked for by status already; looked at again because not every server filters.
            async for regions in new:
                found += [region["RegionName"] for region in regions if region["RegionOptStatus"] in _ENABLED]
        if not found:  # there are regions that nobody can disable
            raise Transient("MalformedResponse", "account:ListRegions names no region that is enabled")
        return tuple(sorted(found))

    async def _describe_regions(self, account: Account, source: Source) -> tuple[str, ...]:
        answer = await self._call(account, source, "ec2", "DescribeRegions", {}, entries=is_described)
        return tuple(sorted(region["RegionName"] for region in answer["Regions"]))

    async def _call(
        self,
        account: Account,
        source: Source,
        service: str,
        operation: str,
        params: Mapping[str, Any],
        *,
        entries: Documented,
    ) -> dict[str, Any]:
        profile = account.profile
        partition = await self._sessions.partition(profile, account.regions)
        region = await self._sessions.home(profile, partition)

        async def send(keys: Keys) -> dict[str, Any]:
            return await self._api.call(
                service,
                operation,
                params,
                keys=keys,
                region=region,
                profile=profile,
                caller=account.account_id,
                wanted="Regions",
                entries=entries,
            )

        return await persist(partial(with_keys, source, send), self._policy)
