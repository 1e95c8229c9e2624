"""Identities to keys: from a profile or the ambient credentials, through a chain of roles."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from crawler.aws.keys import ProfileKeys, RoleKeys, Source, with_keys
from crawler.aws.signing import Keys
from crawler.errors import Transient
from crawler.model import Account, Identity

if TYPE_CHECKING:
    from crawler.aws.api import Api
    from crawler.aws.session import Sessions
    from crawler.retry import RetryPolicy

#: Seconds that AWS allows a session which was itself opened by a role's keys ("role chaining"). More fails outright.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
_CHAINED_LIMIT = 3600

#: Identities whose keys are remembered. Forgetting one costs an AssumeRole; remembering all would grow with the estate.
_IDENTITIES = 4096

#: Accounts whose identity is remembered: more than are open at a time.
_ACCOUNTS = 256


class Identities:
    """The keys of every identity of the run. Equal identities share theirs, and so do equal beginnings of chains."""

    def __init__(self, sessions: Sessions, api: Api, policy: RetryPolicy) -> None:
        self._sessions = sessions
        self._api = api
        self._policy = policy
        self._profiles: dict[str | None, Source] = {}
        self._of: dict[Account, Source] = {}
        self.source = lru_cache(maxsize=_IDENTITIES)(self._make)

    def _make(self, identity: Identity) -> Source:
        if not identity.roles:
            if identity.profile not in self._profiles:
                self._profiles[identity.profile] = ProfileKeys(self._sessions, identity.profile, self._policy)
            return self._profiles[identity.profile]
        before = replace(identity, roles=identity.roles[:-1], external_ids=identity.external_ids[:-1])
        parent = self.source(before)
        role = identity.roles[-1]

        async def assume() -> Keys:
            return await with_keys(parent, lambda keys: self._assume(identity, before, role, keys))

        return RoleKeys(role, assume, self._policy)

    async def _assume(self, identity: Identity, caller: Identity, role: str, keys: Keys) -> Keys:
        params: dict[str, Any] = {"RoleArn": role, "RoleSessionName": identity.session_name}
        if external_id := next(reversed(identity.external_ids), None):
            params["ExternalId"] = external_id
        if identity.session_tags:
            params["Tags"] = [{"Key": key, "Value": value} for key, value in identity.session_tags]
        if identity.duration:
            chained = len(identity.roles) > 1
            params["DurationSeconds"] = min(identity.duration, _CHAINED_LIMIT) if chained else identity.duration
        region = await self._sessions.home(identity.profile, role.split(":")[1])
        answer = await self._api.call(
            "sts",
            "AssumeRole",
            params,
            keys=keys,
            region=region,
            profile=identity.profile,
            caller=caller,
            wanted="Credentials",
        )
        given = cast("dict[str, Any]", answer["Credentials"])
        try:
            ends = cast("datetime", given["Expiration"])
            return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], ends.timestamp())
        except KeyError as error:
            raise Transient("MalformedResponse", f"sts:AssumeRole of {role}: credentials without {error}") from error

    async def of(self, account: Account) -> Source:
        """The keys that open the account. Sends nothing; raises `CrawlError` for a profile that is not configured."""
        found = self._of.get(account)
        if found is None:  # asked for each of an account's regions, one after the other
            found = self._of[account] = self.source(await self.identity(account))
            if len(self._of) > _ACCOUNTS:
                del self._of[next(iter(self._of))]
        return found

    async def identity(self, account: Account) -> Identity:
        """Who we are in the account: its roles as ARNs, assumed one from the other, starting at its profile.

        A bare role name is completed with the account's ID and the partition that its regions lie in.
        """
        roles = tuple(role.replace("{account_id}", account.account_id) for role in account.role)
        if not all(role.startswith("arn:") for role in roles):
            partition = await self._sessions.partition(account.profile, account.regions)
            prefix = f"arn:{partition}:iam::{account.account_id}:role/"
            roles = tuple(role if role.startswith("arn:") else prefix + role.removeprefix("role/") for role in roles)
        if not roles:
            return Identity(profile=account.profile)
        return Identity(
            profile=account.profile,
            roles=roles,
            # As many as roles: what a member's chain begins with is then the very identity of the hub.
            external_ids=account.external_ids or (None,) * len(roles),
            session_name=account.session_name,
            session_tags=account.session_tags,
            duration=account.duration,
        )
