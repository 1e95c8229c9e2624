"""The whole program through microburst, a proxy for AWS that injects faults, which we did not write.

Behind it is moto's server, or the emulator, whose chains have several pages. Whatever it does: what is called complete
is the truth, and what is not is a part of it. `make adversary` installs it, and prints how often it struck.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from crawler.emulator import Account, Estate, Options, Repository, running
from crawler.emulator.images import MIXED, Series
from tests.program import moto_company
from tests.program.conftest import Crawled, Program, Row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("microburst") is None, reason="`make adversary` installs microburst"),
]

Rule = dict[str, Any]
LISTING: Rule = {"service": "ecr", "operation": "ListImages"}


def error(code: str, status: int) -> Rule:
    return {"error": {"code": code, "status": status}}


@dataclass(frozen=True)
class Attack:
    """What it does, and how a run ends under it; `outcome` is that of repositories with images, "" where it varies."""

    rules: tuple[Rule | str, ...]
    code: int = 0
    outcome: str = "OK"


#: A rule by name is a preset. `times` is over all requests; without it a rule strikes for ever.
ATTACKS = {
    "presets of other services": Attack(("ddb-throttle", "flaky-s3", "slow-lambda", "kms-outage", "sqs-backlog")),
    "network-jitter": Attack(("network-jitter",)),
    "gateway-storm": Attack(("gateway-storm",)),
    "regional-failover": Attack(("regional-failover",)),
    "expired-token": Attack(("expired-token",), 3, "DENIED"),
    "bad-signature": Attack(("bad-signature",), 3, "DENIED"),
    "clock-skew": Attack(("clock-skew",), 3, "DENIED"),  # not fatal: its Date says that this machine's clock is right
    # Once: the same page refused again with new keys would be DENIED, as it should be.
    "a token expires, and is renewed": Attack(({**LISTING, "times": 1, **error("ExpiredTokenException", 400)},)),
    "throttling": Attack(({"service": "ecr", "probability": 0.3, **error("ThrottlingException", 400)},)),
    "throttling of roles": Attack(({"service": "sts", "times": 5, **error("Throttling", 400)},)),
    "resets": Attack(({"service": "*", "probability": 0.3, "reset": True},)),
    "truncation": Attack(({"service": "*", "probability": 0.3, "response": {"truncate_frac": 0.5}},)),
    "death in mid-body": Attack(({"service": "*", "probability": 0.3, "response": {"abort_frac": 0.5}},)),
    "corruption": Attack(({"service": "*", "probability": 0.3, "response": {"corrupt_bytes": 9}},)),
    "a wrong content type": Attack(({"service": "*", "response": {"set_headers": {"Content-Type": "text/html"}}},)),
    "headers taken away": Attack(
        ({"service": "*", "response": {"strip_headers": ["x-amzn-RequestId", "Date", "Server", "Content-Type"]}},)
    ),
    "a slow line": Attack(({"service": "ecr", "response": {"bandwidth_kbps": 64}},)),
    "late answers": Attack(({"service": "*", "times": 4, "latency": 3000},)),
    "504 after a while": Attack(({"service": "*", "times": 4, "timeout_ms": 500},)),
    "whatever error the operation has": Attack(({"service": "ecr", "probability": 0.1, "error": {}},), -1, ""),
    "truncation for ever": Attack(({**LISTING, "response": {"truncate_frac": 0.5}},), 3, "FAILED"),
    "truncation to nothing for ever": Attack(({**LISTING, "response": {"truncate_bytes": 0}},), 3, "FAILED"),
    "corruption for ever": Attack(({**LISTING, "response": {"corrupt_bytes": 1}},), 3, "FAILED"),
    "resets for ever": Attack(({**LISTING, "reset": True},), 3, "FAILED"),
    "throttling for ever": Attack(({**LISTING, **error("ThrottlingException", 400)},), 3, "THROTTLED"),
    "roles corrupted for ever": Attack(({"service": "sts", "response": {"corrupt_bytes": 40}},), 3, ""),
    "two of three fail, all the time": Attack(({"service": "ecr", "sequence": {"fail": 2, "pass": 1}, "reset": True},)),
}
#: These have nothing to strike at.
IDLE = {"presets of other services"}
#: Crawls until an attack has struck, at most: one in ten requests is not one of each twenty, and its dice have no seed.
MOST = 10


class Microburst:
    """The proxy as a process, ordered about over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}/_microburst/{path}", data, method=method)) as answer:  # noqa: S310  (loopback)
            return json.loads(answer.read())

    def attack(self, attack: Attack) -> None:
        self.ask("POST", "rules", [rule for rule in attack.rules if isinstance(rule, dict)])
        for preset in attack.rules:
            if isinstance(preset, str):
                self.ask("POST", f"presets/{preset}")
        self.ask("DELETE", "fired")

    def struck(self) -> int:
        return len(self.ask("GET", "fired?limit=100000"))


