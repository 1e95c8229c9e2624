"""Faults by name, and the plan that says when each strikes.

A rule strikes on ECR's operations unless it names another (`AssumeRole`, `ListAccounts`, …). What it does is decided by
the seed and by the place of the request in its chain of pages, never by the order in which requests happen to arrive.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, NamedTuple, cast

_REFUSED = {
    "throttling": "400 ThrottlingException; `retry_after_ms` adds x-amz-retry-after",
    "throttling-429": "429 ThrottleException, a code that no list of throttles holds",
    "limit-exceeded": "400 LimitExceededException",
    "server-error": "500 ServerException",
    "unavailable": "503 with a body that is not JSON",
    "token-rejected": "400 InvalidParameterException for the nextToken, now and whenever it comes again",
    "repository-deleted": "400 RepositoryNotFoundException from page 2 (or `page`) on, for good",
    "expired-token": "400 ExpiredTokenException; the keys stay good",
    "session-ended": "the keys themselves expire here: refused until the role is assumed again",
    "time-too-skewed": "403 RequestTimeTooSkewed, the Date header 20 minutes ahead",
    "invalid-signature": "403 InvalidSignatureException",
    "access-denied": "400 AccessDeniedException, no identity-based policy allows",
    "access-denied-resource-policy": "400 AccessDeniedException, explicit deny in a resource-based policy",
    "unrecognized-client": "400 UnrecognizedClientException, as from a region that is not enabled",
}
_DELIVERED = {
    "reset-before-response": "the request is taken and the connection reset (RST)",
    "reset-mid-body": "headers and half of the body, then a reset (RST)",
    "short-fin": "headers and half of the body, then an orderly close (FIN)",
    "unterminated-chunk": "a chunked body without its last chunk, then an orderly close",
    "content-length-too-large": "Content-Length promises more than comes before the close",
    "content-length-too-small": "Content-Length promises less than comes; the connection stays open",
    "stall": "the request is taken and never answered, or after `seconds`",
    "slow-loris": "the body comes byte by byte, one every `seconds` (0.2)",
    "chunked-body": "harmless: a whole body in chunks",
    "answered-twice": "harmless: the whole answer a second time, as if to the next request",
}
_ALTERED = {
    "malformed-json": "200, the JSON cut off in the middle",
    "doubled-body": "200, the whole JSON twice",
    "empty-body": "200 without a body",
    "html": "200 with an HTML page",
    "null-body": "200 with `null`",
    "array-body": "200 with `[]` as the document",
    "missing-image-ids": "200 with `{}`",
    "image-ids-not-a-list": "200, an object where the list should be",
    "redirect": "307 to `location`, by default a path here that records whether credentials came along",
    "gzip-body": "harmless: a whole body under Content-Encoding gzip",
}
_PAGED = {
    "same-token": "from page 2 on the answer carries the token that was sent: A, A",
    "cycling-tokens": "two tokens lead to each other: A, B, A, B",
    "endless-tokens": "the chain begins anew at its end, with a new token on every page",
    "empty-page": "an empty page with a token that leads to the data",
    "endless-empty-pages": "an empty page with a new token, again and again",
    "empty-token": 'the last page has "" as its token',
}

#: Every fault: its name and what it does.
FAULTS: Mapping[str, str] = _REFUSED | _DELIVERED | _ALTERED | _PAGED

REFUSED, DELIVERED, ALTERED = frozenset(_REFUSED), frozenset(_DELIVERED), frozenset(_ALTERED)

#: These are only what they say if they keep on.
_ENDLESS = {
    "same-token",
    "cycling-tokens",
    "endless-tokens",
    "endless-empty-pages",
    "empty-token",
    "repository-deleted",
}
#: There is no token to send back, to reject, or to be surprised by, before page 2.
_FROM_SECOND_PAGE = {"same-token", "token-rejected", "repository-deleted"}

ALWAYS = 0


class Occasion(NamedTuple):
    """A request as the plan sees it: `account` is the registry's, `page` counts from 1, `chain` tells chains apart."""

    operation: str
    account: str
    region: str
    repository: str
    page: int
    chain: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a fault strikes. `operation`, `account`, `region` and `repository` are globs.

    `pages` are the pages of a chain on which it may, none for all; `times` how often it does in each chain, ALWAYS (0)
    for no end, None for what suits the fault (once, or always); `limit` how often in all; `probability` how likely it
    is each time. `status` replaces the HTTP status of a refusal or redirect; `seconds`, `location` and `retry_after_ms`
    are for the faults that mention them.
    """

    fault: str
    operation: str = ""
    account: str = "*"
    region: str = "*"
    repository: str = ""
    pages: tuple[int, ...] = ()
    times: int | None = None
    limit: int | None = None
    probability: float = 1.0
    status: int | None = None
    seconds: float | None = None
    location: str = "/redirected"
    retry_after_ms: int | None = None

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"no fault is called {self.fault!r}; there are {', '.join(FAULTS)}")

    @classmethod
    def of(cls, value: Rule | Mapping[str, Any] | str) -> Rule:
        """A rule as such, as a mapping, or as text: `throttling:times=2,page=1+3,repository=team/*`.

        `page` is one page or several; `times` may be `always`. Raises ValueError for what it does not know.
        """
        if isinstance(value, Rule):
            return value
        if isinstance(value, str):
            name, _, rest = value.partition(":")
            pairs = [part.partition("=") for part in rest.split(",") if part]
            return cls.of({"fault": name} | {key: text for key, _, text in pairs})
        unknown = set(value) - set(_READERS)
        if unknown:
            raise ValueError(f"a fault rule has no {', '.join(sorted(unknown))}; it has {', '.join(_READERS)}")
        read = {("pages" if key == "page" else key): _READERS[key](field) for key, field in value.items()}
        return cls(**read)

    def matches(self, occasion: Occasion) -> bool:
        """Whether it may strike there."""
        pages = self.pages
        if self.fault == "repository-deleted":
            far_enough = occasion.page >= (min(pages) if pages else 2)
        else:
            far_enough = occasion.page in pages if pages else occasion.page > 1 or self.fault not in _FROM_SECOND_PAGE
        return (
            far_enough
            and _is_operation(occasion.operation, self.operation)
            and fnmatchcase(occasion.account, self.account)
            and fnmatchcase(occasion.region, self.region)
            and (not self.repository or fnmatchcase(occasion.repository, self.repository))
        )

    @property
    def most(self) -> int:
        """How often it strikes in one chain; 0 for no end."""
        if self.times is not None:
            return self.times
        return ALWAYS if self.fault in _ENDLESS else 1


class Plan:
    """Decides for each request which fault strikes it, and keeps count."""

    def __init__(self, rules: Iterable[Rule | Mapping[str, Any] | str], seed: int) -> None:
        self._rules = [Rule.of(rule) for rule in rules]
        self._seed = seed
        self._struck: Counter[tuple[int, Hashable]] = Counter()
        self._tried: Counter[tuple[int, Hashable, int]] = Counter()
        self._total: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._rules)

    def strike(self, occasion: Occasion) -> Rule | None:
        """The first rule that strikes this request, or None."""
        for number, rule in enumerate(self._rules):
            if rule.matches(occasion) and self._strikes(number, rule, occasion):
                self._struck[number, occasion.chain] += 1
                self._total[number] += 1
                return rule
        return None

    def _strikes(self, number: int, rule: Rule, occasion: Occasion) -> bool:
        if rule.most != ALWAYS and self._struck[number, occasion.chain] >= rule.most:
            return False
        if rule.limit is not None and self._total[number] >= rule.limit:
            return False
        if rule.probability >= 1:
            return True
        place = (number, occasion.chain, occasion.page)
        self._tried[place] += 1
        digest = sha256(f"{self._seed}/{place}/{self._tried[place]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < rule.probability * 2**64


def _is_operation(operation: str, glob: str) -> bool:
    if glob:
        return fnmatchcase(operation, glob)
    return operation in ("DescribeRepositories", "ListImages", "DescribeImages")


def _pages(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        return tuple(int(page) for page in value.split("+"))
    return (value,) if isinstance(value, int) else tuple(cast("Iterable[int]", value))


def _times(value: object) -> int:
    return ALWAYS if value == "always" else int(cast("int", value))


_READERS: dict[str, Callable[[Any], Any]] = {field.name: str for field in dataclasses.fields(Rule)} | {
    "page": _pages,
    "pages": _pages,
    "times": _times,
    "limit": int,
    "status": int,
    "probability": float,
    "seconds": float,
    "retry_after_ms": int,
}
