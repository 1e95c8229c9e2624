"""Chains of pages and the tokens that lead along them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections import Counter
from typing import NamedTuple

from crawler.emulator.messages import Refusal

_PLACE = struct.Struct(">QI")
_MAC_BYTES = 12


class Chain(NamedTuple):
    """All that a token is bound to. `caller` is an account, so that renewed keys may go on."""

    operation: str
    caller: str
    registry: str
    region: str
    subject: str
    filter: str
    size: int


class Position(NamedTuple):
    """Where a chain is: the row that the page starts at, and a number that tells tokens to the same row apart."""

    start: int
    turn: int


class Page(NamedTuple):
    """The rows to answer with, `start` to `stop`, and the token to what follows, None at the end."""

    start: int
    stop: int
    next_token: str | None


class Tokens:
    """Makes and reads tokens: opaque, and good in the one chain that they were made for."""

    def __init__(self, seed: int) -> None:
        self._key = hashlib.sha256(f"tokens/{seed}".encode()).digest()
        self._revoked: Counter[Chain] = Counter()

    def position(self, chain: Chain, token: str | None, code: str) -> Position:
        """Where the token leads. Raises `Refusal` with that code if it was not made for this chain."""
        oldest = self._revoked[chain] if self._revoked else 0
        if token is None:
            return Position(0, oldest)
        try:
            data = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
            position = Position(*_PLACE.unpack_from(data))
        except (ValueError, binascii.Error, struct.error):
            position = None
        if position is None or position.turn < oldest or not hmac.compare_digest(token, self.token(chain, position)):
            raise Refusal(code, "Invalid parameter at 'nextToken': the token is invalid or of another request.")
        return position

    def token(self, chain: Chain, position: Position) -> str:
        """The token of that position."""
        place = _PLACE.pack(*position)
        mac = hashlib.blake2b(repr(chain).encode() + place, key=self._key, digest_size=_MAC_BYTES).digest()
        return base64.urlsafe_b64encode(place + mac).decode()

    def revoke(self, chain: Chain) -> None:
        """Tokens made for the chain so far are refused; one that starts again gets new ones."""
        self._revoked[chain] += 1

    def page(self, chain: Chain, position: Position, token: str | None, total: int, fault: str | None) -> Page:
        """The page at that position of `total` rows, as the fault would have it."""
        start, turn = position
        stop = min(start + chain.size, total)
        following: Position | None = Position(stop, turn) if stop < total else None
        if fault == "same-token" and token is not None:
            return Page(start, stop, token)
        if fault == "cycling-tokens":
            following = Position(chain.size if start == 0 else 0, turn)
        elif fault == "endless-tokens":
            following = Position(stop if stop < total else 0, turn + 1)
        elif fault in ("empty-page", "endless-empty-pages"):
            stop, following = start, Position(start, turn + 1)
        if following is None:
            return Page(start, stop, "" if fault == "empty-token" else None)
        return Page(start, stop, self.token(chain, following))
