"""Permissions: what each identity is allowed, and that it is enough for the walk, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cfnlint.api import lint
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from crawler.cli import app
from crawler.errors import UsageError
from crawler.model import Identity, RowKind
from crawler.policies import Access, Grant, grants
from crawler.policies.needs import HUB

README = Path(__file__).parents[2] / "README.md"
ME = "arn:aws:iam::999999999999:role/nightly"


def printed(capsys: pytest.CaptureFixture[str], accounts: Path, *options: str) -> str:
    assert app(["policy", "--accounts", str(accounts), *options], result_action="return_value") == 0
    return capsys.readouterr().out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.yaml"


def test_the_policies_in_the_readme_are_the_programs_own(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    section = README.read_text().split("<!-- policy: ", 1)[1].split("\n## ", 1)[0]
    (accounts,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    member, trust, hub = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL))
    file.write_text(accounts)
    first, second = json.loads(printed(capsys, file))
    assert (first["policy"], second["policy"], second["trust"]) == (hub, member, trust)


def test_a_chain_is_walked_by_permission_and_by_trust(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(
        "accounts:\n"
        "- account_id: '000000000002'\n"
        "  role: [arn:aws:iam::000000000001:role/x/door, inventory]\n"
        "  external_id: secret-ish\n"
        "  regions: [us-east-1]\n"
        "  crawler: {session_tags: {team: platform}}\n"
    )
    hub, door, inventory = json.loads(printed(capsys, file, "--hub", ME))
    assume = ["sts:AssumeRole", "sts:TagSession"]
    (step,) = hub["policy"]["Statement"]
    assert step == {"Effect": "Allow", "Action": assume, "Resource": ["arn:aws:iam::000000000001:role/x/door"]}
    assert (door["role"], door["accounts"]) == ("x/door", ["000000000001"])
    (step,) = door["policy"]["Statement"]
    assert step["Resource"] == ["arn:aws:iam::000000000002:role/inventory"]
    (trusted,) = door["trust"]["Statement"]
    assert (trusted["Principal"], trusted["Action"]) == ({"AWS": ME}, assume)
    (reading,) = inventory["policy"]["Statement"]  # its regions are names: nothing has to be asked for them
    assert reading["Action"] == ["ecr:DescribeRepositories", "ecr:ListImages"]
    (trusted,) = inventory["trust"]["Statement"]
    assert trusted["Principal"] == {"AWS": "arn:aws:iam::000000000001:role/x/door"}
    assert trusted["Condition"] == {"StringEquals": {"sts:ExternalId": "secret-ish"}}


def test_a_profile_reads_by_itself_and_another_partition_has_its_own_arns(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[profile beijing]\nregion = cn-north-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    file.write_text(
        "accounts:\n"
        "- {account_id: '000000000001', profile: beijing, regions: [cn-north-1]}\n"
        "- {account_id: '000000000002', role: inventory, regions: ['cn-*']}\n"
    )
    profile, hub, member = json.loads(printed(capsys, file))
    assert profile["who"] == "the AWS profile beijing"
    assert profile["policy"]["Statement"][0]["Action"] == ["ecr:DescribeRepositories", "ecr:ListImages"]
    assert hub["policy"]["Statement"][0]["Resource"] == ["arn:aws-cn:iam::000000000002:role/inventory"]
    assert member["policy"]["Statement"][1]["Action"] == ["account:ListRegions", "ec2:DescribeRegions"]


def test_units_are_listed_by_unit(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text("organization: {member_role: inventory, include_ous: [ou-ab12-34cd56ef]}\n")
    (hub,) = json.loads(printed(capsys, file, "--of", "hub"))
    listing = hub["policy"]["Statement"][1]["Action"]
    assert listing == ["organizations:ListAccountsForParent", "organizations:ListOrganizationalUnitsForParent"]


def test_a_policy_that_would_be_too_long_names_roles_in_any_account() -> None:
    for count, named in ((100, 100), (1000, 1)):
        arns = [f"arn:aws:iam::{number:012}:role/inventory" for number in range(count)]
        hub, members = grants(Access(Identity(roles=(arn,), external_ids=(None,)), reads=RowKind.IDS) for arn in arns)
        assert len(hub.policy["Statement"][0]["Resource"]) == named
        assert len(json.dumps(hub.policy).replace(" ", "")) <= 6144
        assert len(members.accounts) == count


ROLES = st.sampled_from([f"arn:aws:iam::{account:012}:role/{name}" for account in (1, 2, 3) for name in "abc"])
IDENTITIES = st.builds(
    lambda hops, profile, tags: Identity(profile, tuple(hops), tuple(hops.values()), session_tags=tags),
    st.dictionaries(ROLES, st.none() | st.just("id"), max_size=3),
    st.none() | st.just("p"),
    st.just(()) | st.just((("team", "a"),)),
)


READS = st.sampled_from([None, *RowKind])


@given(st.lists(st.builds(Access, IDENTITIES, READS, st.booleans(), st.booleans(), st.booleans()), max_size=8))
def test_whatever_the_chains_every_step_is_allowed_and_trusted(accesses: list[Access]) -> None:
    found = grants(accesses)

    def grant_of(arn: str | None, profile: str | None) -> Grant:
        if arn is None:
            return next(grant for grant in found if grant.role is None and grant.profile == profile)
        account, role = arn.split(":")[4], arn.split("role/")[1]
        return next(grant for grant in found if grant.role == role and account in grant.accounts)

    def allows(document: Any, action: str, **wanted: Any) -> bool:
        return any(
            action in statement["Action"] and all(wanted[key](statement) for key in wanted)
            for statement in document["Statement"]
        )

    for access in accesses:
        here: str | None = None
        for role, external_id in zip(access.identity.roles, access.identity.external_ids, strict=True):
            standing, there = grant_of(here, access.identity.profile), grant_of(role, None)
            for action in ["sts:AssumeRole", *["sts:TagSession"] * bool(access.identity.session_tags)]:
                assert allows(standing.policy, action, to=lambda statement, role=role: role in statement["Resource"])
                assert allows(
                    there.trust,
                    action,
                    who=lambda statement, here=here: statement["Principal"] == {"AWS": here or HUB},
                    by=lambda statement, external_id=external_id: (
                        statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId") == external_id
                    ),
                )
            here = role
        reading = grant_of(here, access.identity.profile).policy
        assert access.reads is None or allows(reading, f"ecr:{access.reads.operation}")
        assert allows(reading, "account:ListRegions") >= access.finds_regions
        assert allows(reading, "organizations:ListAccountsForParent") >= access.lists_units
    allowed = {
        action
        for grant in found
        for statement in grant.policy["Statement"]
        for action in statement["Action"]
    }  # fmt: skip
    for rows in RowKind:
        assert (f"ecr:{rows.operation}" in allowed) == any(access.reads is rows for access in accesses)


ORGANIZATION = "organization: {member_role: team/inventory, external_id: an-id}\n"


@pytest.mark.parametrize("of", ["hub", "members"])
def test_templates_hold_the_policies_and_lint(capsys: pytest.CaptureFixture[str], file: Path, of: str) -> None:
    file.write_text(ORGANIZATION)
    (grant,) = json.loads(printed(capsys, file, "--of", of))
    template = printed(capsys, file, "--of", of, "--format", "cloudformation")
    (resource,) = yaml.safe_load(template)["Resources"].values()
    if of == "hub":
        assert resource["Properties"]["PolicyDocument"] == grant["policy"]
    else:
        assert (resource["Properties"]["Path"], resource["Properties"]["RoleName"]) == ("/team/", "inventory")
        assert resource["Properties"]["Policies"][0]["PolicyDocument"] == grant["policy"]
        (trusted,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert trusted["Principal"] == {"AWS": {"Ref": "Hub"}}
    assert lint(template) == []


def test_terraform_asks_for_the_hub_only_where_nobody_named_it(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(ORGANIZATION)
    asking = printed(capsys, file, "--of", "members", "--format", "terraform")
    assert 'variable "hub"' in asking
    assert '"AWS": var.hub' in asking
    telling = printed(capsys, file, "--of", "members", "--format", "terraform", "--hub", ME)
    assert "var" not in telling
    assert f'"AWS": "{ME}"' in telling


def test_an_aws_that_we_did_not_write_takes_the_documents(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    file.write_text(ORGANIZATION)
    hub, members = json.loads(printed(capsys, file, "--hub", ME))
    with mock_aws():
        iam: Any = boto3.client("iam", region_name="us-east-1")
        for grant in (hub, members):
            iam.create_policy(
                PolicyName=f"p{grant['role']}".replace("/", "-"), PolicyDocument=json.dumps(grant["policy"])
            )
        iam.create_role(RoleName="inventory", AssumeRolePolicyDocument=json.dumps(members["trust"]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hub", "arn:aws:sts::999999999999:assumed-role/nightly/me"], "write the ARN of a role or user"),
        (["--format", "terraform"], "--format terraform holds one of these; choose with --of"),
    ],
)
def test_what_cannot_be_used_says_what_to_write(
    capsys: pytest.CaptureFixture[str], file: Path, options: list[str], said: str
) -> None:
    file.write_text(ORGANIZATION)
    with pytest.raises(UsageError, match=re.escape(said)):
        printed(capsys, file, *options)


def test_details_want_another_right_in_its_place(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(ORGANIZATION)
    (members,) = json.loads(printed(capsys, file, "--of", "members", "--rows", "details"))
    assert members["policy"]["Statement"][0]["Action"] == ["ecr:DescribeRepositories", "ecr:DescribeImages"]


def test_public_registries_want_rights_of_their_own(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(ORGANIZATION.replace("}", ", crawler: {public: true}}"))
    (members,) = json.loads(printed(capsys, file, "--of", "members"))
    public = {"Effect": "Allow", "Action": ["ecr-public:DescribeRepositories", "ecr-public:DescribeImages"]}
    assert members["policy"]["Statement"][1] == {**public, "Resource": "*"}
