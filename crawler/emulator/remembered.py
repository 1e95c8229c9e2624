"""Answers that were given before, given again: what makes the server faster than what is measured against it."""

from __future__ import annotations

from collections.abc import Callable

from crawler.emulator.counters import Place
from crawler.emulator.messages import Answer, Request

_MOST_BYTES = 512 * 1024 * 1024
_ECR = b"AmazonEC2ContainerRegistry"


class Remembered:
    """Whole answers of ECR by who asks what, in at most 512 MiB: what comes after that is made each time.

    Clients write the same question in different ways. Their equal answers are kept once, so that several clients can
    be warmed up beside each other.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[bytes, bytes, bytes], tuple[Answer, Place]] = {}
        self._by_body: dict[bytes, Answer] = {}
        self._room = _MOST_BYTES

    def answer(self, request: Request, make: Callable[[Request], tuple[Answer, Place]]) -> tuple[Answer, Place]:
        """The answer of last time, or a new one from `make`. Refusals are not kept."""
        # The two spellings in use; whoever writes these names in another way is answered anew each time.
        fields = request.fields
        target = fields.get(b"X-Amz-Target") or fields.get(b"x-amz-target") or b""
        scope = (fields.get(b"Authorization") or fields.get(b"authorization") or b"").split(b"/", 3)
        # The account is in the key's name (see `Sessions.issue`): new keys of an old account find its old answers.
        who = scope[0][-16:-4] + scope[2] if len(scope) > 3 else b""  # noqa: PLR2004 - key, date, region, the rest
        key = (target, who, request.body)
        found = self._answers.get(key)
        if found is None:
            found = make(request)
            if who and target.startswith(_ECR) and found[0].error is None and self._room > 0:
                answer = self._by_body.setdefault(found[0].body, found[0])
                self._answers[key] = (answer, found[1])
                self._room -= len(request.body) + (len(answer.body) if answer is found[0] else 0)
        return found
