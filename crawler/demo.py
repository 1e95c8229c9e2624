"""The main job, rehearsed: the emulator serves a made-up company, the crawler lists it, every row is checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from crawler.emulator import Estate, Options, running
from crawler.wording import counted

Row = tuple[str, str, str, str, str | None]


def demonstrate(output: str, *, accounts: int, seed: int) -> int:
    """Crawl into `output` and compare its rows with the estate; exit code 0 when they are the same."""
    estate = Estate.generate(seed=seed, accounts=accounts)
    with running(estate, Options()) as emulator, tempfile.TemporaryDirectory() as folder:
        accounts_file = Path(folder, "accounts.yaml")
        accounts_file.write_text(estate.accounts_yaml())
        command = [sys.executable, "-m", "crawler", "--accounts", str(accounts_file), "--output", output]
        shown = f"crawler --accounts accounts.yaml --output {output}"
        sys.stderr.write(
            f"An emulated AWS with {counted(accounts, 'account')} and a hub answers at {emulator.url}.\n$ {shown}\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CRAWLER_"))}
        # The emulator's own environment wins over the user's, whose real keys have no business here.
        crawl = subprocess.run(command, env=environment | emulator.environment(), check=False)  # noqa: S603  (our own command line)  # nosec B603
    if crawl.returncode != 0:
        return crawl.returncode
    return _check(output, Counter(estate.rows()))


def _check(output: str, expected: Counter[Row]) -> int:
    with Path(output).open("rb") as lines:
        found = Counter(_row(line) for line in lines)
    missing, surplus = (expected - found).total(), (found - expected).total()
    sys.stderr.write(
        f"{output}: {counted(found.total(), 'row')}, {missing:,} missing, {surplus:,} that should not be there.\n"
    )
    return 1 if missing or surplus else 0


def _row(line: bytes) -> Row:
    row = json.loads(line)
    return (row["registryId"], row["region"], row["repositoryName"], row["imageDigest"], row["imageTag"])
