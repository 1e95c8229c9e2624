"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz [TARGET] SECONDS`, each target if none is named.

What is found goes to the corpus, tests/fuzz/corpus/TARGET, which `make test` reads; a crash is written beside it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crawler", "json", "email", "yaml"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"

#: Inputs of all targets together: with fewer, nothing was said.
AT_LEAST = 1_000_000


def fuzz(name: str, seconds: str, *options: str) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", f"-artifact_prefix={folder}/crash-"]
    atheris.Setup([sys.argv[0], str(folder), *limits, *options], TARGETS[name])
    atheris.Fuzz()


def fuzz_all(seconds: str) -> int:
    """Each in a process of its own; 1 where one was broken, or too little was tried."""
    total, broken = 0, []
    for name in TARGETS:
        done = subprocess.run([sys.executable, "-m", "tests.fuzz", name, seconds], stderr=subprocess.PIPE, check=False)
        told = re.search(rb"^Done (\d+) runs", done.stderr, re.MULTILINE)
        if done.returncode or told is None:
            broken.append(name)
            sys.stderr.buffer.write(done.stderr[-10_000:])
        inputs = int(told[1]) if told else 0
        total += inputs
        print(f"{name:14}{inputs:>12,} inputs", flush=True)
    print(f"{'':14}{total:>12,} in all, of {AT_LEAST:,}; broken: {', '.join(broken) or 'none'}")
    return int(bool(broken) or total < AT_LEAST)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit(fuzz_all(sys.argv[1]))
    fuzz(*sys.argv[1:])
