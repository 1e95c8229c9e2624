"""Registries that talk to a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from crawler.aws import AwsRegistries
from crawler.model import Account, Fetch, ImageStatus, RowKind, TagStatus, Target, Warn
from crawler.retry import RetryPolicy
from tests.aws.server import Handler, Reply, Request, Server, answer, assumed, serving

T = TypeVar("T")

ACCOUNT = Account("123456789012", regions=("eu-west-1",))
ROLE = Account("123456789012", role=("inventory",), external_ids=("ex",), regions=("eu-west-1",))

#: Three attempts, without a wait between them.
AT_ONCE = RetryPolicy(attempts=3, uniform=lambda _low, _high: 0.0)


PAGE = answer({"imageIds": []})


def cooperative(request: Request) -> Reply:
    """Assumes every role, each with an access key of its own; lists nothing."""
    if request.operation == "AssumeRoleWithWebIdentity":
        assert "authorization" not in request.headers
        return assumed("ASIAweb", operation="AssumeRoleWithWebIdentity")
    if request.operation == "AssumeRole":
        return assumed("ASIA" + request.form["RoleArn"].rpartition("/")[2])
    return PAGE


@asynccontextmanager
async def registries_at(
    handler: Handler,
    monkeypatch: pytest.MonkeyPatch,
    *,
    rows: RowKind = RowKind.IDS,
    page_size: int = 1000,
    tag_status: TagStatus = TagStatus.ANY,
    image_status: ImageStatus = ImageStatus.ANY,
    attempt_timeout: float = 20.0,
    warn: Warn = lambda _message, _where: None,
) -> AsyncIterator[tuple[AwsRegistries, Server]]:
    async with serving(handler) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        async with AwsRegistries(
            policy=AT_ONCE,
            warn=warn,
            rows=rows,
            page_size=page_size,
            tag_status=tag_status,
            image_status=image_status,
            attempt_timeout=attempt_timeout,
            pool_limit=100,
        ) as registries:
            yield registries, server


def target(account: Account = ACCOUNT, region: str = "eu-west-1") -> Target:
    return Target(account, region, account.account_id)


async def drained(fetch: Fetch[T]) -> list[T]:
    items: list[T] = []
    token = None
    while True:
        page = await fetch(token)
        items += page.items
        token = page.next_token
        if token is None:
            return items
