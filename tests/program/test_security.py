"""What SECURITY.md promises, on the whole program: what it leaves on the disk, what it tells."""

from __future__ import annotations

import json

import pytest
from anyio.from_thread import start_blocking_portal

from tests.aws.server import Request, answer, serving
from tests.program.conftest import Program

ONE = "000000000001"


def echo(request: Request) -> bytes:
    """As gateways do that block: with a page that repeats the request."""
    if "authorization" not in request.headers:
        return answer(b"")
    told = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    return answer(f"<html>Request blocked: {request.line} {told}</html>".encode(), 403)


@pytest.mark.parametrize("command", [[], ["runs"], ["clean"], ["show", "r"]], ids=str)
def test_a_page_that_repeats_the_request_is_not_shown(program: Program, command: list[str]) -> None:
    token = "CanaryToken" + "x1Y/" * 60
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(echo)) as server:
        program.environment |= {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "AKIACANARY0000000000",
            "AWS_SECRET_ACCESS_KEY": "s1S/" * 10,
            "AWS_SESSION_TOKEN": token,
        }
        if command:
            done = program.run(*command, "--output", "s3://lake/nightly/")
            code, told = done.returncode, done.stdout.decode() + done.stderr.decode()
        else:
            accounts = f"accounts: [{{account_id: '{ONE}', regions: [eu-west-1]}}]\n"
            crawled = program.crawl(accounts, "--output", "s3://lake/nightly/", "-vv")
            code, told = crawled.code, crawled.stderr + json.dumps(crawled.report)
    assert code == 1, told
    assert "403 Forbidden" in told
    assert not [secret for secret in ("CanaryToken", "x1Y", "Signature=", "s1S/") if secret in told]
