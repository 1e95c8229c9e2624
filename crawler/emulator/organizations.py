"""AWS Organizations, as far as finding the accounts needs it. Only the management account may ask.

https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from crawler.emulator.account import Account
from crawler.emulator.bodies import altered
from crawler.emulator.call import Call
from crawler.emulator.messages import Answer, Refusal, encode
from crawler.emulator.paging import Chain, Position
from crawler.emulator.world import World

_ID = "o-emulator00"
_MOST_RESULTS = 20
_INVALID = "InvalidInputException"
#: 2020-01-01, when every account joined; seconds since 1970.
_JOINED = 1_577_836_800
#: What the old `Status` says for each `State`.
_STATUS = {"PENDING_ACTIVATION": "ACTIVE", "CLOSED": "SUSPENDED"}

ItemT = TypeVar("ItemT")


def list_accounts(world: World, call: Call) -> Answer:
    """Every account, of whatever state."""
    return _listed(world, call, "Accounts", list(world.estate.accounts.values()), _account)


def list_roots(world: World, call: Call) -> Answer:
    """The one root."""
    return _listed(world, call, "Roots", [world.estate.ous[""]], _root)


def list_accounts_for_parent(world: World, call: Call) -> Answer:
    """The accounts directly in a root or organizational unit."""
    path = _path(world, call)
    found = [each for each in world.estate.accounts.values() if each.ou == path]
    return _listed(world, call, "Accounts", found, _account)


def list_organizational_units_for_parent(world: World, call: Call) -> Answer:
    """The organizational units directly in a root or organizational unit."""
    parent = _path(world, call)
    found = [path for path in world.estate.ous if path and path.rpartition("/")[0] == parent]
    return _listed(world, call, "OrganizationalUnits", found, _unit)


def describe_organization(world: World, call: Call) -> Answer:
    """The organization. AWS lets every member ask this."""
    rule = world.fault(call, "", 1)
    hub = world.estate.hub
    organization: dict[str, object] = {
        "Id": _ID,
        "Arn": _arn(world, "organization"),
        "FeatureSet": "ALL",
        "MasterAccountArn": f"{_arn(world, 'account')}/{hub}",
        "MasterAccountId": hub,
        "MasterAccountEmail": f"aws+{hub}@example.com",
        "AvailablePolicyTypes": [],
    }
    return altered(Answer(encode({"Organization": organization})), rule)


def _listed(
    world: World, call: Call, key: str, items: Sequence[ItemT], shape: Callable[[World, ItemT], dict[str, Any]]
) -> Answer:
    """One page of the items, each in the shape of the API."""
    if world.options.checks and call.keys.account_id != world.estate.hub:
        raise Refusal("AccessDeniedException", "You don't have permissions to access this resource.")
    size: int = call.params.get("MaxResults") or _MOST_RESULTS
    token: str | None = call.params.get("NextToken")
    parent: str = call.params.get("ParentId", "")
    chain = Chain(call.operation, call.keys.account_id, world.estate.hub, call.region, parent, "", size)
    position = world.tokens.position(chain, token, _INVALID)
    rule = world.fault(call, parent, position.start // size + 1, chain)
    fault = rule.fault if rule else _emptied(world, position, size)
    page = world.tokens.page(chain, position, token, len(items), fault)
    answer: dict[str, object] = {key: [shape(world, item) for item in items[page.start : page.stop]]}
    if page.next_token is not None:
        answer["NextToken"] = page.next_token
    return altered(Answer(encode(answer)), rule)


def _emptied(world: World, position: Position, size: int) -> str | None:
    # An empty page raises the turn by one, so there is one before each full page but the first.
    return "empty-page" if world.options.empty_pages and position.turn < position.start // size else None


def _path(world: World, call: Call) -> str:
    wanted: str = call.params.get("ParentId", "")
    for path, identifier in world.estate.ous.items():
        if identifier == wanted:
            return path
    raise Refusal("ParentNotFoundException", "You provided parent that does not exist.")


def _arn(world: World, kind: str) -> str:
    return f"arn:{world.estate.partition}:organizations::{world.estate.hub}:{kind}/{_ID}"


def _root(world: World, identifier: str) -> dict[str, Any]:
    return {"Id": identifier, "Arn": f"{_arn(world, 'root')}/{identifier}", "Name": "Root", "PolicyTypes": []}


def _unit(world: World, path: str) -> dict[str, Any]:
    identifier = world.estate.ous[path]
    return {"Id": identifier, "Arn": f"{_arn(world, 'ou')}/{identifier}", "Name": path.rpartition("/")[2]}


def _account(world: World, account: Account) -> dict[str, Any]:
    ids = world.estate.ous
    parents = [account.ou.split("/")[: depth + 1] for depth in range(account.ou.count("/") + 1)] if account.ou else []
    path = "/".join([_ID, ids[""], *(ids["/".join(parts)] for parts in parents), account.id, ""])
    states = {"State": account.state, "Status": _STATUS.get(account.state, account.state)}
    return {
        "Id": account.id,
        "Arn": f"{_arn(world, 'account')}/{account.id}",
        "Email": f"aws+{account.id}@example.com",
        "Name": account.name or account.id,
        **{name: states[name] for name in world.options.account_fields},
        "Paths": [path],
        "JoinedMethod": "CREATED",
        "JoinedTimestamp": _JOINED,
    }
