"""What a catalog of Iceberg is configured with is told to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.utils.config import Config

from crawler.errors import Fatal
from crawler.tables.iceberg import Iceberg
from tests.program.conftest import Program

CANARY = "CANARYp4ss"
HERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ({"URI": f"foo://u:{CANARY}@h/db"}, "Could not infer the catalog type from the uri: foo://***h/db"),
        ({"URI": f"foo://u:p/{CANARY}@h/db"}, "foo://***h/db"),
        ({"TYPE": "rest", "URI": f"{HERE}/db?token={CANARY}"}, "exceeded with url: /db?***"),
        ({"TYPE": "rest", "URI": f"http://u:{CANARY}@127.0.0.1:1/db"}, "exceeded with url: /db/v1/config"),
        (
            {"TYPE": "rest", "URI": HERE, "CREDENTIAL": f"who:{CANARY}", "OAUTH2_SERVER_URI": f"{HERE}/tokens"},
            "exceeded with url: /tokens",
        ),
        ({"TYPE": "rest", "URI": HERE, "TOKEN": f"{CANARY}\ninjected"}, "Invalid header value b'Bearer ***\\n***'"),
        ({"TYPE": "rest", "URI": HERE, "HEADER.X-KEY": f"{CANARY}\ninjected"}, "header value: '***\\n***'"),
        ({"TYPE": "sql", "URI": f"sqlite://u:{CANARY}@h:12/x"}, "Invalid SQLite URL"),
        ({"TYPE": "sql", "URI": f"sqlite:///nowhere/x.db?mode={CANARY}&uri=true"}, "--iceberg loc:ns.t: "),
    ],
    ids=str,
)
def test_no_secret_of_a_catalog_is_told(configured: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in configured.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LOC__{name.replace('.', '__')}", value)
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())  # it reads them once, when it is imported
    with pytest.raises(Fatal) as failed:
        Iceberg("loc:ns.t").check()
    assert told in failed.value.message
    assert CANARY not in str(failed.value)


def test_a_secret_at_the_end_of_a_long_message_is_not_told_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"foo://{'u-' * 220}:{CANARY}@h/db"
    monkeypatch.setenv("PYICEBERG_CATALOG__LOC__URI", uri)
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    with pytest.raises(Fatal) as failed:
        Iceberg("loc:ns.t").check()
    assert "CAN" not in str(failed.value)


@pytest.mark.parametrize(
    "configuration",
    [
        {"PYICEBERG_CATALOG__LOC": CANARY, "PYICEBERG_CATALOG__LOC__TOKEN": CANARY},
        {"PYICEBERG_CATALOG": CANARY},
        f"catalog: {{loc: {{token: {CANARY}",
        f"catalog:\n  loc:\n    token: a\n   token: {CANARY}\n",
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_read_is_told_in_a_line(
    tmp_path: Path, configuration: dict[str, str] | str
) -> None:
    program = Program(tmp_path)
    if isinstance(configuration, str):
        (tmp_path / ".pyiceberg.yaml").write_text(configuration)
        configuration = {"PYICEBERG_HOME": str(tmp_path)}
    program.environment |= configuration
    (tmp_path / "accounts.yaml").write_text("accounts: [{account_id: '000000000001'}]\n")
    done = program.run("--accounts", "accounts.yaml", "--output", "out/", "--iceberg", "loc:ns.t", "-vv")
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "FAILED: TableFailed: --iceberg loc:ns.t: the configuration of pyiceberg cannot be read: " in said
    assert "Traceback" not in said
    assert CANARY not in said
