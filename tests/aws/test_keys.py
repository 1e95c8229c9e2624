"""Credentials: found once, renewed once, denied once, and never shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import anyio
import pytest
import structlog
from aiobotocore.credentials import ReadOnlyCredentials
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from crawler.aws.keys import _SESSIONS, ProfileKeys, RoleKeys, with_keys
from crawler.aws.signing import Keys
from crawler.errors import CrawlError, Denied, Fatal, KeysExpired, KeysUnknown, Transient
from crawler.logs import _TALKATIVE, configure
from crawler.retry import RetryPolicy
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, Config
from tests.aws.fakes import AT_ONCE, PAGE, ROLE, cooperative, drained, registries_at, target
from tests.aws.server import Reply, Request, answer, assumed, refused, sts_refused

pytestmark = pytest.mark.anyio


async def test_a_role_is_assumed_once_for_a_hundred_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                registry = await registries.open(target(ROLE, "eu-west-1" if number % 2 else "eu-west-2"))
                tasks.start_soon(registry.images("a"), None)
        assert server.count("AssumeRole") == 1
        assert server.count("ListImages") == 100
    form = server.asked("AssumeRole")[0].form
    assert form["RoleArn"] == "arn:aws:iam::123456789012:role/inventory"
    assert form["ExternalId"] == "ex"
    assert form["RoleSessionName"] == "ecr-inventory-crawler"
    assert server.asked("AssumeRole")[0].access_key == ACCESS_KEY
    listed = server.asked("ListImages")[0]
    assert listed.access_key == "ASIAinventory"
    assert listed.headers["x-amz-security-token"] == "canaryTokenASIAinventory"


async def test_a_chain_signs_each_hop_with_the_hop_before(monkeypatch: pytest.MonkeyPatch) -> None:
    account = replace(
        ROLE,
        role=("arn:aws:iam::111111111111:role/hub", "team/{account_id}"),
        external_ids=("of-the-hub", "of-the-member"),
        session_tags=(("crawl", "nightly"),),
        duration=7200,
        session_name="audit",
    )
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        await (await registries.open(target(account))).images("a")(None)
        await (await registries.open(target(replace(account, account_id="222222222222")))).images("a")(None)
    hub, first, second = server.asked("AssumeRole")
    assert (hub.access_key, first.access_key, second.access_key) == (ACCESS_KEY, "ASIAhub", "ASIAhub")
    assert first.form["RoleArn"] == "arn:aws:iam::123456789012:role/team/123456789012"
    assert second.form["RoleArn"] == "arn:aws:iam::222222222222:role/team/222222222222"
    assert [asked.form["ExternalId"] for asked in (hub, first)] == ["of-the-hub", "of-the-member"]
    assert (hub.form["DurationSeconds"], first.form["DurationSeconds"]) == ("7200", "3600")
    assert (first.form["Tags.member.1.Key"], first.form["Tags.member.1.Value"]) == ("crawl", "nightly")
    assert first.form["RoleSessionName"] == "audit"


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-east-1", "aws-us-gov")])
async def test_bare_roles_lie_in_the_partition_of_the_regions(
    region: str, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = replace(ROLE, regions=(region,))
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        await (await registries.open(target(account, region))).images("a")(None)
    asked = server.asked("AssumeRole")[0]
    assert asked.form["RoleArn"] == f"arn:{partition}:iam::123456789012:role/inventory"
    home = {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}[partition]
    assert f"/{home}/sts/" in asked.headers["authorization"]


async def test_expired_mid_crawl_one_renewal_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole":
            given.append(f"ASIA{len(given)}")
            return assumed(given[-1])
        return refused("ExpiredTokenException") if request.access_key == "ASIA0" else PAGE

    async with registries_at(reply, monkeypatch) as (registries, server):
        registry = await registries.open(target(ROLE))
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(registry.images("a"), None)
        assert server.count("AssumeRole") == 2
        assert server.count("ListImages") <= 100


async def test_expired_again_is_the_end_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count()

    def reply(request: Request) -> Reply:
        return assumed(f"ASIA{next(made)}") if request.operation == "AssumeRole" else refused("ExpiredTokenException")

    async with registries_at(reply, monkeypatch) as (registries, server):
        with pytest.raises(KeysExpired):
            await (await registries.open(target(ROLE))).images("a")(None)
        assert server.count("AssumeRole") == server.count("ListImages") == _SESSIONS
        with pytest.raises(KeysExpired):
            await (await registries.open(target())).images("a")(None)  # keys of the environment: nothing to renew
        assert [request.access_key for request in server.asked("ListImages")].count(ACCESS_KEY) == 1


async def test_sessions_that_end_for_others_meanwhile_are_not_held_against_a_page() -> None:
    """Each of six ends the session of all once, before anybody was served."""
    made = count()

    async def assume() -> Keys:
        await checkpoint()
        return Keys(f"K{next(made)}", "s", "t", None)

    source, ended, struck = RoleKeys("role", assume, AT_ONCE), set[str](), set[int]()
    served: list[int] = []

    async def page(number: int) -> None:
        async def send(keys: Keys) -> None:
            await checkpoint()
            if keys.access_key not in ended and number not in struck:
                struck.add(number)
                ended.add(keys.access_key)
            if keys.access_key in ended:
                raise KeysExpired("ExpiredTokenException", "")
            served.append(number)

        await with_keys(source, send)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(page, number)
    assert sorted(served) == list(range(6))
    assert next(made) <= 7


async def test_keys_that_are_always_called_expired_end_everybody() -> None:
    made, sent = count(), count()

    async def assume() -> Keys:
        await checkpoint()
        return Keys(f"K{next(made)}", "s", "t", None)

    async def send(_: Keys) -> None:
        next(sent)
        await checkpoint()
        raise KeysExpired("ExpiredTokenException", "")

    source, ended = RoleKeys("role", assume, AT_ONCE), list[int]()

    async def page(number: int) -> None:
        with pytest.raises(KeysExpired):
            await with_keys(source, send)
        ended.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(page, number)
    assert len(ended) == 6
    assert next(sent) == 6 * _SESSIONS
    assert next(made) <= 6 * _SESSIONS


async def test_a_denied_role_is_asked_for_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: sts_refused("AccessDenied", message="not for you"), monkeypatch) as (
        registries,
        server,
    ):
        for region in ("eu-west-1", "eu-west-2"):
            with pytest.raises(Denied, match="not for you"):
                await (await registries.open(target(ROLE, region))).images("a")(None)
        with pytest.raises(Denied):
            await registries.regions(replace(ROLE, regions=("all",)))
        assert server.count("AssumeRole") == 1


STRANGERS = sts_refused("InvalidClientTokenId", message="The security token included in the request is invalid")


async def test_keys_that_sts_does_not_know_say_nothing_about_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said of the hub's keys, by a region that is always enabled: also where it is said while a page waits."""
    roles = iter([assumed("ASIA0"), STRANGERS])

    def reply(request: Request) -> Reply:
        return next(roles) if request.operation == "AssumeRole" else refused("ExpiredTokenException")

    async with registries_at(reply, monkeypatch) as (registries, server):
        registry = await registries.open(target(ROLE))
        for ask in (registry.images("a"), registry.repositories()):
            with pytest.raises(Denied, match=r"sts:AssumeRole.*InvalidClientTokenId") as caught:
                await ask(None)
            assert caught.value.code == "CredentialsUnusable"
            assert not isinstance(caught.value, KeysUnknown)
        with pytest.raises(Denied, match="CredentialsUnusable"):
            await registries.open(target(ROLE, "eu-west-2"))
        assert server.count("AssumeRole") == 2


