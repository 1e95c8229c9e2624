"""Names and ARNs of IAM roles, as the file may give them, and what is wrong with the others.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
"""

from __future__ import annotations

import re

from crawler.accounts.problems import quoted
from crawler.wording import counted

_PARTITION = re.compile(r"aws(-[a-z]+)*")
_ACCOUNT = re.compile(r"[0-9]{12}|\{account_id\}")
_NAME = re.compile(r"[\w+=,.@/-]+", re.ASCII)
#: The same, where the account id may be filled in.
_NAME_TEMPLATE = re.compile(r"(?:[\w+=,.@/-]|\{account_id\})+", re.ASCII)
_ARN = re.compile(rf"arn:{_PARTITION.pattern}:iam::({_ACCOUNT.pattern}):role/{_NAME_TEMPLATE.pattern}", re.ASCII)
_ARN_PARTS = 6
_NAME_LENGTH = 64
_ARN_LENGTH = 2048
_EXAMPLE = "arn:aws:iam::123456789012:role/inventory"


def role(text: str) -> str:
    """A role's ARN, or its bare name with or without a path."""
    if text.startswith("arn:"):
        return _arn(text)
    if "{" in text:
        raise ValueError(
            f"{quoted(text)}: only an ARN may use a placeholder; write arn:aws:iam::{{account_id}}:role/NAME"
        )
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is neither a role name nor an ARN such as {_EXAMPLE}")
    if problem := _wrong_in_path(text):
        raise ValueError(f"{quoted(text)} is not a role name: {problem}")
    return text


def _arn(text: str) -> str:
    fits = _ARN.fullmatch(text) and len(text) <= _ARN_LENGTH
    problem = _wrong_in_path(text.partition("/")[2]) if fits else _wrong_in_arn(text)
    if problem:
        raise ValueError(f"{quoted(text)} is not the ARN of a role: {problem}; write one such as {_EXAMPLE}")
    return text


def _wrong_in_arn(text: str) -> str:
    parts = text.split(":")
    if len(parts) != _ARN_PARTS:
        return f"it has {counted(len(parts), 'part')} between colons, not {_ARN_PARTS}"
    _, partition, service, region, account, resource = parts
    kind, _, name = resource.partition("/")
    findings = [
        (not _PARTITION.fullmatch(partition), f"{quoted(partition)} is not a partition such as aws or aws-us-gov"),
        (kind == "assumed-role", "it names a session of the role"),
        (service != "iam", f"the service is {quoted(service)}, not iam"),
        (region, f"IAM has no region, and {quoted(region)} is where one would be"),
        (
            not _ACCOUNT.fullmatch(account),
            f"{quoted(account)} is neither an account id of 12 digits nor {{account_id}}",
        ),
        (kind != "role", f"{quoted(kind)} is not a role"),
        (not _NAME_TEMPLATE.fullmatch(name), f"{quoted(name)} is not a role name"),
        (True, f"it is longer than {_ARN_LENGTH} characters"),
    ]
    return next(problem for wrong, problem in findings if wrong)


def _wrong_in_path(text: str) -> str | None:
    *path, name = text.replace("{account_id}", "0" * 12).split("/")
    if not name or not all(path):
        return "a part between slashes is empty"
    if len(name) > _NAME_LENGTH:
        return f"the name is longer than {_NAME_LENGTH} characters"
    return None


def hub_role(text: str) -> str:
    """A role's ARN: the hub is no entry of the file, so there is no account id that could complete a bare name."""
    if not text.startswith("arn:"):
        raise ValueError(f"{quoted(text)}: the account of the hub is not known here; write the ARN, such as {_EXAMPLE}")
    _arn(text)
    if "{account_id}" in text:
        raise ValueError("the hub is one account, so {account_id} stands for nothing here; write its id")
    return text


def member_role(text: str) -> str:
    """A bare name, or an ARN in which the id of each member is filled in."""
    role(text)
    if text.startswith("arn:") and text.split(":")[4] != "{account_id}":
        raise ValueError("names a role of one account for all members; write arn:aws:iam::{account_id}:role/NAME")
    return text
