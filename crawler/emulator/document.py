"""The estate file: YAML or JSON, read as strings, so that an account id needs no quotes.

hub: 999999999999                 # owner of the hub keys, manager of the organization
regions: [us-east-1, eu-west-1]   # what this AWS has
accounts:
- id: 000000000001
  name: payments
  state: ACTIVE                   # or SUSPENDED, PENDING_CLOSURE, CLOSED, PENDING_ACTIVATION
  ou: prod/payments
  regions: [us-east-1]            # enabled ones, all without it
  external_id: abc                # its roles ask for it
  trusted: [999999999999]         # who may assume its roles, anyone without it
  deny_role: true                 # nobody may
  deny: [ecr:ListImages]          # actions that its own policies do not allow
  readers: {000000000002: ["team-*"]}   # other accounts, and the repositories they may list
  throttle: {rate: 20, burst: 40, retry_after_ms: 500}
  repositories:
    us-east-1:
      team/api: 120               # so many images, one tag each
      team/web: {count: 30, untagged_every: 4, two_tags_every: 3, archived_every: 7, denied: true}
      team/odd:
        images:                   # one by one; a digest is made up where none is given
        - {tags: [latest, v1], status: ARCHIVED, digest: "sha256:…"}
        - {}
  public: {site: 3}               # its registry in ECR Public, in the same words
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import cast

import yaml

from crawler.emulator.account import Account, Repositories, Repository
from crawler.emulator.images import ACTIVATING, ACTIVE, ARCHIVED, Image, Listed, Mix, Series
from crawler.emulator.throttle import Throttle

_STATES = ("ACTIVE", "SUSPENDED", "PENDING_CLOSURE", "CLOSED", "PENDING_ACTIVATION")
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the file says; `hub` is empty and `regions` are none where it is silent."""

    accounts: list[Account]
    hub: str
    regions: tuple[str, ...]


def parse(text: str) -> Parsed:
    """Read an estate file. Raises ValueError that names the key and says what belongs there."""
    try:
        # BaseLoader leaves every scalar a string: no octal ids, no NO for Norway.
        tree: object = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes no objects  # nosec B506
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    top = _Node("", tree)
    parsed = Parsed(
        accounts=[_account(node) for node in top.take("accounts").items()],
        hub=top.take("hub").text(),
        regions=top.take("regions").texts(),
    )
    top.close()
    return parsed


class _Node:
    """A value of the file with the path to it. An absent one is empty whatever it is read as."""

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.value = cast("str | dict[str, object] | list[object] | None", value)
        self._taken: set[str] = set()

    def error(self, expected: str) -> ValueError:
        return ValueError(f"{self.path or 'the file'}: expected {expected}, not {self.value!r}")

    def map(self) -> dict[str, object]:
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error("a mapping")
        return self.value

    def take(self, key: str) -> _Node:
        self._taken.add(key)
        return _Node(f"{self.path}.{key}" if self.path else key, self.map().get(key))

    def pairs(self) -> list[tuple[str, _Node]]:
        return [(key, self.take(key)) for key in self.map()]

    def close(self) -> None:
        """Nothing may be left that nobody read."""
        for key in self.map():
            if key not in self._taken:
                raise ValueError(
                    f"{self.take(key).path}: unknown key; known are {', '.join(sorted(self._taken - {key}))}"
                )

    def items(self) -> list[_Node]:
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error("a list")
        return [_Node(f"{self.path}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self, default: str = "", choices: tuple[str, ...] = ()) -> str:
        value = default if self.value is None else self.value
        if not isinstance(value, str) or (choices and value not in choices):
            raise self.error(f"one of {', '.join(choices)}" if choices else "a string")
        return value

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def number(self, default: float = 0) -> float:
        try:
            return float(self.text(str(default)))
        except ValueError:
            raise self.error("a number") from None

    def flag(self) -> bool:
        return _TRUTHS[self.text("false", tuple(_TRUTHS))]


def _account(node: _Node) -> Account:
    identifier = node.take("id")
    if not (identifier.text().isdigit() and len(identifier.text()) == 12):  # noqa: PLR2004 - an account id has twelve digits
        raise identifier.error("an account id of twelve digits")
    account = Account(
        id=identifier.text(),
        name=node.take("name").text(),
        state=node.take("state").text("ACTIVE", _STATES),
        ou=node.take("ou").text().strip("/"),
        regions=node.take("regions").texts(),
        external_id=node.take("external_id").text() or None,
        trusted=node.take("trusted").texts(),
        deny_role=node.take("deny_role").flag(),
        deny=node.take("deny").texts(),
        readers={reader: globs.texts() for reader, globs in node.take("readers").pairs()},
        throttle=_throttle(node.take("throttle")),
        repositories={
            region: _repositories(f"{identifier.text()}/{region}", names)
            for region, names in node.take("repositories").pairs()
        },
        public=_repositories(f"{identifier.text()}/public", node.take("public")),
    )
    node.close()
    return account


def _throttle(node: _Node) -> Throttle | None:
    if node.value is None:
        return None
    wait = node.take("retry_after_ms")
    limit = Throttle(
        rate=node.take("rate").number(),
        burst=node.take("burst").number(1),
        retry_after_ms=None if wait.value is None else int(wait.number()),
    )
    node.close()
    return limit


def _repositories(key: str, node: _Node) -> Repositories:
    return {name: _repository(f"{key}/{name}", name, child) for name, child in node.pairs()}


def _repository(key: str, name: str, node: _Node) -> Repository:
    if isinstance(node.value, str):
        return Repository(name, Series(key, int(node.number())))
    count, images, denied = node.take("count"), node.take("images"), node.take("denied").flag()
    mix = Mix(
        untagged_every=int(node.take("untagged_every").number()),
        two_tags_every=int(node.take("two_tags_every").number()),
        archived_every=int(node.take("archived_every").number()),
    )
    node.close()
    if images.value is None:
        return Repository(name, Series(key, int(count.number()), mix), denied)
    return Repository(
        name, Listed(tuple(_image(f"{key}/{i}", image) for i, image in enumerate(images.items()))), denied
    )


def _image(key: str, node: _Node) -> Image:
    image = Image(
        digest=node.take("digest").text(f"sha256:{sha256(key.encode()).hexdigest()}"),
        tags=node.take("tags").texts(),
        status=node.take("status").text(ACTIVE, (ACTIVE, ARCHIVED, ACTIVATING)),
    )
    node.close()
    return image
