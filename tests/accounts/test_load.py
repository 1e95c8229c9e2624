"""Files that are right: c7n-org's own shapes, our settings, and the warnings that come with some of them."""

import gc
import time
import tracemalloc

import pytest

from crawler.accounts import AccountsFile, load
from crawler.model import Account, ImageStatus, TagStatus

ID = "account_id: '123456789012'"


def loaded(text: str) -> AccountsFile:
    return load("accounts.yaml", text.encode())


def one(text: str) -> Account:
    result = loaded(text)
    assert result.warnings == ()
    (account,) = result.accounts
    return account


WRITTEN_BY_HAND = """\
# the accounts of two divisions
accounts:
- account_id: '012345678901'
  name: account-1
  regions:
  - us-east-1
  - us-west-2
  role: arn:aws:iam::012345678901:role/CloudCustodian
  vars:
    charge_code: xyz
    retention: 14
  tags:
  - type:prod
  - division:some division
  - partition:us
  - scope:pci
- account_id: 234567890123
  name: account-2
  role: CloudCustodian
  email: two@example.com
vars:
  charge_code: abc
...
"""


def test_a_file_for_c7n_org_written_by_hand() -> None:
    result = loaded(WRITTEN_BY_HAND)
    assert result == AccountsFile(
        accounts=(
            Account(
                account_id="012345678901",
                name="account-1",
                regions=("us-east-1", "us-west-2"),
                role=("arn:aws:iam::012345678901:role/CloudCustodian",),
                tags=("type:prod", "division:some division", "partition:us", "scope:pci"),
            ),
            Account(account_id="234567890123", name="account-2", role=("CloudCustodian",)),
        )
    )


GENERATED = """\
accounts:
- account_id: '123456789012'
  display_name: Payments
  email: payments@example.com
  name: payments
  org_id: o-a1b2c3d4e5
  regions:
  - us-east-1
  role: arn:aws:iam::123456789012:role/OrganizationAccountAccessRole
  tags:
  - path:/Prod/Payments
- account_id: '234567890123'
  display_name: 'Research & Development'
  email: rd@example.com
  name: research-&-development
  org_id: o-a1b2c3d4e5
  regions: [all]
  role:
  - arn:aws:iam::123456789012:role/hub
  - arn:aws:iam::234567890123:role/inventory
  tags:
  - path:/
  vars: {}
"""


def test_a_file_generated_from_an_organization() -> None:
    first, second = loaded(GENERATED).accounts
    assert first.tags == ("path:/Prod/Payments",)
    assert first.name == "payments"
    assert second.role == ("arn:aws:iam::123456789012:role/hub", "arn:aws:iam::234567890123:role/inventory")
    assert second.regions == ("all",)


def test_unquoted_ids_keep_their_zeros() -> None:
    account = one("accounts:\n- account_id: 012345670123\n  crawler: {registries: [001234567012]}")
    assert account.account_id == "012345670123"
    assert account.registries == ("001234567012",)


def test_everything_absent() -> None:
    empty = "name:\n  display_name: ~\n  email:\n  org_id:\n  tags:\n  regions:\n  vars:\n  crawler:"
    assert one(f"accounts:\n- {ID}\n  {empty}\nvars:") == Account(account_id="123456789012")
    assert one(f"accounts:\n- {ID}\n  vars: {{crawler: }}\nvars: {{crawler: }}") == Account(account_id="123456789012")


def test_display_name_stands_in_for_name() -> None:
    assert one(f"accounts: [{{{ID}, display_name: Payments}}]").name == "Payments"


def test_role_wins_over_profile() -> None:
    assert one(f"accounts: [{{{ID}, role: inventory, profile: p}}]").profile is None
    assert one(f"accounts: [{{{ID}, profile: p}}]").profile == "p"


@pytest.mark.parametrize(
    "role",
    [
        "arn:aws:iam::123456789012:role/inventory",
        "arn:aws-cn:iam::123456789012:role/path/to/inventory",
        "arn:aws-us-gov:iam::{account_id}:role/inventory-{account_id}",
        "inventory",
        "path/to/inventory+=,.@-_",
    ],
)
def test_roles_as_written(role: str) -> None:
    assert one(f"accounts:\n- {ID}\n  role: {role}").role == (role,)
    assert one(f"accounts:\n- {ID}\n  role:\n  - {role}").role == (role,)


@pytest.mark.parametrize(
    ("written", "regions"),
    [
        ("[us-east-1]", ("us-east-1",)),
        ("[us-east-1, us-east-1, eu-west-1]", ("us-east-1", "eu-west-1")),
        ("['us-east-1, eu-west-1', eu-west-1]", ("us-east-1", "eu-west-1")),
        ("[us-gov-east-1, us-isob-east-1, eusc-de-east-1]", ("us-gov-east-1", "us-isob-east-1", "eusc-de-east-1")),
        ("[eu-*, '*', 'us-[ew]*-?']", ("eu-*", "*", "us-[ew]*-?")),
        ("[all]", ("all",)),
        ("[us-east-1, all]", ("all",)),
    ],
)
def test_regions(written: str, regions: tuple[str, ...]) -> None:
    assert one(f"accounts:\n- {ID}\n  regions: {written}").regions == regions


def test_settings() -> None:
    account = one(
        f"accounts:\n- {ID}\n  role: [a, b]\n  external_id: abc:/1\n  crawler:\n"
        "    registries: ['210987654321']\n    repositories: [team-*]\n    exclude_repositories: ['*-cache']\n"
        "    public: True\n    tag_status: UnTagged\n    image_status: archived\n    max_rps: 2.5\n"
        "    session_name: nightly@x\n"
        "    session_tags: {team: Plattform Süd, cost: 42, a: ''}\n    duration_seconds: 3600\n"
    )
    assert account == Account(
        account_id="123456789012",
        role=("a", "b"),
        external_ids=("abc:/1", "abc:/1"),
        registries=("210987654321",),
        repositories=("team-*",),
        exclude_repositories=("*-cache",),
        public=True,
        tag_status=TagStatus.UNTAGGED,
        image_status=ImageStatus.ARCHIVED,
        max_rps=2.5,
        session_name="nightly@x",
        session_tags=(("a", ""), ("cost", "42"), ("team", "Plattform Süd")),
        duration=3600,
    )


