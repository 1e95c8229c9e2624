"""Regions that are not enabled, told from keys that are wrong: the service says the same of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import anyio

from crawler.errors import KEYS_UNKNOWN, CrawlError, Denied, Fatal, KeysExpired, KeysUnknown
from crawler.model import Outcome, Result, Target
from crawler.registry import Registries
from crawler.retry import RetryPolicy, persist


class Doubts:
    """What is to be known of the targets of one account before those can be told that did not know its keys.

    Where one region knows the keys, another that does not is not enabled: unless AWS has just called it so, as
    `regions` tell (see `Registries.regions`). Keys may be taken back while a run goes on, or before it is resumed, so
    an answer that came before the refusal says little: who gave it, now or to an earlier attempt (`held`), is asked
    once more. All else shows in the results: who has an account crawled in pieces can tell, too.

    What this cannot tell: keys so new that not all regions have heard of them, and keys that are taken back and given
    again meanwhile. A region that is called disabled is therefore asked again by whoever resumes the run.
    """

    def __init__(self, regions: Mapping[str, bool], targets: Iterable[Target], held: Iterable[Target] = ()) -> None:
        self._targets: dict[tuple[str | None, str | None], Target] = {
            (target.registry_id, target.region): target for target in targets
        }
        public = {target.region for target in self._targets.values() if target.public}  # enabled for everyone
        self._enabled = {region for region, told in regions.items() if told} | public
        self._waiting: list[Result] = []
        self._witnesses = deque(held)
        self._known = False

    def holds(self, result: Result) -> bool:
        """Look at how a target ended; true where that has to wait for the others, and is kept for `settled`."""
        unit, chain = result.unit, result.chain
        # A refusal is an answer, if it is ECR's own and not that of what was to find keys.
        if not chain.pages and (result.outcome is not Outcome.DENIED or not chain.attempts):
            return False
        if chain.pages or result.code not in KEYS_UNKNOWN:
            self.answered([self._targets[unit.registry_id, unit.region]])
            return False
        if unit.region in self._enabled:
            return False
        self._waiting.append(result)
        return True

    def answered(self, targets: Iterable[Target]) -> None:
        """Note that of these targets, at least one has known the keys."""
        self._witnesses.extendleft(targets)

    async def ask(self, registries: Registries, policy: RetryPolicy) -> None:
        """Ask those who knew the keys until one does; nobody where nothing waits. Raises `Fatal`.

        One request to each, persisted in, and no longer for all of them than `policy` is for one.
        """
        with anyio.move_on_after(policy.seconds):
            while self._waiting and self._witnesses and not self._known:
                self._known = await _knows(self._witnesses.popleft(), registries, policy)

    def settled(self) -> list[Result]:
        """Those that waited, as they are to be told by now; they wait no longer."""
        waiting, self._waiting = self._waiting, []
        if not self._known:
            return waiting
        return [replace(result, outcome=Outcome.REGION_DISABLED) for result in waiting]


async def _knows(target: Target, registries: Registries, policy: RetryPolicy) -> bool:
    opened = False
    try:
        registry = await registries.open(target)
        opened = True
        await persist(partial(registry.repositories(), None), policy)
    except Fatal:
        raise
    except CrawlError as error:
        return opened and isinstance(error, Denied) and not isinstance(error, KeysUnknown | KeysExpired)
    return True
