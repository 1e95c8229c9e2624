"""The whole program, as a process, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Row = tuple[str, str, str, str, str | None]


@dataclass(frozen=True)
class Crawled:
    code: int
    stdout: bytes
    stderr: str
    ledger: list[dict[str, Any]]
    report: dict[str, Any]

    @property
    def rows(self) -> Counter[Row]:
        return Counter(tuple(json.loads(line).values()) for line in self.stdout.splitlines())

    def outcomes(self) -> dict[tuple[str | None, str | None, str | None], str]:
        lines = {(line["registryId"], line["region"], line["repositoryName"]): line["outcome"] for line in self.ledger}
        assert len(lines) == len(self.ledger), "a unit has two lines in the ledger"
        return lines

    def line(self, repository: str | None) -> dict[str, Any]:
        (line,) = [line for line in self.ledger if line["repositoryName"] == repository]
        return line


class Program:
    """Starts `python -m crawler` with an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "crawler", *arguments]

    def env(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "COLUMNS": "100"}

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            env=self.env(),
            cwd=self.folder,
            check=False,
            timeout=120,
        )

    def crawl(self, accounts: str, *arguments: str) -> Crawled:
        (self.folder / "accounts.yaml").write_text(accounts)
        done = self.run("--accounts", "accounts.yaml", "--ledger", "ledger", "--report", "report", *arguments)
        ledger, report = self.folder / "ledger", self.folder / "report"
        return Crawled(
            done.returncode,
            done.stdout,
            done.stderr.decode(),
            [json.loads(line) for line in ledger.read_bytes().splitlines()] if ledger.exists() else [],
            json.loads(report.read_bytes()) if report.exists() else {},
        )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)
