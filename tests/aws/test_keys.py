"""Credentials: found once, renewed once, denied once, and never shown."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace

import anyio
import botocore.configloader
import pytest
from structlog.testing import capture_logs

from crawler.aws.http import Pool
from crawler.aws.keys import RoleKeys
from crawler.aws.session import Sessions
from crawler.aws.signing import Keys
from crawler.errors import CrawlError, Denied, Fatal, KeysExpired, KeysUnknown, Transient
from tests.aws.conftest import ACCESS_KEY, SECRET_KEY, Config
from tests.aws.fakes import ACCOUNT, AT_ONCE, ROLE, drained, registries_at, target
from tests.aws.server import Reply, Request, answer, assumed, refused, serving, sts_refused

pytestmark = pytest.mark.anyio

SSO = """
[profile p]
sso_session = s
sso_account_id = 1
sso_role_name = r
[sso-session s]
sso_region = eu-west-1
sso_start_url = https://x.example/start
"""

PAGE = answer({"imageIds": []})


def cooperative(request: Request) -> Reply:
    """Assumes every role, each with an access key of its own; lists nothing."""
    if request.operation == "AssumeRoleWithWebIdentity":
        assert "authorization" not in request.headers
        return assumed("ASIAweb", operation="AssumeRoleWithWebIdentity")
    if request.operation == "AssumeRole":
        return assumed("ASIA" + request.form["RoleArn"].rpartition("/")[2])
    return PAGE


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
    def reply(request: Request) -> Reply:
        return cooperative(request) if request.operation == "AssumeRole" else refused("ExpiredTokenException")

    async with registries_at(reply, monkeypatch) as (registries, server):
        with pytest.raises(KeysExpired):
            await (await registries.open(target(ROLE))).images("a")(None)
        assert server.count("AssumeRole") == 2
        with pytest.raises(KeysExpired):
            await (await registries.open(target())).images("a")(None)  # keys of the environment: nothing to renew
        assert [request.access_key for request in server.asked("ListImages")].count(ACCESS_KEY) == 1


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


async def profile_access_key(profile: str, monkeypatch: pytest.MonkeyPatch) -> str:
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        await (await registries.open(target(replace(ACCOUNT, profile=profile)))).images("a")(None)
    return server.asked("ListImages")[0].access_key


async def test_profiles(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"Version": 1, "AccessKeyId": "ASIAPROCESS", "SecretAccessKey": "s", "SessionToken": "t"}
    script = aws_environment.beside("process.py", f"print({json.dumps(json.dumps(given))})")
    token = aws_environment.beside("token", "web.identity.token")
    aws_environment.write(f"""
