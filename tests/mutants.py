"""What mutmut found, module by module: `python -m tests.mutants` after `mutmut run`; see mutation.md beside it.

Fails where fewer than 85 % of a module's mutants are killed. One that runs out of time is killed too: somebody noticed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_LEAST = 0.85

#: Exit codes of pytest, and of a process that has used up its CPU time.
_SURVIVED, _KILLED = (0,), (1, 3, 24, -24, 36, 152, 255)


def main() -> None:
    weak = []
    for path in sorted(Path("mutants").rglob("*.py.meta")):
        codes = json.loads(path.read_bytes())["exit_code_by_key"]
        if not codes:
            continue
        killed = sum(code in _KILLED for code in codes.values())
        module = path.relative_to("mutants").with_suffix("")
        print(f"{module}: {killed} of {len(codes)} killed, {killed / len(codes):.1%}")
        if killed < _LEAST * len(codes):
            weak.append(str(module))
        for name, code in codes.items():
            if code not in _KILLED:
                print(f"  {name}: {'survived' if code in _SURVIVED else f'not judged, exit code {code}'}")
    print("`mutmut show NAME` shows one of them")
    if weak:
        sys.exit(f"fewer than {_LEAST:.0%}: {', '.join(weak)}")


if __name__ == "__main__":
    main()
