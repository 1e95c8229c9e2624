"""Regions that are not enabled, told from keys that are wrong: the service says the same of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crawler.errors import KEYS_UNKNOWN
from crawler.model import Outcome, Result, Target


class Doubts:
    """What is to be known of the targets of one account before those can be told that did not know its keys.

    Where one region knew the keys, another that does not is not enabled: unless AWS has just called it so, as `regions`
    tell (see `Registries.regions`). `answered` tells whether one has known them. All else shows in the results: who has
    an account crawled in pieces can tell, too.
    """

    def __init__(self, regions: Mapping[str, bool], targets: Iterable[Target], *, answered: bool) -> None:
        public = {target.region for target in targets if target.public}  # that one is enabled for everyone
        self._enabled = {region for region, told in regions.items() if told} | public
        self._waiting: list[Result] = []
        self.answered = answered

    def holds(self, result: Result) -> bool:
        """Look at how a target ended; true where that has to wait for the others, and is kept for `settled`."""
        chain, denied = result.chain, result.outcome is Outcome.DENIED
        unknown = denied and result.code in KEYS_UNKNOWN
        if unknown and not chain.pages and result.unit.region not in self._enabled:
            self._waiting.append(result)
            return True
        # A refusal is an answer, if it is ECR's own and not that of what was to find keys.
        self.answered |= chain.pages > 0 or (denied and not unknown and chain.attempts > 0)
        return False

    def settled(self) -> list[Result]:
        """Those that waited, as they are to be told by now."""
        if not self.answered:
            return self._waiting
        return [replace(result, outcome=Outcome.REGION_DISABLED) for result in self._waiting]
