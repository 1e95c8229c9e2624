"""An accounts file from what is there already: it loads again, and says what it could not tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawler.accounts import load
from crawler.draft import _scalar, of_profiles
from crawler.emulator import Account, Estate, running
from crawler.errors import UsageError
from tests.program.conftest import Program

CONFIG = """\
[default]
region = eu-west-1
[profile payments]
role_arn = arn:aws:iam::000000000001:role/inventory
source_profile = default
[profile payments-admin]
role_arn = arn:aws:iam::000000000001:role/admin
source_profile = default
[profile it's search]
sso_session = company
sso_account_id = 000000000002
sso_role_name = reader
[sso-session company]
sso_region = us-east-1
sso_start_url = https://example.com
"""

WRITTEN = """\
accounts:
- account_id: '000000000001'
  name: payments
  profile: payments  # or payments-admin
- account_id: '000000000002'
  name: 'it''s search'
  profile: 'it''s search'

# Which account these profiles open is not written in the file; for each, this tells it:
#   aws sts get-caller-identity --profile default
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path / "config"


def test_profiles_become_accounts_as_a_person_would_write_them(config: Path) -> None:
    # AWS's own parser wants quotes around a section name with an apostrophe in it.
    config.write_text(CONFIG.replace("[profile it's search]", '[profile "it\'s search"]'))
    text = of_profiles()
    head, _, body = text.partition("accounts:")
    assert "accounts:" + body == WRITTEN
    assert all(line.startswith("#") for line in head.splitlines())
    one, two = load("imported", text.encode()).accounts
    assert (one.account_id, one.profile, one.regions) == ("000000000001", "payments", ("all",))
    assert (two.account_id, two.name, two.profile) == ("000000000002", "it's search", "it's search")


def test_profiles_without_accounts_say_what_is_missing(config: Path) -> None:
    config.write_text("[default]\nregion = eu-west-1\n")
    with pytest.raises(UsageError, match=r"no profile in .* names an account"):
        of_profiles()


def test_an_organization_becomes_accounts_that_a_crawl_can_open(program: Program) -> None:
    made = Estate([Account("000000000001", "Payments: prod"), Account("000000000002", "no")], regions=["us-east-1"])
    with running(made) as emulator:
        program.environment |= emulator.environment()
        done = program.run("import", "organization", "--member-role", "team/inventory")
        assert done.returncode == 0, done.stderr
        (program.folder / "accounts.yaml").write_bytes(done.stdout)
        accounts = load("imported", done.stdout).accounts
        assert {account.name for account in accounts} >= {"Payments: prod", "no"}
        assert {account.role for account in accounts} == {("team/inventory",)}
        crawled = program.run("--accounts", "accounts.yaml")
    assert crawled.returncode == 0, crawled.stderr
    assert b"#   organization: {member_role: team/inventory}" in done.stdout


def test_an_organization_that_may_not_be_listed_is_told(program: Program) -> None:
    with running(Estate([Account("000000000001")], regions=["us-east-1"])) as emulator:
        program.environment |= emulator.environment() | {"AWS_ACCESS_KEY_ID": "nobody"}
        done = program.run("import", "organization")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"import: ")


@given(st.text(min_size=1).filter(lambda text: text.strip() == text and not set(text) & set("\x00")))
@example("no")
@example("- a: b # c")
@example("two\nlines\x85and\u2028more \\ \" '")
def test_any_name_is_read_as_it_was(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair: no file can hold it
    file = load("f", f"accounts: [{{account_id: '000000000001', name: {_scalar(name)}}}]".encode())
    assert file.accounts[0].name == name
