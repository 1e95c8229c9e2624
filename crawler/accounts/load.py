"""accounts.yaml, from bytes to `model.Account`s: everything wrong with it is said at once."""

from __future__ import annotations

import gc
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from crawler.accounts import checks, messages
from crawler.accounts.document import MAX_DEPTH, Node, read
from crawler.accounts.fields import split_regions
from crawler.accounts.problems import Path, Problem, lines, shown
from crawler.accounts.schema import AccountEntry, Defaults, GlobalVariables, OrganizationEntry, Outline, Settings
from crawler.errors import UsageError
from crawler.model import Account, Identity, Organization

ModelT = TypeVar("ModelT", bound=BaseModel)

#: A file with so many errors is not checked further: memory must not grow with their number.
_MAX_PROBLEMS = 1_000
#: Seconds that keys of a chain of roles hold at most: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
_LONGEST_IN_CHAIN = 3_600

_SESSION_NAME = Account(account_id="").session_name


@dataclass(frozen=True, slots=True)
class AccountsFile:
    """What the file says: `accounts`, or an `organization` (then `accounts` is empty). `warnings` are lines to show."""

    accounts: tuple[Account, ...] = ()
    organization: Organization | None = None
    warnings: tuple[str, ...] = ()


def load(source: str, text: bytes, regions: Collection[str] = ()) -> AccountsFile:
    """The accounts of a file. `source` is its name for messages, "-" for standard input.

    `regions` are those that are known; any other is a warning, no error: AWS may have opened it since. None: no check.

    Of `role` and `profile` the role wins and the profile is dropped, as in c7n-org.

    Raises:
        UsageError: with a line for each thing that is wrong, `file:line:column: path: what; what to write instead`.
    """
    name = "<stdin>" if source == "-" else source
    with _no_cycles():
        document = read(text)
        if document.root is None:
            raise UsageError("\n".join(lines(name, document.problems)))
        loading = _Loading(document.root, document.problems, regions)
        accounts, organization = loading.file()
        if loading.problems:
            raise UsageError("\n".join(lines(name, loading.problems)))
        return AccountsFile(tuple(accounts), organization, tuple(lines(name, loading.warnings)))