async def test_nor_do_those_that_sts_does_not_know_in_the_credential_chain(
    aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_environment.write("""
[profile source]
aws_access_key_id = AKIASOURCE
aws_secret_access_key = canarySecret
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/named
source_profile = source
""")
    async with registries_at(lambda _: STRANGERS, monkeypatch) as (registries, _):
        with pytest.raises(Denied, match=r"'assumed'.*InvalidClientTokenId") as caught:
            await registries.open(target(replace(ROLE, role=(), external_ids=(), profile="assumed")))
    assert caught.value.code == "CredentialsUnusable"


async def test_a_hiccup_of_sts_is_retried_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: list[Reply] = [sts_refused("Throttling", 400), None, sts_refused("Throttling", 400)]

    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole" and replies:
            return replies.pop(0)
        return cooperative(request)

    async with registries_at(reply, monkeypatch) as (registries, server):
        with pytest.raises(CrawlError, match="Throttling") as caught:
            await registries.open(target(ROLE))
        assert not caught.value.retryable  # its three attempts were made
        await registries.open(target(ROLE))
        assert server.count("AssumeRole") == 4


@pytest.mark.parametrize("member", ["Expiration", "AccessKeyId", "SecretAccessKey", "SessionToken"])
async def test_credentials_that_are_not_whole_are_an_error_of_ours(
    member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = assumed().partition(b"\r\n\r\n")[2]

    def reply(_: Request) -> Reply:
        return answer(re.sub(f"<{member}>.*</{member}>".encode(), b"", body))

    async with registries_at(reply, monkeypatch) as (registries, _):
        with pytest.raises(CrawlError, match=f"MalformedResponse.*{member}"):
            await registries.open(target(ROLE))


async def test_a_wrong_clock_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    late = answer({"__type": "InvalidSignatureException"}, 403, Date="Mon, 23 Nov 2020 12:00:00 GMT")
    async with registries_at(lambda _: late, monkeypatch) as (registries, _):
        with pytest.raises(Fatal, match="clock is"):
            await (await registries.open(target())).images("a")(None)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_roles_are_renewed_before_they_end_while_others_go_on() -> None:
    clock, made, gate = Clock(), [], anyio.Event()

    async def assume() -> Keys:
        if made:
            await gate.wait()
        made.append(None)
        return Keys(f"K{len(made)}", "s", "t", clock.now + 3600)

    source = RoleKeys("role", assume, AT_ONCE, clock)
    assert (await source.keys()).access_key == "K1"
    clock.now += 2699
    assert (await source.keys()).access_key == "K1"
    clock.now += 2  # advisory: one renews, the others do not wait for it
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.keys)
        await anyio.wait_all_tasks_blocked()
        assert (await source.keys()).access_key == "K1"
        gate.set()
    assert (await source.keys()).access_key == "K2"
    clock.now += 3001  # mandatory: nobody uses the old ones
    assert (await source.keys()).access_key == "K3"
    assert len(made) == 3


async def test_a_failed_renewal_leaves_the_old_keys_until_they_end() -> None:
    clock, fails = Clock(), False

    async def assume() -> Keys:
        if fails:
            raise Transient("Down", "no")
        return Keys("K", "s", "t", clock.now + 3600)

    source = RoleKeys("role", assume, AT_ONCE, clock)
    await source.keys()
    clock.now, fails = clock.now + 2800, True
    with capture_logs() as logs:
        assert (await source.keys()).access_key == "K"
    assert logs[0]["event"] == "keys not renewed yet"
    clock.now += 300
    with pytest.raises(CrawlError, match="Down"):
        await source.keys()


class Refreshable:
    """Credentials that botocore renews by itself: found, given once, and then its service fails."""

    def __init__(self, failure: Exception) -> None:
        self.asked = 0
        self.failure = failure

    def chain(self, _: str | None, *, fresh: bool) -> Refreshable:
        assert not fresh
        return self

    async def load_credentials(self) -> Refreshable:
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.asked += 1
        if self.asked > 2:
            raise self.failure
        return ReadOnlyCredentials("ASIA0", "secret", "token")


async def test_keys_that_the_chain_fails_to_renew_are_used_until_aws_calls_them_expired() -> None:
    late = RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired.")
    source = ProfileKeys(Refreshable(late), "p", RetryPolicy(attempts=1))  # type: ignore[arg-type]  # a fake
    with capture_logs() as logs:
        assert [(await source.keys()).access_key for _ in range(4)] == ["ASIA0"] * 4
    assert [log["event"] for log in logs] == ["keys not renewed yet"]


@pytest.mark.parametrize("error", [Transient("Timeout", "no answer"), CrawlError("RedirectRefused", "to a stranger")])
async def test_keys_are_used_on_where_our_own_sender_fails_to_renew_them(error: CrawlError) -> None:
    source = ProfileKeys(Refreshable(error), "p", RetryPolicy(attempts=1))  # type: ignore[arg-type]  # a fake
    assert [(await source.keys()).access_key for _ in range(4)] == ["ASIA0"] * 4


async def test_a_wrong_clock_is_told_though_old_keys_are_there() -> None:
    source = ProfileKeys(Refreshable(Fatal("ClockSkew", "late")), "p", RetryPolicy(attempts=1))  # type: ignore[arg-type]  # a fake
    await source.keys()
    with pytest.raises(Fatal, match="late"):
        await source.keys()


async def test_who_waited_shares_a_failure_instead_of_repeating_it() -> None:
    tries, gate = [], anyio.Event()

    async def assume() -> Keys:
        tries.append(None)
        await gate.wait()
        raise Transient("Down", "no")

    source = RoleKeys("role", assume, AT_ONCE, Clock())
    failed: list[CrawlError] = []

    async def ask() -> None:
        try:
            await source.keys()
        except CrawlError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert len(failed) == 50
    assert len(tries) == AT_ONCE.attempts


async def test_a_cancelled_assume_role_hands_over_to_the_next() -> None:
    tries, gate = [], anyio.Event()

    async def assume() -> Keys:
        tries.append(None)
        await gate.wait()
        return Keys("K", "s", "t")

    source = RoleKeys("role", assume, AT_ONCE, Clock())
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(source.keys)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
        gate.set()
    assert (await source.keys()).access_key == "K"
    assert len(tries) == 1


async def test_wrong_ambient_keys_are_keys_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: refused("UnrecognizedClientException"), monkeypatch) as (registries, _):
        with pytest.raises(KeysUnknown):
            await (await registries.open(target())).images("a")(None)


