"""The rates of calls that are few for one account, and many for an organization: STS, Organizations, Account, EC2."""

from __future__ import annotations

from collections.abc import Hashable

from crawler.governor import Governor
from crawler.pace import Pace, Quota

#: What AWS publishes: where to begin, for what refusals teach comes late where all accounts need the same hub.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html (600 a second, told without a burst)
#: https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
#: https://docs.aws.amazon.com/accounts/latest/reference/quotas.html
_PUBLISHED = {
    ("sts", "AssumeRole"): Quota(600, 600),
    ("organizations", "ListAccounts"): Quota(8, 12),
    ("account", "ListRegions"): Quota(5, 5),
}

#: Governors that are remembered. One for each account would grow with the estate, and most are used once.
_GOVERNORS = 256

#: Calls of one operation by one caller in flight.
_SLOTS = 64


class Rates:
    """The governor of each operation, as AWS counts: by the account that calls (not the one that is called), by region.

    `share` is the part of each rate that is used: the others are those of whoever works in the hub account.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._governors: dict[tuple[str, str, str, Hashable], Governor] = {}

    def of(self, service: str, operation: str, region: str, caller: Hashable) -> Governor:
        """The governor of an operation that `caller` (who stands for an account) asks of a region."""
        key = (service, operation, region, caller)
        governor = self._governors.pop(key, None) or Governor(
            slots=_SLOTS, pace=Pace(known=_PUBLISHED.get((service, operation)), share=self._share)
        )
        self._governors[key] = governor  # now the newest
        if len(self._governors) > _GOVERNORS:
            del self._governors[next(iter(self._governors))]
        return governor
