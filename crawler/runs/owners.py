"""Who runs an attempt, and whether that process has certainly ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def ourselves() -> dict[str, str]:
    """This process: host, process id, and what tells it from a later one of the same id."""
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
        "pid": str(os.getpid()),
        "began": _began(os.getpid()),
    }


def dead(owner: Mapping[str, str]) -> bool:
    """Tell whether the process is known to have ended. False where that cannot be seen from here.

    Another process may have its id by now, so when it began is compared too. In another container, with ids of its
    own, or on another machine, nothing is known.
    """
    here = ourselves()
    if not owner.get("boot") or any(owner.get(key) != here[key] for key in ("host", "boot", "namespace")):
        return False
    pid = owner.get("pid", "")
    return pid.isdecimal() and _began(int(pid)) != owner.get("began")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()  # a command may have any name
    except OSError:  # not Linux
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Clock ticks after boot at which the process began (proc(5)); empty if there is none, or not for us to see."""
    # What follows the command's name, which may hold anything: state, and 19 fields on the start time.
    state, *fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["X"]
    return "" if state in "ZX" else fields[18]
