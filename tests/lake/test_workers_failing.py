"""Several processes, one of which finds that nobody can go on: the others are told, and the run tells why."""

from __future__ import annotations

import json
from collections import Counter

from crawler.emulator import Estate, Options, Rule, running
from tests.lake.conftest import REGIONS, Zygote, rows_of


def test_what_no_shard_survives_ends_all_workers(program: Zygote, estate: Estate) -> None:
    """One of them finds that the clock is wrong: the other tells what it has, and no account is without a line."""
    rule = Rule(fault="time-too-skewed", operation="ListImages", account="000000000003", region=REGIONS[0], times=0)
    with running(estate, Options(faults=[rule], latency=0.004)) as skewed:
        program.environment |= skewed.environment()
        assert (
            program.run("--accounts", "accounts.yaml", "--ledger", "ledger", "--output", "rows", "--workers", "2") == 1
        )
    assert "FAILED: ClockSkew: " in program.said()
    assert "Traceback" not in program.said()
    units = [json.loads(line) for line in (program.folder / "ledger").read_bytes().splitlines()]
    assert {unit["registryId"] for unit in units} == set(estate.accounts)
    assert len({(unit["registryId"], unit["region"], unit["repositoryName"]) for unit in units}) == len(units)
    assert not (program.folder / "rows").exists()
    rows = Counter(rows_of((program.folder / "rows.partial").read_bytes(), "rows.ndjson"))
    assert rows <= Counter(estate.rows())
    assert rows.total() == sum(unit["rows"] for unit in units)