def test_the_nearest_setting_wins_key_by_key() -> None:
    account = one(
        "vars: {crawler: {max_rps: 1, tag_status: any, session_name: all}}\n"
        f"accounts:\n- {ID}\n  vars: {{crawler: {{max_rps: 2, tag_status: tagged}}}}\n  crawler: {{max_rps: 3}}"
    )
    assert (account.max_rps, account.tag_status, account.session_name) == (3.0, TagStatus.TAGGED, "all")


def test_an_account_twice_in_other_regions() -> None:
    result = loaded(f"accounts:\n- {ID}\n  regions: [us-east-1]\n- {ID}\n  regions: [eu-west-1, eu-west-2]")
    assert [account.regions for account in result.accounts] == [("us-east-1",), ("eu-west-1", "eu-west-2")]


EMPTY_REGIONS = (
    "is empty, so every enabled region is crawled, where c7n-org takes us-east-1 and us-west-2; "
    "write regions: [all], or name them"
)


OTHERS = "arn:aws:iam::210987654321:role/inventory"
OTHER_ACCOUNT = (
    "is a role of account 210987654321, and account_id is 123456789012, whose registry it will read; "
    "correct one of the two, unless that is meant"
)


@pytest.mark.parametrize(
    ("written", "warning"),
    [
        ("regions: []", f"12: accounts[0].regions: {EMPTY_REGIONS}"),
        ("regoins: [us-east-1]", "3: accounts[0].regoins: unknown key, ignored; did you mean regions?"),
        ("max_rps: 3", "3: accounts[0].max_rps: is read under crawler: only; write crawler: {max_rps: …}"),
        (
            "external_id: abc",
            "16: accounts[0].external_id: is not used without a role; add the role it belongs to, or remove it",
        ),
        (f"role: ['{OTHERS}', '{OTHERS}']", f"9: accounts[0].role: {OTHER_ACCOUNT}"),
    ],
)
def test_warnings(written: str, warning: str) -> None:
    assert loaded(f"accounts:\n- {ID}\n  {written}").warnings == (f"accounts.yaml:3:{warning}",)


@pytest.mark.parametrize("role", ["inventory", f"['{OTHERS}', inventory]", "'arn:aws:iam::{account_id}:role/x'"])
def test_a_role_in_the_account_itself_is_no_warning(role: str) -> None:
    assert loaded(f"accounts:\n- {ID}\n  role: {role}").warnings == ()


def test_keys_of_others_are_left_alone() -> None:
    assert one(f"accounts:\n- {ID}\n  owner: x\n  cost_center: [1]\n  {'x' * 99}: 1") == Account("123456789012")


def test_a_name_given_twice_is_a_warning() -> None:
    result = loaded(f"accounts:\n- {{{ID}, name: a}}\n- {{account_id: '210987654321', name: a}}")
    assert result.warnings == (
        "accounts.yaml:3:38: accounts[1].name: 'a' is also accounts[0].name (line 2); --account selects both",
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("eu-wst-1", "'eu-wst-1' is no region that this version knows; did you mean eu-west-1? It is tried as written"),
        ("mars-north-7", "'mars-north-7' is no region that this version knows; correct it? It is tried as written"),
        ("eu-wast-*", "'eu-wast-*' matches no region that this version knows; correct it"),
    ],
)
@pytest.mark.parametrize("form", ["accounts", "organization"])
def test_a_region_that_nobody_knows_is_a_warning_and_stays(written: str, said: str, form: str) -> None:
    entry = f"- {ID}" if form == "accounts" else "  member_role: inventory"
    text = f"{form}:\n{entry}\n  regions: [us-east-1, '{written}', eu-*, all]"
    regions = {"us-east-1", "eu-west-1"}
    warnings = load("accounts.yaml", text.encode(), regions).warnings
    place = "accounts[0]" if form == "accounts" else "organization"
    assert [warning.startswith(f"accounts.yaml:3:24: {place}.regions[1]: {said}") for warning in warnings] == [True]


def test_without_a_list_of_regions_none_is_doubted() -> None:
    result = loaded(f"accounts:\n- {ID}\n  regions: [eu-wst-1]")
    assert (result.warnings, result.accounts[0].regions) == ((), ("eu-wst-1",))


def many(count: int) -> bytes:
    entry = (
        "- account_id: '{0:012d}'\n  name: account-{0}\n  role: arn:aws:iam::{0:012d}:role/inventory\n"
        "  email: owner-{0}@example.com\n  regions: [us-east-1, us-west-2]\n  tags: ['type:prod', 'path:/Prod']\n"
        "  vars: {{charge_code: '{0}'}}\n  crawler: {{repositories: ['team-*'], max_rps: 20}}\n"
    )
    return ("accounts:\n" + "".join(map(entry.format, range(count)))).encode()


def test_an_account_costs_little_memory() -> None:
    data = many(2_000)
    tracemalloc.start()
    try:
        load("f", data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / 2_000 < 5_000  # bytes, so that 10,000 accounts stay below 50 MB


def test_ten_thousand_accounts_take_seconds() -> None:
    data = many(10_000)
    started = time.process_time()
    assert len(load("f", data).accounts) == 10_000
    assert time.process_time() - started < 10
    assert gc.isenabled()
