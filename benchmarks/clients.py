"""The crawler and its peers, as commands; and what to install where one is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_GO_SOURCE, _GO_PROGRAM = _HERE / "peers/go/main.go", _HERE / ".build/go-sdk-v2"
#: Where Debian puts the sources of Go libraries.
_GO_LIBRARIES = Path("/usr/share/gocode")
_JS = _HERE / "peers/js"


@dataclass(frozen=True)
class Client:
    """`command` takes the accounts file where it says ACCOUNTS; `sample` is how many accounts it is given, None all."""

    name: str
    command: tuple[str, ...]
    missing: str = ""
    sample: int | None = None

    def on(self, accounts: Path) -> list[str]:
        """The command for one accounts file."""
        return [str(accounts) if word == "ACCOUNTS" else word for word in self.command]


#: As it comes.
CRAWLER = Client("crawler", (sys.executable, "-m", "crawler", "--quiet", "--accounts", "ACCOUNTS"))
#: For a single registry that does not throttle. 50 in flight, as some peers have, is no faster: 16 keep a core busy.
CRAWLER_DEEP = Client("crawler", (*CRAWLER.command, "--requests-per-target", "16"))


def one_registry(*, quick: bool) -> list[Client]:
    """The crawler and all that can list one registry; `quick` leaves most of them out."""
    threads = Client("boto3, 16 threads", _peer("boto3_paginator", "16"))
    tasks = Client("aiobotocore, 50 in flight", _peer("aiobotocore_paginator", "50"))
    if quick:
        return [CRAWLER_DEEP, threads, tasks]
    one = Client("boto3, 1 thread", _peer("boto3_paginator", "1"))
    return [CRAWLER_DEEP, one, threads, tasks, _go(), _javascript()]


def many_targets(*, quick: bool) -> list[Client]:
    """The crawler and the one that makes a client for each target, on a sample: at 55 a second, all would take long."""
    sample = 1 if quick else 10
    return [
        CRAWLER,
        Client("aiobotocore, a client each", _peer("aiobotocore_targets", "ACCOUNTS"), sample=sample),
    ]


def _peer(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"benchmarks.peers.{module}", *arguments)


def _go() -> Client:
    missing = ""
    if shutil.which("go") is None or not (_GO_LIBRARIES / "src/github.com/aws/aws-sdk-go-v2").is_dir():
        missing = "apt install golang-go golang-github-aws-aws-sdk-go-v2-dev"
    elif not _GO_PROGRAM.exists() or _GO_PROGRAM.stat().st_mtime < _GO_SOURCE.stat().st_mtime:
        _build_go()
    return Client("Go SDK v2, 50 in flight", (str(_GO_PROGRAM),), missing)


def _build_go() -> None:
    # GOPATH mode: Debian's libraries are no modules, and nothing is downloaded.
    build = ["env", "GO111MODULE=off", f"GOPATH={_GO_LIBRARIES}", "go", "build", "-o"]
    subprocess.run([*build, _GO_PROGRAM, _GO_SOURCE], check=True)


def _javascript() -> Client:
    missing = ""
    if shutil.which("node") is None:
        missing = "apt install nodejs npm, then npm ci in benchmarks/peers/js"
    elif not (_JS / "node_modules").is_dir():
        missing = "npm ci in benchmarks/peers/js"
    return Client("JavaScript SDK v3, 50 in flight", ("node", str(_JS / "main.js")), missing)