[profile static]
aws_access_key_id = AKIASTATIC
aws_secret_access_key = s
[profile process]
credential_process = {sys.executable} {script}
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/named
source_profile = static
[profile web]
role_arn = arn:aws:iam::123456789012:role/web
web_identity_token_file = {token}
""")
    assert await profile_access_key("static", monkeypatch) == "AKIASTATIC"
    assert await profile_access_key("process", monkeypatch) == "ASIAPROCESS"
    assert await profile_access_key("assumed", monkeypatch) == "ASIAnamed"

    assert await profile_access_key("web", monkeypatch) == "ASIAweb"


async def test_config_files_are_read_once_for_all_profiles(
    aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = [f"p{number}" for number in range(20)]
    aws_environment.write("".join(f"[profile {name}]\nregion = eu-west-1\n" for name in profiles))
    read: list[str] = []
    load_config = botocore.configloader.load_config
    monkeypatch.setattr(botocore.configloader, "load_config", lambda path: [read.append(path), load_config(path)][1])
    async with registries_at(cooperative, monkeypatch):
        sessions = Sessions(Pool(connections=1, timeout=1))
        regions = {sessions.region(name) for name in profiles}
    assert regions == {"eu-west-1"}
    assert len(read) == 1
    sessions.fresh("p0")
    assert len(read) == 2  # keys that have ended are looked for in files as they are now


def container_keys(access_key: str) -> bytes:
    keys = {"AccessKeyId": access_key, "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    return answer(keys)


async def test_keys_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    async with serving(lambda _: container_keys("ASIACONTAINER")) as container:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/keys")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canaryBearer")
        async with registries_at(cooperative, monkeypatch) as (registries, server):
            await (await registries.open(target())).images("a")(None)
        assert server.requests[-1].access_key == "ASIACONTAINER"
        assert container.requests[0].headers["authorization"] == "canaryBearer"


async def test_keys_of_a_container_are_not_fetched_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    async with serving(lambda _: container_keys("ASIATHIEF")) as thief:
        moved = answer(b"", 302, Location=f"{thief.url}/keys")
        async with serving(lambda _: moved) as container:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{container.url}/keys")
            async with registries_at(cooperative, monkeypatch) as (registries, _):
                with pytest.raises(Denied):
                    await registries.open(target())
        assert thief.connections == 0


async def test_nested_sts_never_follows_a_redirect(aws_environment: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment.write("""
[profile source]
aws_access_key_id = AKIASTATIC
aws_secret_access_key = s
aws_session_token = canaryToken
[profile assumed]
role_arn = arn:aws:iam::123456789012:role/named
source_profile = source
""")
    async with serving(lambda _: assumed()) as thief:
        moved = answer(b"", 307, Location=f"{thief.url}/")
        async with registries_at(lambda _: moved, monkeypatch) as (registries, server):
            for account in (replace(ACCOUNT, profile="assumed"), ROLE):
                with pytest.raises(CrawlError):
                    await (await registries.open(target(account))).images("a")(None)
            assert server.count("AssumeRole") == 2
        assert thief.connections == 0


@pytest.mark.parametrize(
    ("config", "code", "hint"),
    [
        ("[profile p]\nregion = eu-west-1\n", "NoCredentials", "aws configure --profile p"),
        ("[profile p]\naws_access_key_id = AKIA\n", "CredentialsUnusable", "aws_secret_access_key"),
        ("[profile p]\ncredential_process = /no/such/program\n", "CredentialsUnusable", "/no/such/program"),
        ("[profile p]\ncredential_process = echo garbage\n", "CredentialsUnusable", "'p'"),
        ("[profile p]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = gone\n", "CredentialsUnusable", "gone"),
        ("[profile p]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = p\n", "CredentialsUnusable", "'p'"),
        (
            SSO,
            "SsoSessionExpired",
            "aws sso login --profile p",
        ),
    ],
)
async def test_unusable_profiles_say_what_to_do(
    config: str, code: str, hint: str, aws_environment: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(aws_environment.path.parent))
    aws_environment.write(config)
    async with registries_at(cooperative, monkeypatch) as (registries, _):
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                await registries.open(target(replace(ACCOUNT, profile="p")))
            assert caught.value.code == code
            assert hint in caught.value.message


async def test_no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with registries_at(cooperative, monkeypatch) as (registries, server):
        with pytest.raises(Denied, match="aws sso login"):
            await (await registries.open(target())).images("a")(None)
        assert server.requests == []


async def test_wrong_ambient_keys_are_keys_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: refused("UnrecognizedClientException"), monkeypatch) as (registries, _):
        with pytest.raises(KeysUnknown):
            await (await registries.open(target())).images("a")(None)


async def test_no_secret_in_any_log_or_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for library in ("botocore", "aiobotocore"):
        caplog.set_level(logging.WARNING, library)  # as logs.configure does; their DEBUG shows tokens
    caplog.set_level(logging.DEBUG)

    def reply(request: Request) -> Reply:
        if request.operation == "AssumeRole":
            return assumed()
        headers = request.headers
        told = f"{headers['authorization']} X-Amz-Security-Token: {headers['x-amz-security-token']}"
        return refused("AccessDeniedException", message=told) if request.json["repositoryName"] == "bad" else PAGE

    shown: list[str] = []
    with capture_logs() as logs:
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
    shown += [caplog.text, str(logs)]
    for text in shown:
        assert "canary" not in text
        assert SECRET_KEY not in text
        assert "Signature=" not in text
