"""A company, a store, and a program that can be killed."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import pyarrow.parquet as pq
import pytest

from crawler.emulator import Account, Emulator, Estate, Options, Repository, running
from crawler.emulator.images import Series
from tests.lake.servers import BUCKET, S3, moto, seaweedfs

Row = tuple[str, str, str, str, str | None]
REGIONS = ["eu-west-1", "us-east-1"]


def company(accounts: int = 3, repositories: int = 10, images: int = 100) -> Estate:
    """Small repositories, empty ones, and one of several pages in each account."""
    made = []
    for number in range(1, accounts + 1):
        account_id = f"{number:012}"
        by_region = {
            region: {
                f"team/{index}": Repository(f"team/{index}", Series(f"{account_id}{region}{index}", size))
                for index, size in enumerate([0, images * 20, *[images] * (repositories - 2)])
            }
            for region in REGIONS
        }
        made.append(Account(account_id, repositories=by_region))
    return Estate(made, regions=REGIONS)


@dataclass
class Place:
    """An output, and a way to look into it that shares nothing with the program."""

    output: str
    folder: Path | None = None
    s3: S3 | None = None

    def names(self) -> list[str]:
        if self.folder:
            files = (path for path in self.folder.rglob("*") if path.is_file())
            return sorted(str(path.relative_to(self.folder)) for path in files)
        assert self.s3
        prefix = self.output.removeprefix(f"s3://{BUCKET}/")
        return [key.removeprefix(prefix) for key in self.s3.keys(prefix)]

    def read(self, name: str) -> bytes:
        if self.folder:
            return (self.folder / name).read_bytes()
        assert self.s3
        return self.s3.read(self.output.removeprefix(f"s3://{BUCKET}/") + name)

    def manifest(self, run_id: str) -> dict[str, Any] | None:
        name = f"runs/{run_id}/manifest.json"
        return cast("dict[str, Any]", json.loads(self.read(name))) if name in self.names() else None

    def rows(self, run_id: str) -> Counter[Row]:
        """What a reader sees who goes by the manifest."""
        manifest = self.manifest(run_id)
        assert manifest, "not published"
        found: Counter[Row] = Counter()
        for part in manifest["parts"]:
            rows = list(rows_of(self.read(part["path"]), part["path"]))
            assert len(rows) == part["rows"]
            found.update(rows)
        return found

    def ledger(self, run_id: str) -> list[dict[str, Any]]:
        manifest = self.manifest(run_id)
        assert manifest
        return [json.loads(line) for line in gzip.decompress(self.read(manifest["ledger"])).splitlines()]


def rows_of(data: bytes, name: str) -> Iterator[Row]:
    if name.endswith(".parquet"):
        records = pq.read_table(io.BytesIO(data)).to_pylist()
    else:
        if name.endswith(".gz"):
            data = gzip.decompress(data)
        elif name.endswith(".zst"):
            import zstandard  # noqa: PLC0415  (comes with pyiceberg)

            data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        records = [json.loads(line) for line in data.splitlines()]
    for row in records:
        for tag in (row["imageTags"] or [None]) if "imageTags" in row else [row["imageTag"]]:
            yield row["registryId"], row["region"], row["repositoryName"], row["imageDigest"], tag


@dataclass
class Zygote:
    """See `zygote.py`."""

    folder: Path
    process: subprocess.Popen[str]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, until: Callable[[], bool] | None = None, **order: Any) -> int:
        """Run the program; return its exit code, or minus the signal that ended it. It is killed once `until()`."""
        full = {
            "arguments": arguments,
            "environment": self.environment,
            "folder": str(self.folder),
            "checkpoint": 0.02,
            **order,
        }
        stdin, stdout = cast("tuple[IO[str], IO[str]]", (self.process.stdin, self.process.stdout))
        stdin.write(json.dumps(full) + "\n")
        stdin.flush()
        child = int(stdout.readline())
        if until:
            while not until():
                time.sleep(0.005)  # an event in another process
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(int(stdout.readline()))

    def said(self) -> str:
        log = self.folder / "stderr"
        return log.read_text() if log.exists() else ""


@contextmanager
def zygote(folder: Path, preload: Path | None = None) -> Iterator[Zygote]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lake.zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})},
    )
    try:
        with process:
            yield Zygote(folder, process)
            assert process.stdin
            process.stdin.close()
    finally:
        process.kill()


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """`failing_disk.c`, compiled; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    made = tmp_path_factory.mktemp("disk") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory, failing_disk: Path | None) -> Iterator[Zygote]:
    with zygote(tmp_path_factory.mktemp("forks"), failing_disk) as made:
        yield made


@pytest.fixture(scope="module")
def estate() -> Estate:
    return company()


@pytest.fixture(scope="module")
def emulator(estate: Estate) -> Iterator[Emulator]:
    with running(estate, Options(latency=0.004)) as served:
        yield served


@pytest.fixture
def program(forks: Zygote, emulator: Emulator, estate: Estate, tmp_path: Path) -> Zygote:
    """The program in a folder of its own, with an accounts file that fits the company."""
    (tmp_path / "accounts.yaml").write_text(estate.accounts_yaml())
    return Zygote(tmp_path, forks.process, {**emulator.environment(), "TMPDIR": str(tmp_path)})


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, program: Zygote) -> Place:
    """A folder, and a prefix of a bucket whose server keeps conditions."""
    if request.param == "local":
        return Place(f"{tmp_path}/out/", folder=tmp_path / "out")
    server: S3 = request.getfixturevalue("weed")
    program.environment |= server.environment()
    return Place(f"s3://{BUCKET}/{tmp_path.name}/", s3=server)


KILLED = -signal.SIGKILL
