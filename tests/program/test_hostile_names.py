"""Names, tags and digests that ECR does not allow, of a server that is not ECR: each row is whole, in its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crawler.emulator import Account, Estate, Options, Repository, Series, running
from crawler.emulator.images import Image, Listed
from tests.lake.conftest import rows_of
from tests.program.conftest import Crawled, Program

ACCOUNT, REGION = "000000000001", "eu-west-1"
HOSTILE = [
    "../../up", "/etc/absolute", "two\nlines", "a\u2028b", "a\u2029b", "c\r\nd", "a\x85b", "\x1b[31mred", "nul\x00",
    "run=1/date=2", "é", "e\u0301", "\u202egnp", "\U0001f433", "\ufeff", '"', "\\", '{"imageTag":"x"}', "NULL", " ", "",
    "=1+1", "a,b;c\td", "\x7f", "x" * 5000,
]  # fmt: skip
#: An empty name is none, of which a path of a request could be made.
NAMES = [name for name in HOSTILE if name and len(name) < 100]


def estate(digests: list[str] = HOSTILE) -> Estate:
    """Each hostile text as a name and as a tag, and those of `digests` as digests."""
    ordinary = {name: Repository(name, Series(name, 3)) for name in NAMES}
    images = Listed((*(Image(f"sha256:{n:064}", (tag,)) for n, tag in enumerate(HOSTILE)), *map(Image, digests)))
    return Estate(
        [Account(ACCOUNT, repositories={REGION: {**ordinary, "of-tags": Repository("of-tags", images)}})],
        regions=[REGION],
    )


def crawl(program: Program, tmp_path: Path, world: Estate, *arguments: str) -> Crawled:
    """What the program did, somewhere far down, where it has to stay."""
    program.folder = tmp_path / "deep" / "down"
    program.folder.mkdir(parents=True)
    accounts = f"accounts: [{{account_id: '{ACCOUNT}', role: inventory, regions: [{REGION}]}}]\n"
    with running(world, Options(checks=False)) as emulator:
        program.environment |= emulator.environment()
        crawled = program.crawl(accounts, *arguments)
    assert crawled.code == 0, crawled.stderr
    assert {line["repositoryName"] for line in crawled.ledger} == {*NAMES, "of-tags", None}
    assert set("\x1b\x85\u2028\u202e\x00").isdisjoint(crawled.stderr)
    outside = {path for path in tmp_path.rglob("*") if program.folder not in (path, *path.parents)}
    assert outside == {program.folder.parent}, "written elsewhere"
    return crawled


def lines(stdout: bytes) -> Iterator[dict[str, Any]]:
    assert stdout.isascii()
    for line in stdout.decode("ascii").splitlines():  # at anything that a reader may take for the end of a line
        yield json.loads(line)


def test_rows_are_a_line_each(program: Program, tmp_path: Path) -> None:
    crawled = crawl(program, tmp_path, estate())
    assert Counter(tuple(row.values()) for row in lines(crawled.stdout)) == Counter(estate().rows())


def test_details_are_a_line_each(program: Program, tmp_path: Path) -> None:
    world = estate(digests=[])  # the emulator makes sizes and times of digests such as there are
    crawled = crawl(program, tmp_path, world, "--rows", "details")
    assert Counter((row["repositoryName"], row["imageDigest"], *row["imageTags"]) for row in lines(crawled.stdout)) == (
        Counter((name, digest, *([] if tag is None else [tag])) for _, _, name, digest, tag in world.rows())
    )


@pytest.mark.parametrize("form", ["parquet", "ndjson.gz"])
def test_a_published_run_has_them_all(program: Program, tmp_path: Path, form: str) -> None:
    crawl(program, tmp_path, estate(), "--output", "out/", "--format", form)
    parts = [path for path in program.folder.glob(f"out/data/**/*.{form}") if not path.name.startswith(".")]
    assert Counter(row for path in parts for row in rows_of(path.read_bytes(), path.name)) == Counter(estate().rows())
