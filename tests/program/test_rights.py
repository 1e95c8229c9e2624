"""Least privilege: what each identity asks of AWS is what `crawler policy` prints for it, for the same flags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, Rule, running
from crawler.emulator.images import MIXED, Series
from tests.program.conftest import Program

HUB, ONE, TWO = "000000000000", "000000000001", "000000000002"
USER = f"arn:aws:iam::{HUB}:user/hub"
DOOR = f"'arn:aws:iam::{TWO}:role/x/door'"
CRAWL = ("--accounts", "accounts.yaml")
DETAILS = ("--rows", "details")
#: The two ways to find regions: where the first is refused, the second is tried.
EITHER = Rule(fault="access-denied", operation="ListRegions")
#: What is granted for the crawl, and for which a command before it has no use.
SPARED = {"plan": {"ecr:ListImages"}, "import": {"sts:AssumeRole"}}


def estate() -> Estate:
    accounts = []
    for id_ in (HUB, ONE, TWO):
        repositories = {name: Repository(name, Series(id_ + name, 1500, MIXED)) for name in ("api", "web")}
        regions = {"eu-west-1": repositories}
        accounts.append(Account(id_, repositories=regions, public=repositories, readers={ONE: ["*"]}))
    return Estate(accounts, hub=HUB, regions=["eu-west-1"])


class Call(Protocol):
    """What the emulator has understood of a request."""

    action: str
    keys: Any
    params: dict[str, Any]


@dataclass
class Witness:
    """What was asked: the caller's ARN, the action, and of a role its ARN and external id."""

    asked: set[tuple[str, str, str, str | None]] = field(default_factory=set)

    def watch(self, emulator: Emulator) -> None:
        """Stand at the gate that every request passes, after it was understood and before it is answered."""
        fault = emulator.world.fault

        def seen(call: Any, *rest: Any) -> Rule | None:
            self._note(call)
            return fault(call, *rest)

        emulator.world.fault = seen  # type: ignore[method-assign]  # a fake in its place

    def _note(self, call: Call) -> None:
        role, external_id = call.params.get("RoleArn", ""), call.params.get("ExternalId")
        tagging = ["sts:TagSession"] if call.params.get("Tags") else []
        for action in [call.action, *tagging]:
            self.asked.add((call.keys.arn, action, role, external_id))


@dataclass(frozen=True)
class Grants:
    """What `crawler policy` printed."""

    documents: Sequence[dict[str, Any]]

    def of(self, caller: str) -> dict[str, Any]:
        """Of the hub's user, or of a role, by the ARN of the role or of a session of it."""
        _, _, _, _, account, resource = caller.split(":", 5)
        name = None if caller == USER else resource.split("/")[1 if resource.startswith("assumed-role/") else -1]
        (found,) = (
            grant
            for grant in self.documents
            if (grant["role"] and grant["role"].rpartition("/")[2]) == name
            and (not grant["accounts"] or {account, "*"} & set(grant["accounts"]))
        )
        return dict(found)

    def principal(self, caller: str) -> str:
        _, _, _, _, account, _ = caller.split(":", 5)
        role = self.of(caller)["role"]
        return f"arn:aws:iam::{account}:role/{role}" if role else USER

    def allow(self, caller: str, action: str, role: str, external_id: str | None) -> bool:
        if not _allows(self.of(caller)["policy"], action, role):
            return False
        if not role:
            return True
        return any(
            action in statement["Action"]
            and statement["Principal"]["AWS"] == self.principal(caller)
            and statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId") == external_id
            for statement in self.of(role)["trust"]["Statement"]
        )

    def actions(self, callers: Iterable[str]) -> set[tuple[str, str]]:
        return {
            (caller, action)
            for caller in callers
            for statement in self.of(caller)["policy"]["Statement"]
            for action in statement["Action"]
        }


def _allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    """As IAM reads it, as far as these policies go."""
    for statement in policy["Statement"]:
        named = statement["Resource"]
        fits = named == "*" or any(fnmatchcase(resource, pattern) for pattern in named)
        if statement["Effect"] == "Allow" and action in statement["Action"] and fits:
            return True
    return False


def one(more: str = "", role: str = "inventory") -> str:
    return f"accounts: [{{account_id: '{ONE}', role: {role}{more}}}]\n"


def organization(more: str = "") -> str:
    return f"organization: {{member_role: inventory, exclude: ['{HUB}']{more}}}\n"


@pytest.mark.parametrize(
    ("accounts", "command", "flags"),
    [
        pytest.param(one(), CRAWL, (), id="ids"),
        pytest.param(one(), (*CRAWL, *DETAILS), DETAILS, id="details"),
        pytest.param(one(", regions: [eu-west-1]"), CRAWL, (), id="named regions"),
        pytest.param(one(", crawler: {public: true}"), CRAWL, (), id="public"),
        pytest.param(one(", crawler: {public: true}"), (*CRAWL, *DETAILS), DETAILS, id="public details"),
        pytest.param(one(f", crawler: {{registries: ['{TWO}']}}"), CRAWL, (), id="registries of others"),
        pytest.param(one(", crawler: {session_tags: {team: x}}"), CRAWL, (), id="session tags"),
        pytest.param(one(", external_id: shibboleth", f"[{DOOR}, inventory]"), CRAWL, (), id="chain of roles"),
        pytest.param(f"accounts: [{{account_id: '{HUB}'}}]\n", CRAWL, (), id="no role"),
        pytest.param(organization(", external_id: shibboleth"), CRAWL, (), id="organization"),
        pytest.param(organization(", include_ous: [r-root]"), CRAWL, (), id="units"),
        pytest.param(one(), ("doctor", *CRAWL), (), id="doctor"),
        pytest.param(one(), ("doctor", *CRAWL, *DETAILS), DETAILS, id="doctor of details"),
        pytest.param(organization(), ("plan", *CRAWL), (), id="plan"),
        pytest.param(organization(), ("import", "organization"), (), id="import"),
        pytest.param(one(), (*CRAWL, "--split-chains", "all", "--hints", "hints"), (), id="split chains"),
        pytest.param(organization(), (*CRAWL, "--output", "out/", "--workers", "2"), (), id="workers"),
    ],
)
def test_each_asks_what_its_policy_grants_and_no_more(
    program: Program, accounts: str, command: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    (program.folder / "accounts.yaml").write_text(accounts)
    witness = Witness()
    with running(estate(), Options(faults=[EITHER])) as emulator:
        program.environment |= emulator.environment()
        witness.watch(emulator)
        for _ in range(1 + ("--hints" in command)):  # what there is to split is known from then on
            done = program.run(*command)
            assert done.returncode == 0, done.stderr
        requests = set(emulator.stats()["requests"])
    printed = program.run("policy", *CRAWL, *flags, "--hub", USER)
    grants = Grants(json.loads(printed.stdout))
    # AWS asks for no right to it.
    asked = {seen for seen in witness.asked if seen[1] != "sts:GetCallerIdentity"}
    assert requests - {"sts:GetCallerIdentity"} == {action for _, action, _, _ in asked} - {"sts:TagSession"}
    assert [seen for seen in asked if not grants.allow(*seen)] == []
    unasked = grants.actions(caller for caller, *_ in asked) - {(caller, action) for caller, action, *_ in asked}
    assert {action for _, action in unasked} == SPARED.get(command[0], set())