@contextmanager
def _no_cycles() -> Generator[None]:
    """Without the collector of reference cycles: it finds none here, and walking the nodes takes as long as reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loading:
    """One pass over a document, collecting what is wrong. `problems` begin with those of the YAML itself."""

    def __init__(self, root: Node, problems: list[Problem], known_regions: Collection[str]) -> None:
        self.problems = problems
        self.warnings: list[Problem] = []
        self._root = root
        self._known_regions = known_regions
        #: Where the YAML was refused already, so that what follows from it is not reported too.
        self._refused = {(problem.line, problem.column) for problem in problems}

    def file(self) -> tuple[list[Account], Organization | None]:
        outline = self._validated(Outline, (), depth=2)  # not a copy of the whole file
        if outline is None and not isinstance(self._root.value, dict):
            return [], None
        keys = cast("dict[str, Node]", self._root.value)
        if "accounts" in keys and "organization" in keys:
            self._refuse(("organization",), "accounts: and organization: are two forms of the file; keep one", key=True)
        elif "accounts" not in keys and "organization" not in keys:
            self._refuse((), "neither accounts: nor organization: is there; write accounts: and a list of accounts")
        defaults = None
        if "vars" in keys and keys["vars"].value is not None:
            variables = self._validated(GlobalVariables, ("vars",))
            defaults = variables.crawler if variables else None
        organization = self._organization(defaults) if "organization" in keys else None
        accounts = dict(self._accounts(defaults)) if "accounts" in keys else {}
        self.problems += islice(checks.repeated(self._reaches(accounts)), _MAX_PROBLEMS)
        self.warnings += islice(checks.ambiguous(self._names(accounts)), _MAX_PROBLEMS)
        return list(accounts.values()), organization

    def _accounts(self, defaults: Defaults | None) -> Iterator[tuple[Path, Account]]:
        nodes = self._root.find(("accounts",))[0].value
        for index in range(len(nodes) if isinstance(nodes, list) else 0):
            if len(self.problems) >= _MAX_PROBLEMS:
                return
            path: Path = ("accounts", index)
            if entry := self._validated(AccountEntry, path):
                if len(self.warnings) < _MAX_PROBLEMS:
                    self.warnings += islice(messages.misspelled(self._root.find(path)[0], path), _MAX_PROBLEMS)
                yield path, self._account(path, entry, defaults)

    def _account(self, path: Path, entry: AccountEntry, defaults: Defaults | None) -> Account:
        settings = _merged(defaults, entry.vars.crawler if entry.vars else None, entry.crawler)
        self._check_duration(path, settings, len(entry.role))
        if entry.external_id and not entry.role:
            self._warn((*path, "external_id"), "is not used without a role; add the role it belongs to, or remove it")
        owner = entry.role[-1].split(":")[4] if entry.role and entry.role[-1].startswith("arn:") else "{account_id}"
        if owner not in (entry.account_id, "{account_id}"):
            text = f"is a role of account {owner}, and account_id is {entry.account_id}, whose registry it will read"
            self._warn((*path, "role"), f"{text}; correct one of the two, unless that is meant")
        return replace(
            _pattern(settings),
            account_id=entry.account_id,
            name=entry.name or entry.display_name or "",
            profile=None if entry.role else entry.profile or None,
            role=tuple(entry.role),
            external_ids=(entry.external_id,) * len(entry.role) if entry.external_id else (),
            regions=self._regions(path, entry.regions),
            tags=tuple(entry.tags or ()),
        )

    def _organization(self, defaults: Defaults | None) -> Organization | None:
        path: Path = ("organization",)
        entry = self._validated(OrganizationEntry, path)
        if entry is None:
            return None
        settings = _merged(defaults, entry.crawler)
        self._check_duration(path, settings, len(entry.role) + 1)
        if entry.hub_external_id and not entry.role:
            text = "is for assuming the hub's role, and there is none; write role:, or remove it"
            self._refuse((*path, "hub_external_id"), text)
        of_hub = (entry.hub_external_id or None,) * len(entry.role)
        of_member = entry.external_id or None
        member = replace(
            _pattern(settings),
            profile=entry.profile or None,
            role=(*entry.role, entry.member_role),
            external_ids=(*of_hub, of_member),
            regions=self._regions(path, entry.regions),
        )
        hub = Identity(
            profile=member.profile,
            roles=tuple(entry.role),
            external_ids=of_hub,
            session_name=member.session_name,
            session_tags=member.session_tags,
            duration=member.duration,
        )
        return Organization(hub, member, tuple(entry.include_ous or ()), tuple(entry.exclude or ()))

    def _validated(self, model: type[ModelT], path: Path, depth: int = MAX_DEPTH) -> ModelT | None:
        try:
            return model.model_validate(self._root.find(path)[0].plain(depth))
        except ValidationError as error:
            for problem in islice(messages.problems(error, self._root, path), _MAX_PROBLEMS):
                if (problem.line, problem.column) not in self._refused:
                    self.problems.append(problem)
            return None

    def _regions(self, path: Path, listed: list[str] | None) -> tuple[str, ...]:
        if listed == []:
            text = "is empty, so every enabled region is crawled, where c7n-org takes us-east-1 and us-west-2"
            self._warn((*path, "regions"), f"{text}; write regions: [all], or name them")
        for index, item in enumerate(listed or () if self._known_regions else ()):
            for part in split_regions(item):
                if part != "all" and (unknown := checks.unknown_region(part, self._known_regions)):
                    self._warn((*path, "regions", index), unknown)
        regions = dict.fromkeys(part for item in listed or ("all",) for part in split_regions(item))
        return ("all",) if "all" in regions or not regions else tuple(regions)

    def _check_duration(self, path: Path, settings: Settings, roles: int) -> None:
        duration = settings.duration_seconds or 0
        if roles > 1 and duration > _LONGEST_IN_CHAIN:
            where = self._setting(path, "duration_seconds")
            text = f"is {duration}, but keys from a chain of {roles} roles hold for {_LONGEST_IN_CHAIN} s at most"
            self._refuse(where, f"{text}; write duration_seconds: {_LONGEST_IN_CHAIN} under crawler: of {shown(path)}")

    def _setting(self, path: Path, *name: str | int) -> Path:
        """Where a merged setting was read from: the last place that says it."""
        places: list[Path] = [(*path, "crawler", *name), (*path, "vars", "crawler", *name), ("vars", "crawler", *name)]
        return next((place for place in places if self._root.find(place)[1] == place), path)

    def _reaches(self, accounts: dict[Path, Account]) -> Iterator[checks.Reach]:
        for path, account in accounts.items():
            ways: list[tuple[str, Path]] = [(account.account_id, (*path, "account_id"))]
            for index, registry_id in enumerate(account.registries):
                ways.append((registry_id, self._setting(path, "registries", index)))
            for registry_id, place in ways:
                node = self._root.find(place)[0]
                yield checks.Reach(registry_id, account.regions, node.line, node.column, shown(place))

    def _names(self, accounts: dict[Path, Account]) -> Iterator[tuple[str, int, int, str]]:
        for path in accounts:
            node, found = self._root.find((*path, "name"))
            if isinstance(node.value, str):
                yield node.value, node.line, node.column, shown(found)

    def _refuse(self, path: Path, text: str, *, key: bool = False) -> None:
        node = self._root.find(path)[0]
        line, column = (node.key_line, node.key_column) if key else (node.line, node.column)
        self.problems.append(Problem(line, column, shown(path), text))

    def _warn(self, path: Path, text: str) -> None:
        node = self._root.find(path)[0]
        self.warnings.append(Problem(node.line, node.column, shown(path), text))


def _merged(*layers: Defaults | None) -> Settings:
    """The settings of several places as one, the last that has a key winning."""
    given = [layer for layer in layers if layer]
    if len(given) == 1 and isinstance(given[0], Settings):
        return given[0]
    return Settings.model_construct(**{key: value for layer in given for key, value in layer if value is not None})


def _pattern(settings: Settings) -> Account:
    """An account of which only the settings are known yet."""
    tags = settings.session_tags or {}
    return Account(
        account_id="",
        session_name=settings.session_name or _SESSION_NAME,
        # Sorted, so that equal identities compare equal and share their keys.
        session_tags=tuple(sorted(tags.items())),
        duration=settings.duration_seconds,
        registries=tuple(settings.registries or ()),
        repositories=tuple(settings.repositories or ()),
        exclude_repositories=tuple(settings.exclude_repositories or ()),
        public=bool(settings.public),
        tag_status=settings.tag_status,
        image_status=settings.image_status,
        max_rps=settings.max_rps,
    )
