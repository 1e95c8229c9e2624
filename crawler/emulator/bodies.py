"""The faults that give a whole and well-framed answer whose content is not what it should be."""

from __future__ import annotations

import gzip

from crawler.emulator.faults import DELIVERED, Rule
from crawler.emulator.messages import Answer

_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Guest network</h1></body></html>\n"
_OBJECT = b'{"imageIds":{"imageDigest":"sha256:0"},"imageDetails":{},"repositories":{"repositoryName":"one"}}'
_BODIES = {
    "empty-body": b"",
    "null-body": b"null",
    "array-body": b"[]",
    "missing-image-ids": b"{}",
    "image-ids-not-a-list": _OBJECT,
}


def altered(answer: Answer, rule: Rule | None) -> Answer:
    """The answer as the fault leaves it; the same object, changed in place."""
    if rule is None:
        return answer
    if rule.fault in DELIVERED:
        answer.delivery, answer.seconds = rule.fault, rule.seconds
    elif rule.fault in _BODIES:
        answer.body = _BODIES[rule.fault]
    elif rule.fault == "malformed-json":
        answer.body = answer.body[: -max(1, len(answer.body) // 3)]
    elif rule.fault == "doubled-body":
        answer.body *= 2
    elif rule.fault == "html":
        answer.body, answer.content_type = _HTML, "text/html; charset=utf-8"
    elif rule.fault == "gzip-body":
        answer.body = gzip.compress(answer.body, mtime=0)
        answer.headers["Content-Encoding"] = "gzip"
    elif rule.fault == "redirect":
        answer.body, answer.status = b"", rule.status or 307
        answer.headers["Location"] = rule.location
    return answer