@contextmanager
def microburst(upstream: str) -> Iterator[Microburst]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "microburst", "--upstream", upstream, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy, deadline = Microburst(f"http://127.0.0.1:{port}"), time.monotonic() + 20
    try:
        while True:
            try:
                proxy.ask("GET", "health")
                break
            except URLError:
                assert time.monotonic() < deadline, "it does not answer"
                assert process.poll() is None, "it has ended"
                time.sleep(0.05)  # until another process listens
        for service in ("sts", "ecr"):  # it reads the models of all services at the first request, which takes seconds
            with suppress(URLError):
                scope = f"AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/{service}/aws4_request"
                urlopen(Request(proxy.url, b"Action=GetCallerIdentity", {"Authorization": scope})).close()  # noqa: S310  (loopback)
        yield proxy
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Scene:
    """What is behind the proxy, and the truth of it."""

    proxy: Microburst
    environment: dict[str, str]
    accounts: str
    truth: Counter[Row]


@contextmanager
def of_moto() -> Iterator[Scene]:
    with moto_company.served() as url, microburst(url) as proxy:
        moto_company.fill(url)
        accounts = moto_company.accounts_yaml(f"[{', '.join(moto_company.REGIONS)}]")
        yield Scene(proxy, moto_company.environment(proxy.url), accounts, moto_company.truth(url))


@contextmanager
def of_emulator() -> Iterator[Scene]:
    """Without its checks: it would see that requests were signed for another host."""
    region, ids, names = "eu-west-1", ["000000000001", "000000000002"], ["api", "job", "web"]
    estate = Estate(
        [
            Account(
                id_, repositories={region: {name: Repository(name, Series(id_ + name, 2500, MIXED)) for name in names}}
            )
            for id_ in ids
        ],
        regions=[region],
    )
    with running(estate, Options(checks=False)) as emulator, microburst(emulator.url) as proxy:
        entries = (f"- {{account_id: '{id_}', role: inventory, regions: [{region}]}}\n" for id_ in ids)
        accounts = f"accounts:\n{''.join(entries)}"
        environment = emulator.environment() | {"AWS_ENDPOINT_URL": proxy.url}
        yield Scene(proxy, environment, accounts, Counter(tuple(row) for row in estate.rows()))


@pytest.fixture(scope="module", params=[of_moto, of_emulator])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with request.param() as made:
        yield made


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_called_complete_is_the_truth(scene: Scene, program: Program, name: str) -> None:
    attack = ATTACKS[name]
    program.environment |= scene.environment
    for _ in range(MOST):
        struck = survived(scene, program, name, attack)
        if struck or name in IDLE:
            break
    assert (struck == 0) == (name in IDLE)


def survived(scene: Scene, program: Program, name: str, attack: Attack) -> int:
    """Crawl under it, and judge what came of it; return how often it struck."""
    scene.proxy.attack(attack)
    flags = ["--timeout", "2", "--attempts", "20" if attack.code in (0, -1) else "3"]
    crawled = program.crawl(scene.accounts, *flags)
    struck = scene.proxy.struck()
    outcomes = Counter(crawled.outcomes().values())
    print(
        f"{name}: struck {struck}, exit code {crawled.code}, {crawled.rows.total()} of {scene.truth.total()} rows, "
        f"{crawled.report['seconds']:.1f} s, {dict(outcomes)}, warnings: {crawled.report['warnings']}"
    )
    judge(crawled, scene.truth)
    if attack.code >= 0:
        assert crawled.code == attack.code, crawled.stderr
    if attack.outcome:
        certain = {outcome for (_, _, repository), outcome in crawled.outcomes().items() if repository}
        assert certain <= {attack.outcome, "EMPTY"}
        # Who cannot list the repositories of a target has no line for each.
        assert attack.outcome in certain or not all(
            isinstance(each, dict) and "operation" in each for each in attack.rules
        )
    return struck


def judge(crawled: Crawled, truth: Counter[Row]) -> None:
    """No row that is not there, none twice; and whatever is OK or EMPTY is so to the last row."""
    assert "Traceback" not in crawled.stderr
    assert crawled.rows <= truth
    if "archived images are not listed" in json.dumps(crawled.report["warnings"]):
        # A refusal of what is asked for, at the first page, is taken for a server that is too old to list archived
        # images. It is told; whether it is so nobody can see.
        return
    assert not crawled.report["warnings"]
    outcomes = crawled.outcomes()
    complete = {place for place, outcome in outcomes.items() if outcome in ("OK", "EMPTY")}
    for account, region, repository in {row[:3] for row in truth}:
        if (account, region, repository) not in outcomes:
            assert (account, region, None) not in complete, "a target that is complete has all of its repositories"
        elif (account, region, repository) in complete:
            there = {row for row in truth if row[:3] == (account, region, repository)}
            assert there <= set(crawled.rows)
    # A repository that AWS says is not there is no failure, though it is the proxy that says so.
    gone = {place for place, outcome in outcomes.items() if outcome == "GONE"}
    assert crawled.code == (0 if len(complete | gone) == len(outcomes) else 3)
    assert crawled.rows == truth or gone or crawled.code != 0
