"""Who needs what: from the chains of roles of the accounts file to policy documents.

A chain is a walk: whoever stands at a role must be allowed to assume the next one, and the next one must trust whoever
stands there; the last one reads. So each identity is a node with what it does and whom it trusts, and roles that are
alike in all but their account become one grant.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from crawler.model import Identity, RowKind

#: Whoever runs the crawler, where the file does not say who that is: to be replaced before use.
HUB = "arn:aws:iam::HUB_ACCOUNT_ID:role/inventory-hub"

#: Characters of a managed policy, blanks not counted:
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_POLICY_LENGTH = 6144

_READ = {rows: [f"ecr:{operation}" for operation in rows.operations] for rows in RowKind}
_READ_PUBLIC = ["ecr-public:DescribeRepositories", "ecr-public:DescribeImages"]
_ALL_READ = list(dict.fromkeys(action for actions in _READ.values() for action in actions))
_FIND_REGIONS = ["account:ListRegions", "ec2:DescribeRegions"]
_LIST_ACCOUNTS = ["organizations:ListAccounts"]
_LIST_UNITS = ["organizations:ListAccountsForParent", "organizations:ListOrganizationalUnitsForParent"]

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """One identity, its roles as ARNs, and what it is for. Nothing: it is only on the way to others.

    `reads` is what rows it lists, `reads_public` whether those of a public registry, too.
    """

    identity: Identity
    reads: RowKind | None = None
    reads_public: bool = False
    finds_regions: bool = False
    lists_accounts: bool = False
    lists_units: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What an identity needs: `policy`, and `trust` if it is a role.

    `role` is a path and name, None for what the crawl starts with: the `profile`, or whatever is in the environment.
    The same role is wanted in all `accounts`; `*` is every member of the organization.
    """

    role: str | None
    profile: str | None
    accounts: tuple[str, ...]
    policy: Document
    trust: Document | None

    @property
    def who(self) -> str:
        """The identity in a few words."""
        if self.role is None:
            return f"the AWS profile {self.profile}" if self.profile else "the hub: whoever runs the crawler"
        places = ", ".join("every member" if account == "*" else account for account in self.accounts[:3])
        more = f" and {len(self.accounts) - 3:,} more" if len(self.accounts) > 3 else ""  # noqa: PLR2004 - as shown
        return f"role {self.role} in {places}{more}"

    def as_json(self) -> Document:
        """The grant as the command prints it."""
        document = {"who": self.who, "role": self.role, "accounts": list(self.accounts), "policy": self.policy}
        return document | ({"trust": self.trust} if self.trust else {})


@dataclass(slots=True)
class _Node:
    assumes: dict[str, bool] = field(default_factory=dict[str, bool])  # role → with session tags
    trusts: dict[tuple[str, str | None], bool] = field(default_factory=dict[tuple[str, str | None], bool])
    access: set[str] = field(default_factory=set[str])


def grants(accesses: Iterable[Access], *, hub: str = HUB) -> list[Grant]:
    """What every identity needs, those that the crawl starts with first. `hub` is the ARN that roles shall trust."""
    starts: dict[str | None, _Node] = {}
    roles: dict[str, _Node] = {}
    for access in accesses:
        identity = access.identity
        node, name = starts.setdefault(identity.profile, _Node()), hub
        tagged = bool(identity.session_tags)
        for role, external_id in zip(identity.roles, identity.external_ids, strict=True):
            node.assumes[role] = tagged or node.assumes.get(role, False)
            node = roles.setdefault(role, _Node())
            node.trusts[name, external_id] = tagged or node.trusts.get((name, external_id), False)
            name = role
        node.access.update(_wanted(access))
    begin = [Grant(None, profile, (), _policy(node), None) for profile, node in starts.items()]
    return [*begin, *_alike(roles)]


def _wanted(access: Access) -> Iterator[str]:
    yield from _READ[access.reads] if access.reads else ()
    yield from _READ_PUBLIC if access.reads_public else ()
    yield from _FIND_REGIONS if access.finds_regions else ()
    # With units the accounts are listed by unit, and not at large.
    yield from _LIST_UNITS if access.lists_units else _LIST_ACCOUNTS if access.lists_accounts else ()


def _alike(roles: dict[str, _Node]) -> Iterator[Grant]:
    """One grant for roles of the same name and documents, whichever account they are in."""
    groups: dict[tuple[str, str], tuple[list[str], Document, Document]] = {}
    for arn, node in roles.items():
        _, _, _, _, account, resource = arn.split(":", 5)
        policy, trust = _policy(node), _trust(node)
        key = (resource.removeprefix("role/"), json.dumps([policy, trust]))
        groups.setdefault(key, ([], policy, trust))[0].append(account)
    for (role, _), (accounts, policy, trust) in groups.items():
        yield Grant(role, None, tuple(accounts), policy, trust)


def _policy(node: _Node) -> Document:
    exact = _document(node, sorted(node.assumes))
    if len(json.dumps(exact, separators=(",", ":"))) <= _POLICY_LENGTH:
        return exact
    # By name in whatever account: the roles' own trust decides, and AWS takes no longer policy.
    anywhere = (":".join((*arn.split(":")[:4], "*", arn.split(":", 5)[5])) for arn in node.assumes)
    return _document(node, sorted(set(anywhere)))


def _document(node: _Node, assumed: list[str]) -> Document:
    statements = [
        _allow([action for action in actions if action in node.access], "*")
        for actions in (_ALL_READ, _READ_PUBLIC, _FIND_REGIONS, [*_LIST_ACCOUNTS, *_LIST_UNITS])
        if not node.access.isdisjoint(actions)
    ]
    if assumed:
        statements.insert(0, _allow(_assume(tagged=any(node.assumes.values())), assumed))
    return {"Version": "2012-10-17", "Statement": statements}


def _trust(node: _Node) -> Document:
    statements: list[Document] = []
    for (principal, external_id), tagged in node.trusts.items():
        statement: Document = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": _assume(tagged=tagged)}
        if external_id:
            statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _assume(*, tagged: bool) -> list[str]:
    return ["sts:AssumeRole", *["sts:TagSession"] * tagged]


def _allow(actions: list[str], resources: str | list[str]) -> Document:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}
