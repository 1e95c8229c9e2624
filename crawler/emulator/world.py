"""The state behind all services, and the gate that every request passes: counted, throttled, struck by faults."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crawler.emulator.account import Account
from crawler.emulator.call import Call
from crawler.emulator.counters import Counters
from crawler.emulator.estate import Estate
from crawler.emulator.faults import REFUSED, Occasion, Plan, Rule
from crawler.emulator.messages import Refusal
from crawler.emulator.paging import Chain, Tokens
from crawler.emulator.refusals import struck
from crawler.emulator.sessions import Sessions
from crawler.emulator.throttle import Buckets, Throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the server behaves. Times are in seconds.

    checks: hold requests against botocore's models, verify signatures and rights. Without, any key will do, and the
        server is fast: an unknown key whose name holds an account id (as those of AssumeRole do) acts for that
        account, every other for the hub.
    latency: before each answer, fixed or (least, most) at random from the seed.
    throttle: of each (registry, region, operation) of ECR; an account's own takes its place.
    faults: rules, mappings or text, see `Rule.of`; the first that strikes a request wins.
    seed: of faults, tokens, keys and latency.
    dialect: "2016" is ECR as it was: up to 100 results, no `imageStatus`, no tagStatus ANY.
    session_seconds: lifetime of assumed roles, instead of the DurationSeconds asked for.
    account_fields: which of `State` and `Status` Organizations tells.
    empty_pages: Organizations gives an empty page with a token after every full one.
    tls: serve HTTPS with this context.
    clock: now, in seconds since 1970.
    """

    checks: bool = True
    latency: float | tuple[float, float] = 0.0
    throttle: Throttle | None = None
    faults: Sequence[Rule | Mapping[str, Any] | str] = ()
    seed: int = 0
    dialect: Literal["2026", "2016"] = "2026"
    session_seconds: float | None = None
    account_fields: tuple[Literal["State", "Status"], ...] = ("State", "Status")
    empty_pages: bool = False
    tls: ssl.SSLContext | None = None
    clock: Callable[[], float] = time.time


class World:
    """Everything that outlasts a request."""

    def __init__(self, estate: Estate, options: Options) -> None:
        self.estate = estate
        self.options = options
        self.sessions = Sessions(estate.hub, estate.partition, options.seed)
        self.tokens = Tokens(options.seed)
        self.plan = Plan(options.faults, options.seed)
        self.counters = Counters()
        #: (registry, region, repository) that a fault has deleted. DescribeRepositories goes on naming them: taken
        #: out, the rest would move up, and a chain of pages under way would miss one.
        self.deleted: set[tuple[str, str, str]] = set()
        self._buckets = Buckets()

    @property
    def repeats_itself(self) -> bool:
        """Whether the same request of ECR always gets the same answer, so that it can be remembered."""
        limited = self.options.throttle is not None or any(a.throttle for a in self.estate.accounts.values())
        return not (self.options.checks or self.plan or limited)

    def account(self, account_id: str) -> Account | None:
        """The account of that id."""
        return self.estate.accounts.get(account_id)

    def throttle(self, call: Call) -> None:
        """Take a token of the bucket of the place, or raise `Refusal`."""
        account = self.account(call.account)
        limit = (account and account.throttle) or self.options.throttle
        if limit is None or self._buckets.take(call.place, limit, self.options.clock()):
            return
        self.counters.throttled[call.place] += 1
        wait = {} if limit.retry_after_ms is None else {"x-amz-retry-after": str(limit.retry_after_ms)}
        raise Refusal("ThrottlingException", "Rate exceeded", headers=wait)

    def fault(self, call: Call, subject: str, page: int, chain: Chain | None = None) -> Rule | None:
        """The rule that strikes this call, for the caller to obey; faults that are refusals are raised here."""
        if not self.plan:
            return None
        bound = chain or Chain(call.operation, call.keys.account_id, call.account, call.region, subject, "", 0)
        rule = self.plan.strike(Occasion(call.operation, call.account, call.region, subject, page, bound))
        if rule is None:
            return None
        self.counters.faults[rule.fault] += 1
        if rule.fault == "token-rejected":
            self.tokens.revoke(bound)
        elif rule.fault == "repository-deleted":
            self.deleted.add((call.account, call.region, subject))
        elif rule.fault == "session-ended":
            self.sessions.end(call.keys)
        if rule.fault in REFUSED:
            raise struck(rule, call, subject)
        return rule
