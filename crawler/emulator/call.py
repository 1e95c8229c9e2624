"""A request that has been understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crawler.emulator.counters import Place
from crawler.emulator.sessions import Keys


@dataclass(slots=True)
class Call:
    """What is asked of which service, by whom and where. `account` is a registry that is named, or the caller's own."""

    service: str
    operation: str
    keys: Keys
    region: str
    params: dict[str, Any]
    account: str

    @property
    def place(self) -> Place:
        """Where it is counted and throttled."""
        return self.account, self.region, self.action

    @property
    def action(self) -> str:
        """As policies name it: `ecr:ListImages`."""
        return f"{self.service}:{self.operation}"
