"""How many files a process may open."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_descriptors() -> None:
    """Ask for as many as the system allows: each connection is one, and 1,024 is a usual default."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems call no limit a number that they do not take back
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
