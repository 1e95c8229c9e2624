"""A first accounts file, from what is there already: profiles of the AWS CLI, or an organization.

It is text, not a dump: with comments for whoever goes on writing it, and what could not be told as a comment too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from crawler.accounts import AccountsFile, load
from crawler.accounts.roles import member_role
from crawler.aws import AwsRegistries, ConfigFiles
from crawler.errors import UsageError
from crawler.model import Account, Identity, Organization
from crawler.retry import RetryPolicy

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*", re.ASCII)
#: Words that other readers of the file take for something else than text (YAML 1.1).
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_ACCOUNT_ID = re.compile(r"[0-9]{12}", re.ASCII)

_HINTS = """\
# Without a list of regions every enabled one is crawled; `regions: [us-east-1, eu-*]` in an account narrows it.
# `crawler doctor --accounts FILE` checks every account, `crawler policy --accounts FILE` prints what must be allowed.
"""


def of_profiles() -> str:
    """The accounts of all profiles, each read with the first profile that names it. Asks AWS nothing.

    Raises `CrawlError` for AWS's files that are broken, `UsageError` where no profile names an account.
    """
    files = ConfigFiles.read()
    profiles_of: dict[str, list[str]] = {}
    unknown: list[str] = []
    for name, settings in files.profiles.items():
        account_id = _account_id(settings)
        if account_id:
            profiles_of.setdefault(account_id, []).append(name)
        else:
            unknown.append(name)
    if not profiles_of:
        raise UsageError(
            f"import: no profile in {' or '.join(files.paths)} names an account by role_arn, sso_account_id or "
            "aws_account_id; `aws configure sso` makes such profiles"
        )
    text = (
        f"# The accounts of the AWS CLI profiles in {files.paths[0]}, each read with its profile.\n{_HINTS}accounts:\n"
    )
    for account_id, (first, *others) in profiles_of.items():
        also = f"  # or {', '.join(map(_comment, others))}" if others else ""
        text += f"- account_id: '{account_id}'\n  name: {_scalar(first)}\n  profile: {_scalar(first)}{also}\n"
    if unknown:
        text += "\n# Which account these profiles open is not written in the file; for each, this tells it:\n"
        text += "".join(f"#   aws sts get-caller-identity --profile {_comment(name)}\n" for name in unknown)
    return _checked(text)


def _account_id(settings: Mapping[str, Any]) -> str | None:
    """The account that a profile opens, if its settings say so."""
    role = str(settings.get("role_arn", "")).split(":")
    named = role[4] if len(role) > 4 else settings.get("sso_account_id") or settings.get("aws_account_id")  # noqa: PLR2004 - ARN
    return named if isinstance(named, str) and _ACCOUNT_ID.fullmatch(named) else None


async def of_organization(role: str, *, profile: str | None, external_id: str | None) -> str:
    """The active accounts of the organization that the profile (None: the environment) may list, by name.

    Raises `UsageError` for a role that is none, `CrawlError` where the organization cannot be listed.
    """
    try:
        member_role(role)
    except ValueError as error:
        raise UsageError(f"import: --member-role {error}") from error
    async with aclosing(_members(Organization(Identity(profile), Account("")))) as members:
        found = sorted([(member.name, member.account_id) async for member in members])
    listing = f"{{member_role: {_scalar(role)}{f', external_id: {_scalar(external_id)}' if external_id else ''}}}"
    text = f"# The {len(found):,} active accounts of the organization, on the day that this was written.\n"
    text += f"# To crawl whichever it has, write this line instead of the list:\n#   organization: {listing}\n"
    text += f"{_HINTS}accounts:\n"
    for name, account_id in found:
        text += f"- account_id: '{account_id}'\n"
        text += f"  name: {_scalar(name)}\n" if name else ""
        text += f"  role: {_scalar(role)}\n"
        text += f"  external_id: {_scalar(external_id)}\n" if external_id else ""
    return _checked(text)


async def _members(organization: Organization) -> AsyncGenerator[Account]:
    async with (
        AwsRegistries(policy=RetryPolicy(attempts=5), warn=lambda _, __: None) as registries,
        aclosing(registries.members(organization)) as members,
    ):
        async for member in members:
            yield member


def _checked(text: str) -> str:
    """The text, if it loads. What was imported may be nothing that the accounts file allows: then that is said now."""
    _: AccountsFile = load("the imported file", text.encode())
    return text


def _scalar(text: str) -> str:
    """A value as a person would write it: plain where it can be, quoted where it must."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(_escaped(text)) + '"'


def _escaped(text: str) -> Iterator[str]:
    for character in text:
        if character in '"\\':
            yield "\\" + character
        elif character.isprintable():
            yield character
        else:
            yield f"\\U{ord(character):08x}"


def _comment(text: str) -> str:
    """A name within a comment, which must not end before its line does."""
    return "".join(character if character.isprintable() else "?" for character in text)
