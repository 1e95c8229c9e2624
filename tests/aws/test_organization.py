from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from crawler.accounts import load
from crawler.aws.api import Documented
from crawler.aws.organization import active_accounts
from crawler.errors import ChainBroken, Denied, Transient
from crawler.model import Account, Identity, Organization
from tests.aws.fakes import registries_at, target
from tests.aws.server import Handler, Reply, Request, answer, assumed, refused, sts_refused

pytestmark = pytest.mark.anyio

MEMBER = Account("", role=("inventory",), regions=("eu-west-1",))
ALL = Organization(Identity(), MEMBER)


def entry(number: int, **fields: str) -> dict[str, Any]:
    return {"Id": f"{number:012}", "Name": f"team-{number}", "State": "ACTIVE", **fields}


async def members(reply: Handler, monkeypatch: pytest.MonkeyPatch, organization: Organization = ALL) -> list[str]:
    async with (
        registries_at(reply, monkeypatch) as (registries, _),
        aclosing(registries.members(organization)) as found,
    ):
        return [account.name async for account in found]


async def test_pages_states_and_exclusions(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Mapping[str, Any]] = [
        {"Accounts": [entry(1), entry(2, State="SUSPENDED"), entry(3, State="PENDING_CLOSURE")], "NextToken": "a"},
        {"Accounts": [], "NextToken": "b"},
        {"Accounts": [{"Id": "000000000004", "Name": "old", "Status": "ACTIVE"}], "NextToken": "c"},
        {"Accounts": [{"Id": "000000000005", "Name": "old-5", "Status": "SUSPENDED"}], "NextToken": "d"},
        {"Accounts": [entry(6), entry(7), entry(8, Name="sandbox-x"), entry(9, State="PENDING_ACTIVATION")]},
    ]
    asked: list[dict[str, Any]] = []

    def reply(request: Request) -> Reply:
        asked.append(request.json)
        assert request.operation == "ListAccounts"
        assert "/us-east-1/organizations/" in request.headers["authorization"]
        return answer(pages[len(asked) - 1])

    warnings: list[tuple[str, str]] = []
    organization = replace(ALL, exclude=("000000000007", "sandbox-*", "sand-*", "000000000077"))
    async with (
        registries_at(reply, monkeypatch, warn=lambda *warned: warnings.append(warned)) as (registries, _),
        aclosing(registries.members(organization)) as listed,
    ):
        found = [account.name async for account in listed]
    assert found == ["team-1", "old", "team-6"]
    assert [where for _, where in warnings] == ["000000000077", "sand-*"]
    assert asked[0] == {"MaxResults": 20}
    assert [each.get("NextToken") for each in asked] == [None, "a", "b", "c", "d"]


async def test_units_are_walked_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    units = {"ou-root-aaaaaaaa": ["ou-root-bbbbbbbb", "ou-root-cccccccc"], "ou-root-bbbbbbbb": ["ou-root-dddddddd"]}
    accounts = {"ou-root-aaaaaaaa": 1, "ou-root-bbbbbbbb": 2, "ou-root-cccccccc": 3, "ou-root-dddddddd": 4}

    def reply(request: Request) -> Reply:
        parent = request.json["ParentId"]
        if request.operation == "ListOrganizationalUnitsForParent":
            return answer({"OrganizationalUnits": [{"Id": unit} for unit in units.get(parent, [])]})
        return answer({"Accounts": [entry(accounts[parent])]})

    found = await members(reply, monkeypatch, replace(ALL, include_ous=("ou-root-aaaaaaaa", "ou-root-dddddddd")))
    assert sorted(found) == ["team-1", "team-2", "team-3", "team-4"]