@pytest.fixture
def most_talkative() -> Iterator[None]:
    """The log of `-vv`, as the program itself sets it up; other tests have their own."""
    root, theirs = logging.getLogger(), (*_TALKATIVE, "aiobotocore.credentials")
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in theirs}
    configure("text", 2)
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)
    structlog.reset_defaults()


@pytest.mark.usefixtures("most_talkative")
async def test_no_secret_in_any_log_or_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole":
            return assumed()
        headers = request.headers
        told = f"{headers['authorization']} X-Amz-Security-Token: {headers['x-amz-security-token']}"
        return refused("AccessDeniedException", message=told) if request.json["repositoryName"] == "bad" else PAGE

    shown: list[str] = []
    async with registries_at(reply, monkeypatch) as (registries, _):
        registry = await registries.open(target(ROLE))
        await drained(registry.images("good"))
        with pytest.raises(Denied) as caught:
            await registry.images("bad")(None)
        shown += [
            repr(registry),
            repr(registries),
            str(caught.value),
            repr(caught.value),
            caught.getrepr().__str__(),
        ]
    logged = capsys.readouterr().err
    assert "role assumed" in logged, "nothing was logged"
    shown.append(logged)
    for text in shown:
        assert "canary" not in text
        assert SECRET_KEY not in text
        assert "Signature=" not in text
