"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET SECONDS`. Needs the group `fuzz`.

What is found goes to the corpus, tests/fuzz/corpus/TARGET, which `make test` reads; a crash is written beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crawler", "json", "email", "yaml"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def main(name: str, seconds: str, *options: str) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", f"-artifact_prefix={folder}/crash-"]
    atheris.Setup([sys.argv[0], str(folder), *limits, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
