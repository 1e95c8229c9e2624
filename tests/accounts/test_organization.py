"""The second form of the file: a whole organization."""

from crawler.accounts import load
from crawler.model import Account, Identity, Organization

ARN = "arn:aws:iam::123456789012:role/hub"


def organization(written: str, *, after: str = "") -> Organization:
    result = load("f", f"organization: {{{written}}}\n{after}".encode())
    assert result.accounts == ()
    assert result.warnings == ()
    assert result.organization is not None
    return result.organization


def test_the_least() -> None:
    assert organization("member_role: inventory") == Organization(
        hub=Identity(), member=Account(account_id="", role=("inventory",), external_ids=(None,))
    )


def test_members_are_reached_from_the_hub() -> None:
    found = organization(f"role: '{ARN}', member_role: inventory, profile: p, external_id: abc")
    assert found.hub == Identity(profile="p", roles=(ARN,), external_ids=(None,))
    assert found.member == Account("", profile="p", role=(ARN, "inventory"), external_ids=(None, "abc"))


def test_the_hub_has_an_external_id_of_its_own() -> None:
    chain = f"['{ARN}', '{ARN}2']"
    found = organization(f"role: {chain}, member_role: inventory, hub_external_id: abc")
    assert (found.hub.external_ids, found.member.external_ids) == (("abc", "abc"), ("abc", "abc", None))
    found = organization(f"role: {chain}, member_role: inventory, hub_external_id: abc, external_id: xyz")
    assert (found.hub.external_ids, found.member.external_ids) == (("abc", "abc"), ("abc", "abc", "xyz"))


def test_everything_else() -> None:
    found = organization(
        "member_role: 'arn:aws:iam::{account_id}:role/inventory', include_ous: [ou-ab12-34cd56ef, r-ab12],"
        "exclude: ['sandbox-*', 123456789012, 12345], regions: [eu-*],"
        "crawler: {session_name: nightly, session_tags: {a: b}, duration_seconds: 7200, max_rps: 5}",
        after="vars: {crawler: {max_rps: 1, repositories: [a]}}",
    )
    assert found == Organization(
        hub=Identity(session_name="nightly", session_tags=(("a", "b"),), duration=7200),
        member=Account(
            account_id="",
            role=("arn:aws:iam::{account_id}:role/inventory",),
            external_ids=(None,),
            session_name="nightly",
            session_tags=(("a", "b"),),
            duration=7200,
            regions=("eu-*",),
            repositories=("a",),
            max_rps=5.0,
        ),
        include_ous=("ou-ab12-34cd56ef", "r-ab12"),
        exclude=("sandbox-*", "123456789012", "12345"),
    )


def test_an_empty_list_of_regions_is_a_warning() -> None:
    result = load("f", b"organization: {member_role: x, regions: []}")
    (warning,) = result.warnings
    assert warning.startswith("f:1:41: organization.regions: is empty, so every enabled region is crawled, ")
