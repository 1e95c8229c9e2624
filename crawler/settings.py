"""Everything a run was asked for, as one frozen value."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from crawler.crawl import Limits
from crawler.errors import UsageError
from crawler.model import ImageStatus, Outcome, TagStatus
from crawler.retry import RetryPolicy
from crawler.wanted import Filter


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run was asked for. Names are the command line's; times in seconds."""

    accounts: str
    account: tuple[str, ...] = ()
    account_tag: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    exclude_repository: tuple[str, ...] = ()
    tag_status: TagStatus = TagStatus.ANY
    image_status: ImageStatus = ImageStatus.ANY
    page_size: int = 1000
    output: str = "-"
    ledger: str | None = None
    report: str | None = None
    tolerate: frozenset[Outcome] = frozenset()
    targets_at_once: int = 32
    requests_per_target: int = 8
    max_rps: float | None = None
    rate_share: float = 1.0
    timeout: float = 60.0
    attempts: int = 20
    page_timeout: float = 900.0
    target_timeout: float = 6 * 3600.0
    quiet: bool = False

    def limits(self) -> Limits:
        """Bounds of the crawl."""
        return Limits(
            targets_at_once=self.targets_at_once,
            requests_per_target=self.requests_per_target,
            max_rps=self.max_rps,
            rate_share=self.rate_share,
            target_seconds=self.target_timeout,
        )

    def policy(self) -> RetryPolicy:
        """When and how often to try again."""
        return RetryPolicy(attempts=self.attempts, seconds=self.page_timeout)

    def filter(self) -> Filter:
        """Regions and repositories that are wanted."""
        return Filter(self.region, self.repository, self.exclude_repository)

    def keep_apart(self) -> None:
        """Refuse names that would have one file overwrite another. Raises `UsageError`."""
        names: dict[Path, str] = {}
        for option in ("accounts", "output", "ledger", "report"):
            name: str | None = getattr(self, option)
            if name == "":
                raise UsageError(f"--{option} is empty: name a file, or leave the option out")
            if name is None or (name == "-" and option in ("accounts", "output")):
                continue
            if name == "-":
                raise UsageError(f"--{option} -: standard output is for the rows; name a file")
            path = Path(os.path.realpath(name))
            if path in names and (path.is_file() or not path.exists()):
                raise UsageError(
                    f"--{names[path]} and --{option} are the same file, {name}: one would overwrite the other"
                )
            names[path] = option

    def shown(self) -> dict[str, object]:
        """The settings as the log and the report have them. None is a secret."""
        tolerated = [outcome.value for outcome in Outcome if outcome in self.tolerate]
        return {**asdict(self), "tolerate": tolerated}
