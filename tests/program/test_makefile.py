"""The Makefile, which is the first thing that a new user runs, and which nothing else reads but make itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make") or "make"


def test_make_can_read_it_and_its_help_names_every_target() -> None:
    dry = subprocess.run([MAKE, "--dry-run", "demo", "help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    (targets,) = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = set(re.findall(r"(?:echo 'make |, )([\w-]+)(?=[ ,])", dry.stdout))
    assert set(targets.split()) - told == {"help", "mypy", "pyright"}