async def test_an_account_that_is_listed_twice_is_crawled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts come and go between two pages, and one that is moved is met in both of its units."""
    pages = iter([{"Accounts": [entry(1), entry(2)], "NextToken": "a"}, {"Accounts": [entry(2), entry(3)]}])
    assert await members(lambda _: answer(next(pages)), monkeypatch) == ["team-1", "team-2", "team-3"]

    def moved(request: Request) -> Reply:
        accounts = request.operation == "ListAccountsForParent"
        return answer({"Accounts": [entry(1)]} if accounts else {"OrganizationalUnits": []})

    units = replace(ALL, include_ous=("ou-root-aaaaaaaa", "ou-root-bbbbbbbb"))
    assert await members(moved, monkeypatch, units) == ["team-1"]


@pytest.mark.parametrize(
    ("state", "crawled"), [("CLOSED", False), ("SUSPENDED", False), ("UNDER_REVIEW", True), ("active", True)]
)
async def test_only_a_state_that_is_known_to_be_none_leaves_an_account_out(
    state: str, monkeypatch: pytest.MonkeyPatch, *, crawled: bool
) -> None:
    listed = answer({"Accounts": [entry(1, State=state)]})
    assert await members(lambda _: listed, monkeypatch) == ["team-1"] * crawled


UNITS = replace(ALL, include_ous=("ou-root-aaaaaaaa",))


@pytest.mark.parametrize(
    ("operation", "organization"),
    [("ListAccounts", ALL), ("ListAccountsForParent", UNITS), ("ListOrganizationalUnitsForParent", UNITS)],
)
@pytest.mark.parametrize(
    ("code", "tokens", "numbers", "pages"),
    [
        ("RepeatedToken", "aa", [1, 2], 2),
        ("RepeatedToken", "abab", [1, 2, 3, 4], 3),
        ("RepeatedPage", "abc", [1, 2, 1], 3),
        ("EmptyPages", [*map(str, range(1000))], [], 100),
    ],
)
async def test_a_list_without_end_is_stopped(  # noqa: PLR0917 - what each of twelve is
    operation: str,
    organization: Organization,
    code: str,
    tokens: Iterable[str],
    numbers: list[int],
    pages: int,
) -> None:
    following, named, asked = iter(tokens), iter(numbers), 0

    async def call(called: str, _params: Mapping[str, Any], member: str, _entries: Documented) -> dict[str, Any]:
        nonlocal asked
        await checkpoint()
        if called != operation:
            return {member: []}
        asked += 1
        return {member: [entry(number) for number in islice(named, 1)], "NextToken": next(following)}

    async def listed() -> list[Account]:
        async with aclosing(active_accounts(call, organization, lambda _message, _where: None)) as found:
            return [account async for account in found]

    with pytest.raises(ChainBroken, match=f"^{code}: organizations:{operation}: ") as caught:
        await listed()
    assert (caught.value.code, asked) == (code, pages)


async def test_throttling_is_retried_and_denial_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [refused("TooManyRequestsException"), refused("ServiceException", 500), answer({"Accounts": [entry(1)]})]
    assert await members(lambda _: replies.pop(0), monkeypatch) == ["team-1"]
    calls: list[Request] = []

    def denied(request: Request) -> Reply:
        calls.append(request)
        return refused("AccessDeniedException", message="You don't have permissions to access this resource.")

    with pytest.raises(Denied, match="organizations:ListAccounts"):
        await members(denied, monkeypatch)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "body", [b"{}", b"<html>", b"", b"[]", b'{"Accounts": null}', b'{"__type": "InternalError", "Accounts": []}']
)
async def test_an_answer_without_accounts_is_no_empty_organization(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Transient):
        await members(lambda _: answer(body), monkeypatch)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        None,
        "000000000001",
        {"Name": "a", "State": "ACTIVE"},
        entry(1, Id="1"),
        entry(1, Id="x/../y"),
        entry(1, State=""),
    ],
)
async def test_an_account_that_is_none_is_asked_for_again_and_never_passed_over(
    wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def once(request: Request) -> Reply:
        asked.append(request)
        return answer({"Accounts": [entry(1), wrong if len(asked) == 1 else entry(2)]})

    assert await members(once, monkeypatch) == ["team-1", "team-2"]
    with pytest.raises(Transient, match="the answer is not a result of ListAccounts"):
        await members(lambda _: answer({"Accounts": [wrong]}), monkeypatch)


async def test_a_unit_without_an_id_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: Request) -> Reply:
        accounts = request.operation == "ListAccountsForParent"
        return answer({"Accounts": [entry(1)]} if accounts else {"OrganizationalUnits": [{"Name": "payments"}]})

    with pytest.raises(Transient, match="OrganizationalUnits"):
        await members(reply, monkeypatch, replace(ALL, include_ous=("ou-root-aaaaaaaa",)))


async def test_the_hub_is_assumed_once_for_its_list_and_for_all_members(monkeypatch: pytest.MonkeyPatch) -> None:
    written = (
        b"organization: {role: 'arn:aws:iam::111111111111:role/hub', hub_external_id: of-the-hub, "
        b"member_role: inventory, regions: [eu-west-1]}"
    )
    organization = load("f", written).organization
    assert organization

    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole":
            return assumed(f"ASIA{request.form['RoleArn'].rpartition('/')[2]}")
        return answer({"Accounts": [{"Id": f"{number:012}", "Name": "n", "State": "ACTIVE"} for number in range(3)]})

    async with (
        registries_at(reply, monkeypatch) as (registries, server),
        aclosing(registries.members(organization)) as found,
    ):
        async for account in found:
            await registries.open(target(account))
    assert [asked.form.get("ExternalId") for asked in server.asked("AssumeRole")] == ["of-the-hub", None, None, None]


async def test_the_hub_in_another_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def reply(request: Request) -> Reply:
        seen.append(request.headers["authorization"])
        return sts_refused("AccessDenied")

    hub = Identity(roles=("arn:aws-cn:iam::123456789012:role/hub",))
    async with registries_at(reply, monkeypatch) as (registries, _):
        with pytest.raises(Denied):
            async with aclosing(registries.members(Organization(hub, MEMBER))) as found:
                await anext(found)
    assert "/cn-north-1/sts/" in seen[0]
