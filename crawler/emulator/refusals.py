"""Refusals in AWS's words: those that services give on their own, and those that faults make them give."""

from __future__ import annotations

import time
from email.utils import formatdate

from crawler.emulator.call import Call
from crawler.emulator.faults import Rule
from crawler.emulator.messages import Refusal

#: How far ahead the server's clock claims to be, in seconds.
_SKEW = 20 * 60

_STRUCK = {
    "throttling": ("ThrottlingException", "Rate exceeded", 400),
    "throttling-429": ("ThrottleException", "Too Many Requests", 429),
    "limit-exceeded": (
        "LimitExceededException",
        "The operation did not succeed because it would have exceeded a service limit.",
        400,
    ),
    "server-error": ("ServerException", "These errors are usually caused by a server-side issue.", 500),
    "unavailable": ("ServiceUnavailable", "Service Unavailable", 503),
    "token-rejected": ("InvalidParameterException", "Invalid parameter at 'nextToken': the token has expired.", 400),
    "expired-token": ("ExpiredTokenException", "The security token included in the request is expired", 400),
    "session-ended": ("ExpiredTokenException", "The security token included in the request is expired", 400),
    "time-too-skewed": (
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        403,
    ),
    "invalid-signature": (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
        403,
    ),
    "unrecognized-client": (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        400,
    ),
}


def struck(rule: Rule, call: Call, subject: str) -> Refusal:
    """What a fault of the kind REFUSED says to that call; `subject` is the repository or role, if it is about one."""
    if rule.fault == "access-denied":
        return access_denied(call, subject)
    if rule.fault == "access-denied-resource-policy":
        return access_denied(call, subject, "with an explicit deny in a resource-based policy")
    if rule.fault == "repository-deleted":
        return repository_not_found(call, subject)
    code, message, status = _STRUCK[rule.fault]
    headers: dict[str, str] = {}
    if rule.retry_after_ms is not None:
        headers["x-amz-retry-after"] = str(rule.retry_after_ms)
    if rule.fault == "time-too-skewed":
        headers["Date"] = formatdate(time.time() + _SKEW, usegmt=True)
    return Refusal(code, message, rule.status or status, headers)


def access_denied(
    call: Call, subject: str, because: str = "because no identity-based policy allows the {action} action"
) -> Refusal:
    """Not allowed, and by which kind of policy."""
    resource = "*"
    if call.service == "ecr" and subject:
        resource = f"arn:aws:ecr:{call.region}:{call.account}:repository/{subject}"
    elif subject:
        resource = subject
    reason = because.format(action=call.action)
    text = f"User: {call.keys.arn} is not authorized to perform: {call.action} on resource: {resource} {reason}"
    return Refusal("AccessDeniedException", text)


def repository_not_found(call: Call, name: str) -> Refusal:
    """No such repository in that registry."""
    text = f"The repository with name '{name}' does not exist in the registry with id '{call.account}'"
    return Refusal("RepositoryNotFoundException", text)
