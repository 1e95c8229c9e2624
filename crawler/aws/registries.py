"""The door of `aws/`: every registry that our identities open, as the protocols of `crawler.registry` want it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from crawler.aws.answers import Decode, image_ids
from crawler.aws.api import Api, Documented, Endpoint
from crawler.aws.ecr import PRIVATE, Asking, Dialects, EcrRegistry, Service
from crawler.aws.ecr_public import PUBLIC_SERVICE, PublicRegistry
from crawler.aws.http import Pool
from crawler.aws.identities import Identities
from crawler.aws.keys import Source, with_keys
from crawler.aws.organization import active_accounts
from crawler.aws.rates import Rates
from crawler.aws.regions import Regions
from crawler.aws.session import Sessions
from crawler.aws.signing import Keys
from crawler.errors import Denied
from crawler.model import (
    PUBLIC,
    Account,
    Identity,
    ImageId,
    ImageStatus,
    Organization,
    RowKind,
    TagStatus,
    Target,
    Warn,
)
from crawler.retry import RetryPolicy, persist

if TYPE_CHECKING:
    from aiobotocore.session import AioSession


class AwsRegistries:
    """A `Registries` over AWS, or over whatever AWS_ENDPOINT_URL points to. Enter it before use.

    `policy` repeats what is not paged by `crawl` (AssumeRole, Organizations, region lists); `attempt_timeout` is in
    seconds, for one HTTP exchange of any kind; `pool_limit` bounds the exchanges in flight in the process; `rate_share`
    is the part of the rates of those few calls that is used; `image_ids` reads a page of ListImages.
    """

    def __init__(
        self,
        *,
        policy: RetryPolicy,
        warn: Warn,
        rows: RowKind = RowKind.IDS,
        page_size: int = 1000,
        tag_status: TagStatus = TagStatus.ANY,
        image_status: ImageStatus = ImageStatus.ANY,
        attempt_timeout: float = 60.0,
        pool_limit: int = 200,
        rate_share: float = 1.0,
        image_ids: Decode[ImageId] = image_ids,
    ) -> None:
        self._policy = policy
        self._warn = warn
        self._asking = Asking(page_size, tag_status, image_status, rows, image_ids)
        self._exits = AsyncExitStack()
        self._pool = Pool(connections=pool_limit, timeout=attempt_timeout)
        self._sessions = Sessions(self._pool)
        self._api = Api(self._pool, self._sessions, Rates(rate_share))
        self._identities = Identities(self._sessions, self._api, policy)
        self._regions = Regions(self._sessions, self._api, policy)
        self._dialects = Dialects(warn)
        self._endpoints: dict[tuple[AioSession, str, str], Endpoint] = {}

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._pool)
        await self._exits.enter_async_context(self._api)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.__aexit__(kind, error, trace)

    async def members(self, organization: Organization) -> AsyncGenerator[Account, None]:
        """See `Registries`. Consume under `aclosing`."""
        hub = organization.hub
        source = self._identities.source(hub)
        partition = (
            hub.roles[-1].split(":")[1]
            if hub.roles
            else self._sessions.partition_of(self._sessions.region(hub.profile))
        )
        region = await self._sessions.home(hub.profile, partition)

        async def call(operation: str, params: Mapping[str, Any], wanted: str, entries: Documented) -> dict[str, Any]:
            async def send(keys: Keys) -> dict[str, Any]:
                return await self._api.call(
                    "organizations",
                    operation,
                    params,
                    keys=keys,
                    region=region,
                    profile=hub.profile,
                    caller=hub,
                    wanted=wanted,
                    entries=entries,
                )

            return await persist(partial(with_keys, source, send), self._policy)

        async with aclosing(active_accounts(call, organization, self._warn)) as accounts:
            async for account in accounts:
                yield account

    async def regions(self, account: Account) -> dict[str, bool]:
        """See `Registries`."""
        return await self._regions.of(account, await self._identities.of(account))

    async def identity(self, account: Account) -> Identity:
        """Who we are in the account, its roles as ARNs. Sends nothing."""
        return await self._identities.identity(account)

    async def open(self, target: Target) -> EcrRegistry | PublicRegistry:
        """See `Registries`."""
        account = target.account
        source = await self._identities.of(account)
        # Here and not with the first page: no slot is held for the minutes that AssumeRole may persist.
        await source.keys()
        asking = self._asking
        if account.tag_status or account.image_status:
            asking = replace(
                asking,
                tag_status=account.tag_status or asking.tag_status,
                image_status=account.image_status or asking.image_status,
            )
        if target.public:
            registry = await self._ecr(target, source, replace(asking, rows=RowKind.DETAILS), PUBLIC_SERVICE)
            return PublicRegistry(registry, asking)
        return await self._ecr(target, source, asking, PRIVATE)

    async def _ecr(self, target: Target, source: Source, asking: Asking, service: Service) -> EcrRegistry:
        account = target.account
        if target.public and (partition := await self._sessions.partition(account.profile, account.regions)) != "aws":
            raise Denied("NoPublicRegistry", f"ECR Public is not in the partition {partition}: leave public: true out")
        return EcrRegistry(
            registry_id=target.registry_id.removeprefix(PUBLIC),
            endpoint=await self._endpoint(account.profile, target.region, service),
            source=source,
            pool=self._pool,
            dialects=self._dialects,
            asking=asking,
            service=service,
        )

    async def _endpoint(self, profile: str | None, region: str, service: Service) -> Endpoint:
        key = (self._sessions.of(profile), region, service.name)  # a thousand profiles that reach AWS alike share one
        if key not in self._endpoints:
            asked = {"repositoryName": "any"}  # only to satisfy the model: the rules look at the region alone
            self._endpoints[key] = await self._api.endpoint(profile, service.name, region, "DescribeImages", asked)
        return self._endpoints[key]
