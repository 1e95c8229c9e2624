"""The whole program against emulated companies: identities, regions, filters, organizations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crawler.emulator import Account, Estate, Image, Listed, Options, Repository, Series, Throttle, running
from crawler.emulator.images import MIXED
from tests.program.conftest import Crawled, Program, Row

REGIONS = ["us-east-1", "eu-west-1"]
DIGEST = "sha256:" + "0" * 63


def account(id_: str, *names: str, **more: Any) -> Account:
    repositories = {name: Repository(name, Series(f"{id_}/{name}", 30, MIXED)) for name in names}
    return Account(id_, f"name-{id_[-1]}", repositories=dict.fromkeys(REGIONS, repositories), **more)


ONE, TWO, THREE = "000000000001", "000000000002", "000000000003"


def truth(estate: Estate, wanted: Callable[[Row], bool] = lambda _: True, **filters: str) -> Counter[Row]:
    return Counter(row for row in (tuple(row) for row in estate.rows(**filters)) if wanted(row))


def crawl(
    program: Program, estate: Estate, accounts: str, *arguments: str, **options: Any
) -> tuple[Crawled, dict[str, Any]]:
    with running(estate, Options(**options)) as emulator:
        program.environment |= emulator.environment()
        return program.crawl(accounts, *arguments), emulator.stats()


@pytest.fixture(scope="module")
def estate() -> Estate:
    return Estate(
        [account(ONE, "team-a/api", "team-b/web"), account(TWO, "team-a/api"), Account(THREE)], regions=REGIONS
    )


def test_every_row_of_a_generated_company(program: Program) -> None:
    made = Estate.generate(seed=7, accounts=12, largest=3000)
    crawled, stats = crawl(program, made, made.accounts_yaml())
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made, lambda row: row[0] != made.hub)
    assert crawled.report["rows"] == sum(crawled.rows.values()) == sum(line["rows"] for line in crawled.ledger)
    assert crawled.report["requests"] == sum(line["attempts"] for line in crawled.ledger)
    assert (
        crawled.report["requests"]
        == stats["requests"]["ecr:ListImages"] + stats["requests"]["ecr:DescribeRepositories"]
    )


def test_rows_have_their_five_keys_in_order(program: Program, estate: Estate) -> None:
    crawled, _ = crawl(program, estate, estate.accounts_yaml())
    keys = {tuple(json.loads(line)) for line in crawled.stdout.splitlines()}
    assert keys == {("registryId", "region", "repositoryName", "imageDigest", "imageTag")}


@pytest.mark.parametrize("tag_status", ["TAGGED", "UNTAGGED", "ANY"])
@pytest.mark.parametrize("image_status", ["ACTIVE", "ARCHIVED", "ANY"])
def test_the_filters_of_images(program: Program, estate: Estate, tag_status: str, image_status: str) -> None:
    flags = ["--tag-status", tag_status.lower(), "--image-status", image_status.lower()]
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), *flags)
    assert crawled.rows == truth(estate, tag_status=tag_status, image_status=image_status)
    assert crawled.rows


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--region", "us-east-1"], lambda row: row[1] == "us-east-1"),
        (["--region", "eu-*"], lambda row: row[1] == "eu-west-1"),
        (["--repository", "team-b/*"], lambda row: row[2] == "team-b/web"),
        (["--exclude-repository", "*/api"], lambda row: row[2] == "team-b/web"),
        (["--account", TWO], lambda row: row[0] == TWO),
        (["--account", "name-*", "--account", THREE], lambda row: row[0] in (ONE, TWO)),
    ],
)
def test_what_to_crawl(program: Program, estate: Estate, flags: list[str], wanted: Callable[[Row], bool]) -> None:
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), *flags)
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(estate, wanted)


def test_a_region_that_matches_nothing_is_not_success(program: Program, estate: Estate) -> None:
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), "--region", "us-esat-*")
    assert crawled.code == 2
    assert "nothing to crawl" in crawled.stderr


def test_globs_that_match_no_repository_are_not_success(program: Program, estate: Estate) -> None:
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), "--repository", "team-a", "--repository", "TEAM-*")
    assert crawled.code == 2
    assert "--repository team-a,TEAM-* matches none of 6 repositories" in crawled.stderr


def test_what_is_said_with_v_and_vv_and_never_a_secret(program: Program, estate: Estate) -> None:
    flags = ["--log-format", "json", "--quiet"]
    said = {}
    for verbose in ("", "-v", "-vv"):
        crawled, stats = crawl(program, estate, estate.accounts_yaml(), *flags, *([verbose] if verbose else []))
        said[verbose] = [json.loads(line) for line in crawled.stderr.splitlines()]
        for secret in (program.environment["AWS_SECRET_ACCESS_KEY"], "Signature=", "Credential=", "SecretAccessKey"):
            assert secret not in crawled.stderr
    assert said[""] == []
    assert {line["event"] for line in said["-v"]} >= {"crawling", "role assumed", "ended"}
    assert sum(line["event"] == "answered" for line in said["-vv"]) >= stats["requests"]["ecr:ListImages"]
    for lines in (said["-v"], said["-vv"]):
        assert len({line["run"] for line in lines}) == 1, "every line names the run"
    of_images = [line for line in said["-vv"] if line.get("operation") == "ListImages"]
    units = {(line["accountId"], line["registryId"], line["region"], line["repositoryName"]) for line in of_images}
    assert units == {(row[0], *row[:3]) for row in crawled.rows}
    assert len({line["requestId"] for line in of_images}) == len(of_images)
    of_names = [line for line in said["-vv"] if line.get("operation") == "DescribeRepositories"]
    assert {"repositoryName" in line for line in of_names} == {False}
    assert {(line["registryId"], line["region"]) for line in of_names} == {
        unit[:2] for unit in crawled.outcomes() if unit[2] is None
    }


def test_a_line_about_a_refusal_names_what_was_refused(program: Program, estate: Estate) -> None:
    flags = ["-v", "--log-format", "json", "--quiet"]
    fault = f"throttling:operation=ListImages,account={ONE},region=eu-west-1,repository=team-b/web"
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), *flags, faults=[fault])
    (again,) = [line for line in map(json.loads, crawled.stderr.splitlines()) if line["event"] == "trying again"]
    place = {key: again[key] for key in ("accountId", "registryId", "region", "repositoryName")}
    assert list(place.values()) == [ONE, ONE, "eu-west-1", "team-b/web"]


@pytest.mark.parametrize("regions", ["", "regions: [all]", "regions: ['eu-*', us-east-1]"])
def test_regions_are_asked_of_the_account(program: Program, regions: str) -> None:
    made = Estate([account(ONE, "api", regions=("eu-west-1",))], regions=REGIONS)
    accounts = f"accounts:\n- account_id: {ONE}\n  role: inventory\n  {regions}\n"
    crawled, stats = crawl(program, made, accounts)
    assert crawled.code == 0, crawled.stderr
    outcomes = crawled.outcomes()
    assert outcomes[ONE, "eu-west-1", None] == "OK"
    assert outcomes.get((ONE, "us-east-1", None), "REGION_DISABLED") == "REGION_DISABLED"
    assert stats["requests"]["account:ListRegions"] == 1


def test_where_regions_may_not_be_asked_for_all_are_tried(program: Program) -> None:
    denied = ("account:ListRegions", "ec2:DescribeRegions")
    made = Estate([account(ONE, "api", deny=denied)], regions=REGIONS)
    crawled, _ = crawl(
        program, made, f"accounts: [{{account_id: {ONE}, role: inventory, regions: ['eu-west-*', us-east-1]}}]\n"
    )
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made)
    assert crawled.outcomes()[ONE, "eu-west-2", None] == "REGION_DISABLED"


def test_a_region_named_on_the_command_line_may_be_disabled(program: Program) -> None:
    made = Estate([account(ONE, "api", regions=("eu-west-1",))], regions=REGIONS)
    crawled, _ = crawl(
        program, made, f"accounts: [{{account_id: {ONE}, role: inventory}}]\n", "--region", "us-east-1,eu-west-1"
    )
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made)


def test_an_enabled_region_that_does_not_know_us_is_not_called_disabled(program: Program, estate: Estate) -> None:
    accounts = f"accounts: [{{account_id: {ONE}, role: inventory, regions: [all]}}]\n"
    crawled, _ = crawl(program, estate, accounts, faults=["unrecognized-client:region=eu-west-1,times=always"])
    assert crawled.outcomes()[ONE, "eu-west-1", None] == "DENIED"
    assert crawled.code == 3


def test_a_proxy_is_for_https_and_never_for_loopback(program: Program, estate: Estate) -> None:
    # Nobody answers at this proxy, which would be the end of the crawl.
    program.environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    with running(estate) as emulator:
        program.environment |= {**emulator.environment(), "NO_PROXY": "", "no_proxy": "corp.example"}
        crawled = program.crawl(estate.accounts_yaml(), "--attempts", "1")
    assert crawled.code == 0, crawled.stderr


def test_denied_accounts_never_read_as_empty(program: Program) -> None:
    made = Estate(
        [
            account(ONE, "api"),
            Account(TWO, deny_role=True),
            account(THREE, "api", deny=("ecr:DescribeRepositories",)),
            account("000000000004", "api", deny=("ecr:ListImages",)),
        ],
        regions=REGIONS,
    )
    crawled, stats = crawl(program, made, made.accounts_yaml())
    assert crawled.code == 3
    assert crawled.rows == truth(made, lambda row: row[0] == ONE)
    outcomes = crawled.outcomes()
    for region in REGIONS:
        assert outcomes[TWO, region, None] == outcomes[THREE, region, None] == "DENIED"
        assert outcomes["000000000004", region, "api"] == "DENIED"
        assert outcomes["000000000004", region, None] == "OK"
    tries = [role for role in stats["assumed_roles"] if TWO in role["role"]]
    assert len(tries) <= 1, "a denied role is not asked for again in each region"
    tolerant, _ = crawl(program, made, made.accounts_yaml(), "--tolerate", "denied")
    assert (tolerant.code, tolerant.report["status"]) == (0, "tolerated")


def test_the_audit_trail_of_a_chain_of_roles(program: Program) -> None:
    made = Estate([account(ONE, "api", external_id="secret-1"), Account(TWO, external_id="secret-1")], regions=REGIONS)
    accounts = f"""
        accounts:
        - account_id: {ONE}
          role: [arn:aws:iam::{TWO}:role/jump, inventory]
          external_id: secret-1
          regions: [us-east-1]
          crawler: {{session_name: nightly, session_tags: {{team: platform}}}}
    """
    crawled, stats = crawl(program, made, accounts)
    assert crawled.code == 0, crawled.stderr
    first, second = stats["assumed_roles"]
    assert first["role"] == f"arn:aws:iam::{TWO}:role/jump"
    assert second["role"] == f"arn:aws:iam::{ONE}:role/inventory"
    for role in (first, second):
        assert (role["session_name"], role["external_id"]) == ("nightly", "secret-1")
        assert role["tags"] == {"team": "platform"}


def test_a_role_is_assumed_once_for_all_regions_and_repositories(program: Program, estate: Estate) -> None:
    _, stats = crawl(program, estate, estate.accounts_yaml())
    assert stats["requests"]["sts:AssumeRole"] == len(stats["assumed_roles"]) == 4


def test_profiles_as_the_aws_cli_reads_them(program: Program, estate: Estate) -> None:
    config = program.folder / "config"
    with running(estate) as emulator:
        keys = emulator.environment()
        process = json.dumps(
            {"Version": 1, "AccessKeyId": keys["AWS_ACCESS_KEY_ID"], "SecretAccessKey": keys["AWS_SECRET_ACCESS_KEY"]}
        )
        (program.folder / "keys.json").write_text(process)
        config.write_text(
            f"""
            [profile hub]
            credential_process = cat {program.folder / "keys.json"}
            region = us-east-1
            [profile member]
            role_arn = arn:aws:iam::{ONE}:role/inventory
            source_profile = hub
            """.replace("            ", "")
        )
        program.environment |= {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_CONFIG_FILE": str(config),
            "AWS_PROFILE": "hub",
        }
        crawled = program.crawl(
            f"accounts: [{{account_id: {ONE}, profile: member}}, {{account_id: {TWO}, role: inventory}}, "
            f"{{account_id: {THREE}, profile: nowhere, regions: [us-east-1]}}]\n"
        )
    assert crawled.code == 3
    assert crawled.rows == truth(estate)
    (line,) = [line for line in crawled.ledger if line["registryId"] == THREE]
    assert line["outcome"] == "DENIED"
    assert "nowhere" in line["message"]


def test_other_registries_with_the_accounts_own_keys(program: Program) -> None:
    made = Estate(
        [account(ONE, "mine"), account(TWO, "shared/base", "private", readers={ONE: ("shared/*",)})], regions=REGIONS
    )
    crawled, _ = crawl(
        program,
        made,
        f"accounts: [{{account_id: {ONE}, role: inventory, regions: [eu-west-1], "
        f"crawler: {{registries: ['{TWO}']}}}}]\n",
    )
    assert {row[:3] for row in crawled.rows} == {(ONE, "eu-west-1", "mine"), (TWO, "eu-west-1", "shared/base")}
    assert crawled.outcomes()[TWO, "eu-west-1", "private"] == "DENIED"


def test_a_server_of_2016(program: Program) -> None:
    made = Estate([account(ONE, *(f"app-{n}" for n in range(150)))], regions=REGIONS)
    crawled, _ = crawl(program, made, made.accounts_yaml(), "--account", ONE, dialect="2016")
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made, image_status="ACTIVE")
    assert crawled.stderr.count("archived images are not listed") == 2, "in the log, and in the summary"
    ((endpoint,),) = [warning["where"] for warning in crawled.report["warnings"] if "archived" in warning["message"]]
    assert endpoint.startswith("http://127.0.0.1:")
    refused, _ = crawl(
        program, made, made.accounts_yaml(), "--account", ONE, "--image-status", "archived", dialect="2016"
    )
    assert refused.code == 3
    assert not refused.rows


def test_an_organization_by_units_with_exceptions(program: Program) -> None:
    made = Estate(
        [
            account(ONE, "api", ou="prod/eu"),
            account(TWO, "api", ou="prod"),
            account(THREE, "api", ou="dev"),
            account("000000000004", "api", ou="prod", state="SUSPENDED"),
            account("000000000005", "api", ou="prod"),
        ],
        regions=REGIONS,
    )
    prod = made.ous["prod"]
    accounts = (
        f"organization: {{member_role: inventory, include_ous: [{prod}], exclude: [name-5], regions: [us-east-1]}}\n"
    )
    crawled, _ = crawl(program, made, accounts, empty_pages=True, account_fields=("Status",))
    assert crawled.code == 0, crawled.stderr
    assert {line["registryId"] for line in crawled.ledger} == {ONE, TWO}


def test_a_selector_that_fits_nobody_in_an_organization_is_missing(program: Program, estate: Estate) -> None:
    flags = ["--account", f"{ONE},typo-9", "--account", "nobody"]
    crawled, _ = crawl(program, estate, estate.organization_yaml(), *flags)
    assert crawled.code == 3
    assert {row[0] for row in crawled.rows} == {ONE}
    assert {line["code"] for line in crawled.ledger if line["registryId"] is None} == {"SelectorUnmatched"}


def test_what_matches_nothing_beside_what_does_is_named(program: Program, estate: Estate) -> None:
    flags = ["--region", "us-east-1,us-wset-*", "--repository", "*", "--repository", "typo/*,*"]
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), *flags)
    assert crawled.code == 0
    warnings = {warning["message"].split()[0]: warning["where"] for warning in crawled.report["warnings"]}
    assert warnings == {"--region": ["us-wset-*"], "--repository": ["typo/*"]}
    nothing, _ = crawl(program, estate, estate.accounts_yaml(), "--region", "us-wset-*")
    assert (nothing.code, nothing.report["warnings"]) == (2, [])


def test_an_organization_that_may_not_be_listed_is_one_line(program: Program) -> None:
    made = Estate([account(ONE, "api")], regions=REGIONS)
    accounts = f"organization: {{role: 'arn:aws:iam::{ONE}:role/x', member_role: inventory, regions: [us-east-1]}}\n"
    crawled, _ = crawl(program, made, accounts)
    assert crawled.code == 3
    assert [(line["registryId"], line["outcome"]) for line in crawled.ledger] == [(None, "DENIED")]


def test_names_of_every_kind_are_one_line_each(program: Program) -> None:
    names = ["new\nline", "line\u2028separator", "../../etc/passwd", 'quo"te', "\x1b[31mred", "ünï"]
    images = Listed((Image(DIGEST + "1", ("tag\u2029", "a\tb")), Image(DIGEST + "2")))
    repositories = {name: Repository(name, images) for name in names}
    made = Estate([Account(ONE, repositories={"us-east-1": repositories})], regions=REGIONS)
    crawled, _ = crawl(program, made, made.accounts_yaml(), "--account", ONE, checks=False)
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made)
    assert crawled.stdout.count(b"\n") == sum(crawled.rows.values()) == len(crawled.stdout.decode().splitlines())


@pytest.mark.slow
def test_throttled_targets_lose_nothing_and_hold_up_no_other(program: Program) -> None:
    made = Estate(
        [account(ONE, *(f"app-{n}" for n in range(20)), throttle=Throttle(rate=20, burst=2)), account(TWO, "api")],
        regions=REGIONS,
    )
    crawled, stats = crawl(program, made, made.accounts_yaml())
    assert crawled.code == 0, crawled.stderr
    assert crawled.rows == truth(made)
    assert sum(stats["throttled"].values()) > 0


def test_no_more_requests_in_flight_than_allowed(program: Program) -> None:
    made = Estate([account(ONE, *(f"app-{n}" for n in range(40)))], regions=REGIONS)
    _, stats = crawl(program, made, made.accounts_yaml(), "--requests-per-target", "3", latency=0.01)
    peaks = {place: peak for place, peak in stats["peak_in_flight_by"].items() if "ecr:ListImages" in place}
    assert set(peaks.values()) == {3}


def test_the_example_estate_of_the_emulator(program: Program) -> None:
    import crawler.emulator  # noqa: PLC0415  (by the name that is patched)

    example = Path(crawler.emulator.__file__).with_name("example.yaml")
    made = Estate.load(example)
    crawled, _ = crawl(program, made, made.accounts_yaml())
    assert crawled.code == 3
    by_outcome = Counter(line["outcome"] for line in crawled.ledger)
    assert by_outcome["DENIED"] > 0
    hidden = {("000000000003", "identity/vault")}
    assert crawled.rows == truth(made, lambda row: (row[0], row[2]) not in hidden)


@pytest.mark.slow
def test_what_one_run_learns_the_next_one_uses(program: Program) -> None:
    long = Repository("long", Series("long", 400, MIXED))
    others = {f"app-{n}": Repository(f"app-{n}", Series(f"app-{n}", 5, MIXED)) for n in range(150)}
    repositories = {"us-east-1": others | {"long": long}}
    made = Estate(
        [Account(ONE, repositories=repositories, throttle=Throttle(rate=40, burst=20))], regions=["us-east-1"]
    )
    arguments = ("--hints", "hints.json", "--page-size", "20", "--account", ONE)
    cold, before = crawl(program, made, made.accounts_yaml(), *arguments)
    warm, after = crawl(program, made, made.accounts_yaml(), *arguments, "--split-chains", "tags")
    assert (cold.code, warm.code) == (0, 0), cold.stderr + warm.stderr
    assert cold.rows == warm.rows == truth(made, lambda row: row[0] == ONE)
    assert sum(after["throttled"].values()) < sum(before["throttled"].values())
    assert len(warm.ledger) == len(cold.ledger) == 152
    (target,) = json.loads((program.folder / "hints.json").read_bytes())["targets"].values()
    assert target["rates"]["ListImages"]["rate"] == pytest.approx(40, rel=0.25)
    assert list(target["repositories"]) == ["long"]


def test_hints_that_do_not_fit_are_told_and_the_crawl_goes_on(program: Program, estate: Estate) -> None:
    (program.folder / "hints.json").write_text("{]")
    crawled, _ = crawl(program, estate, estate.accounts_yaml(), "--hints", "hints.json")
    assert crawled.code == 0, crawled.stderr
    assert "--hints hints.json is not what a crawl has written: the crawl begins without hints" in crawled.stderr
    assert json.loads((program.folder / "hints.json").read_bytes())["version"] == 1
