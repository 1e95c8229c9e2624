"""Names that ECR does not allow, of a server that is not ECR: rows, ledger and a published run are whole, in place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crawler.emulator import Account, Estate, Options, Repository, Series, running
from tests.program.conftest import Program

ACCOUNT, REGION = "000000000001", "eu-west-1"
NAMES = ["../../up", "/etc/absolute", "two\nlines", "a\u2028b", "c\r\nd", "\x1b[31mred", "nul\x00", "run=1/date=2", "é"]


@pytest.mark.parametrize("output", ["-", "out/"])
def test_a_name_is_a_value_and_nothing_else(program: Program, tmp_path: Path, output: str) -> None:
    world = Estate(
        [Account(ACCOUNT, repositories={REGION: {name: Repository(name, Series(name, 3)) for name in NAMES}})],
        regions=[REGION],
    )
    program.folder = tmp_path / "deep" / "down"
    program.folder.mkdir(parents=True)
    accounts = f"accounts: [{{account_id: '{ACCOUNT}', role: inventory, regions: [{REGION}]}}]\n"
    with running(world, Options(checks=False)) as emulator:
        program.environment |= emulator.environment()
        crawled = program.crawl(accounts, "--output", output)
    assert crawled.code == 0, crawled.stderr
    assert {line["repositoryName"] for line in crawled.ledger} == {*NAMES, None}
    assert "\x1b" not in crawled.stderr
    if output == "-":
        rows = [json.loads(line) for line in crawled.stdout.splitlines()]
        assert crawled.stdout.isascii()
    else:
        parts = [path for path in program.folder.glob("out/data/**/*.parquet") if not path.name.startswith(".")]
        rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert Counter(row["repositoryName"] for row in rows) == dict.fromkeys(NAMES, 3)
    outside = {path for path in tmp_path.rglob("*") if program.folder not in (path, *path.parents)}
    assert outside == {program.folder.parent}, "written elsewhere"
