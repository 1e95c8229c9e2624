from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import pytest
from structlog.testing import capture_logs

from crawler.aws import known_regions
from crawler.errors import CrawlError, Denied, KeysUnknown
from crawler.model import Outcome
from tests.aws.fakes import ACCOUNT, registries_at
from tests.aws.server import Handler, Reply, Request, answer, refused, sts_refused

pytestmark = pytest.mark.anyio

ENABLED = ["us-east-1", "eu-west-1", "eu-central-1"]
EC2 = "".join(f"<item><regionName>{name}</regionName></item>" for name in ENABLED)
DESCRIBED = answer(f"<DescribeRegionsResponse><regionInfo>{EC2}</regionInfo></DescribeRegionsResponse>".encode())


def account_service(request: Request) -> Reply:
    assert request.operation == "/listRegions"
    listed = [{"RegionName": name, "RegionOptStatus": "ENABLED_BY_DEFAULT"} for name in ENABLED[:2]]
    if "NextToken" not in request.json:
        return answer({"Regions": listed, "NextToken": "t"})
    rest = [("eu-central-1", "ENABLED"), ("me-south-1", "DISABLED"), ("af-south-1", "DISABLING")]
    return answer({"Regions": [{"RegionName": name, "RegionOptStatus": status} for name, status in rest]})


async def regions(handler: Handler, patterns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    async with registries_at(handler, monkeypatch) as (registries, _):
        return list(await registries.regions(replace(ACCOUNT, regions=patterns)))


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (("all",), sorted(ENABLED)),
        (("*",), sorted(ENABLED)),
        (("eu-*",), ["eu-central-1", "eu-west-1"]),
        (("us-west-2", "eu-*", "eu-west-1"), ["us-west-2", "eu-central-1", "eu-west-1"]),
        (("ap-*",), []),
    ],
)
async def test_enabled_regions(patterns: tuple[str, ...], found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert await regions(account_service, patterns, monkeypatch) == found


@pytest.mark.parametrize("patterns", [("eu-wset-*",), ("ap-*", "eu-wset-*"), ("eu-wset-*", "al[l]")])
async def test_globs_that_match_no_region_at_all_are_no_account_without_regions(
    patterns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CrawlError, match=r"regions: eu-wset-\*") as caught:
        await regions(account_service, patterns, monkeypatch)
    assert (caught.value.code, caught.value.outcome) == ("NoRegionMatches", Outcome.FAILED)


async def test_names_cost_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with registries_at(lambda _: None, monkeypatch) as (registries, server):
        account = replace(ACCOUNT, role=("inventory",), regions=("xx-foo-1", "eu-west-1", "xx-foo-1"))
        assert await registries.regions(account) == {"xx-foo-1": False, "eu-west-1": False}
        assert server.connections == 0


@pytest.mark.parametrize(
    "reply",
    [
        refused("AccessDeniedException", 403),
        answer(b"<html>", 404),
        answer(b"{}"),
        answer({"Regions": []}),
        answer({"Regions": [{"RegionName": "me-south-1", "RegionOptStatus": "DISABLED"}]}),
        answer({"Regions": [{"RegionOptStatus": "ENABLED"}]}),
        answer({"Regions": [{"RegionName": "eu-west-1"}]}),
        answer({"Regions": [{"RegionName": 1, "RegionOptStatus": "ENABLED"}]}),
        answer({"Regions": [None]}),
    ],
)
async def test_ec2_is_asked_next(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(request: Request) -> Reply:
        return DESCRIBED if request.operation == "DescribeRegions" else reply

    with capture_logs() as logs:
        assert await regions(handler, ("all",), monkeypatch) == sorted(ENABLED)
    assert [log for log in logs if log["log_level"] == "warning"] == []


@pytest.mark.parametrize(
    ("tokens", "names", "pages"),
    [
        ("aa", ["eu-west-1", "eu-west-2"], 2),
        ("abab", ["eu-west-1", "eu-west-2", "eu-west-3"], 3),
        ("abc", ["eu-west-1", "eu-west-2", "eu-west-1"], 3),
        ([*map(str, range(1000))], [], 10),
    ],
    ids=["the same token", "a cycle", "the same page", "nothing"],
)
async def test_a_list_without_end_is_no_answer(
    tokens: Iterable[str], names: list[str], pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    following, named, asked = iter(tokens), iter(names), 0

    def handler(request: Request) -> Reply:
        nonlocal asked
        if request.operation == "DescribeRegions":
            return DESCRIBED
        asked += 1
        listed = [{"RegionName": name, "RegionOptStatus": "ENABLED"} for name in islice(named, 1)]
        return answer({"Regions": listed, "NextToken": next(following)})

    assert await regions(handler, ("all",), monkeypatch) == sorted(ENABLED)
    assert asked == pages


async def test_a_partition_without_account_service_asks_ec2_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(request: Request) -> Reply:
        assert request.operation == "DescribeRegions"
        assert "/us-gov-west-1/ec2/" in request.headers["authorization"]
        return DESCRIBED

    assert await regions(handler, ("us-gov-*", "all"), monkeypatch) == sorted(ENABLED)


@pytest.mark.parametrize(
    "described",
    [
        answer(b"<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>", 403),
        answer(
            b"<DescribeRegionsResponse><regionInfo><item><optInStatus>opted-in</optInStatus></item></regionInfo>"
            b"</DescribeRegionsResponse>"
        ),
    ],
)
async def test_the_partitions_list_is_the_last_resort_and_says_so(
    described: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(request: Request) -> Reply:
        return described if request.operation == "DescribeRegions" else refused("AccessDeniedException", 403)

    with capture_logs() as logs:
        found = await regions(handler, ("all",), monkeypatch)
    assert len(found) >= 30
    assert "cn-north-1" not in found
    (warning,) = [log for log in logs if log["log_level"] == "warning"]
    assert "REGION_DISABLED" in warning["event"]
    assert warning["account"] == "123456789012"


async def test_keys_that_nobody_knows_and_roles_that_are_denied_do_not_fall_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeysUnknown):
        await regions(lambda _: refused("UnrecognizedClientException"), ("all",), monkeypatch)
    async with registries_at(lambda _: sts_refused("AccessDenied"), monkeypatch) as (registries, server):
        with pytest.raises(Denied):
            await registries.regions(replace(ACCOUNT, role=("inventory",), regions=("eu-*",)))
        assert len(server.requests) == 1


async def test_aws_itself_calls_some_enabled_and_others_are_taken_at_their_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with registries_at(account_service, monkeypatch) as (registries, _):
        found = await registries.regions(replace(ACCOUNT, regions=("xx-foo-1", "all")))
    assert found == {"xx-foo-1": False, **dict.fromkeys(sorted(ENABLED), True)}


async def test_regions_of_every_partition_are_known_and_nothing_else_is() -> None:
    known = known_regions()
    assert {"us-east-1", "ap-southeast-7", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"} <= known
    assert not [name for name in known if name.endswith("global")]
