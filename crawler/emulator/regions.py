"""Which regions an account has: account:ListRegions and ec2:DescribeRegions.

https://docs.aws.amazon.com/accounts/latest/reference/API_ListRegions.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from crawler.emulator.account import Account
from crawler.emulator.bodies import altered
from crawler.emulator.call import Call
from crawler.emulator.messages import REQUEST_ID, XML, Answer, Refusal, document, encode
from crawler.emulator.paging import Chain
from crawler.emulator.refusals import access_denied
from crawler.emulator.world import World

_MOST_RESULTS = 50
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
#: Enabled for every account unless it says otherwise; the others have to be opted into.
_BY_DEFAULT = (
    "us-*", "ca-central-1", "sa-east-1", "eu-west-*", "eu-central-1", "eu-north-1",
    "ap-south-1", "ap-northeast-*", "ap-southeast-1", "ap-southeast-2", "cn-*", "eusc-*",
)  # fmt: skip


def list_regions(world: World, call: Call) -> Answer:
    """Regions of the caller's account, or, for the management account, of any member."""
    account_id: str = call.params.get("AccountId") or call.keys.account_id
    account = world.account(account_id)
    wanted: list[str] = call.params.get("RegionOptStatusContains") or []
    if account is None or call.keys.account_id not in (account_id, world.estate.hub):
        raise access_denied(call, f"arn:aws:account::{account_id}:account")
    if call.action in account.deny and world.options.checks:
        raise access_denied(call, "")
    items = [
        {"RegionName": region, "RegionOptStatus": _status(world, account, region)} for region in world.estate.regions
    ]
    items = [item for item in items if not wanted or item["RegionOptStatus"] in wanted]
    size: int = call.params.get("MaxResults") or _MOST_RESULTS
    token: str | None = call.params.get("NextToken")
    chain = Chain(call.operation, call.keys.account_id, account_id, call.region, "", "/".join(wanted), size)
    position = world.tokens.position(chain, token, "ValidationException")
    rule = world.fault(call, "", position.start // size + 1, chain)
    page = world.tokens.page(chain, position, token, len(items), rule.fault if rule else None)
    answer: dict[str, object] = {"Regions": items[page.start : page.stop]}
    if page.next_token is not None:
        answer["NextToken"] = page.next_token
    return altered(Answer(encode(answer), content_type="application/json"), rule)


def describe_regions(world: World, call: Call) -> Answer:
    """Regions of the caller's account: the enabled ones, or all with `AllRegions`. There are no pages."""
    account = world.account(call.keys.account_id)
    if account is None or call.region not in world.estate.enabled(account):
        raise Refusal("UnrecognizedClientException", "AWS was not able to validate the provided access credentials")
    if call.action in account.deny and world.options.checks:
        raise access_denied(call, "")
    rule = world.fault(call, "", 1)
    names: list[str] = call.params.get("RegionNames") or list(world.estate.regions)
    unknown = [name for name in names if name not in world.estate.regions]
    if unknown:
        raise Refusal("InvalidParameterValue", f"Invalid region names: {', '.join(unknown)}")
    regions = [
        {
            "regionName": name,
            "regionEndpoint": f"ec2.{name}.amazonaws.com",
            "optInStatus": _opt_in(world, account, name),
        }
        for name in names
        if call.params.get("AllRegions") or name in world.estate.enabled(account)
    ]
    conditions: list[dict[str, Any]] = call.params.get("Filters") or []
    for condition in conditions:
        regions = [region for region in regions if _passes(region, condition)]
    body = {"requestId": REQUEST_ID, "regionInfo": regions}
    return altered(
        Answer(document("DescribeRegionsResponse", body, namespace=_NAMESPACE, item="item"), content_type=XML), rule
    )


def _by_default(region: str) -> bool:
    return any(fnmatchcase(region, glob) for glob in _BY_DEFAULT)


def _status(world: World, account: Account, region: str) -> str:
    if region not in world.estate.enabled(account):
        return "DISABLED"
    return "ENABLED_BY_DEFAULT" if _by_default(region) else "ENABLED"


def _opt_in(world: World, account: Account, region: str) -> str:
    if region not in world.estate.enabled(account):
        return "not-opted-in"
    return "opt-in-not-required" if _by_default(region) else "opted-in"


def _passes(region: dict[str, Any], condition: dict[str, Any]) -> bool:
    members = {"region-name": "regionName", "endpoint": "regionEndpoint", "opt-in-status": "optInStatus"}
    name: str = condition.get("Name", "")
    if name not in members:
        raise Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
    globs: list[str] = condition.get("Values") or []
    return any(fnmatchcase(region[members[name]], glob) for glob in globs)
