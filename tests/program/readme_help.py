"""Put the program's own --help into the README: `python -m tests.program.readme_help`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
OPENING = "```text\n"


def program_help() -> str:
    """Return `--help` at 100 columns, without trailing blanks."""
    done = subprocess.run(
        [sys.executable, "-m", "crawler", "--help"],
        env={**os.environ, "COLUMNS": "100"},
        check=True,
        capture_output=True,
        text=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).rstrip()


def split(readme: str) -> tuple[str, str, str]:
    """Split the README into what is before the help block, the block, and what is after."""
    before, rest = readme.split("<!-- help:", 1)
    comment, rest = rest.split(OPENING, 1)
    block, after = rest.split("```", 1)
    return f"{before}<!-- help:{comment}{OPENING}", block, f"```{after}"


if __name__ == "__main__":
    before, _, after = split(README.read_text())
    README.write_text(f"{before}{program_help()}\n{after}")
