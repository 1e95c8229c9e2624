"""Everything a run was asked for, as one frozen value."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal

from crawler.accounts import AccountsFile
from crawler.crawl import Limits
from crawler.errors import UsageError
from crawler.model import OTHERS, PUBLIC, Account, ImageStatus, Outcome, RowKind, Split, TagStatus
from crawler.retry import RetryPolicy
from crawler.wanted import Filter

#: What was meant as a URL: as a path it would be a folder of this name, here, that nobody looks for.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

#: Shares of one run: as many as an array job of AWS Batch can have.
MOST_SHARES = 10_000

_SHARE = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run was asked for. Names are the command line's; times in seconds."""

    accounts: str
    account: tuple[str, ...] = ()
    account_tag: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    exclude_repository: tuple[str, ...] = ()
    rows: RowKind = RowKind.IDS
    tag_status: TagStatus = TagStatus.ANY
    image_status: ImageStatus = ImageStatus.ANY
    page_size: int = 1000
    output: str = "-"
    format: str | None = None
    run_id: str | None = None
    resume: bool = False
    iceberg: str | None = None
    delta: str | None = None
    publish_partial: bool = False
    ledger: str | None = None
    report: str | None = None
    tolerate: frozenset[Outcome] = frozenset()
    targets_at_once: int = 32
    requests_per_target: int = 8
    max_rps: float | None = None
    rate_share: float = 1.0
    hints: str | None = None
    split_chains: Split = Split.NO
    timeout: float = 60.0
    attempts: int = 20
    page_timeout: float = 900.0
    target_timeout: float = 6 * 3600.0
    workers: int | None = None
    engine: str | None = None
    address: str | None = None
    shard: str | None = None
    log_format: Literal["text", "json"] = "text"
    verbose: int = 0
    otel: bool = False
    quiet: bool = False

    def limits(self) -> Limits:
        """Bounds of the crawl."""
        return Limits(
            targets_at_once=self.targets_at_once,
            requests_per_target=self.requests_per_target,
            max_rps=self.max_rps,
            rate_share=self.rate_share,
            split=self.split_chains,
            target_seconds=self.target_timeout,
        )

    def policy(self) -> RetryPolicy:
        """When and how often to try again."""
        return RetryPolicy(attempts=self.attempts, seconds=self.page_timeout)

    def filter(self) -> Filter:
        """Regions and repositories that are wanted."""
        return Filter(self.region, self.repository, self.exclude_repository)

    def asked(self) -> dict[str, Sequence[str]]:
        """What each option was given that selects accounts, regions or repositories."""
        return {
            "account": self.account,
            "account_tag": self.account_tag,
            "region": self.region,
            "repository": self.repository,
        }

    @property
    def publishes(self) -> bool:
        """Whether a run is to be published in a store; otherwise rows go to a stream or a file."""
        return self.output.startswith("s3://") or self.output.endswith("/")

    def selecting(self, text: bytes, file: AccountsFile) -> dict[str, object]:
        """What decides which rows a run has, as JSON has it: attempts at the same run must agree on all of it.

        `text` is that of the accounts file. `filters` follow from it and the options, for those who compare runs.
        """
        return {
            "accounts": f"sha256:{hashlib.sha256(text).hexdigest()}",
            **{option: sorted(given) for option, given in self.asked().items()},
            "exclude_repository": sorted(self.exclude_repository),
            "rows": str(self.rows),
            "tag_status": str(self.tag_status),
            "image_status": str(self.image_status),
            "filters": self._filters(file),
        }

    def _filters(self, file: AccountsFile) -> dict[str, str]:
        """Which images of a registry are listed, by its id, as in `TAGGED ANY`; under `*` that of all others."""

        def of(account: Account) -> str:
            return f"{account.tag_status or self.tag_status} {account.image_status or self.image_status}"

        if file.organization:
            return {OTHERS: of(file.organization.member)}
        asked: dict[str, set[str]] = {}
        for account in file.accounts:
            public = [PUBLIC + account.account_id] if account.public else []
            for registry_id in (account.account_id, *account.registries, *public):
                asked.setdefault(registry_id, set()).add(of(account))
        filters = {registry_id: " and ".join(sorted(some)) for registry_id, some in asked.items()}
        usual, _ = max(Counter(filters.values()).items(), key=itemgetter(1))
        return {OTHERS: usual, **{one: images for one, images in filters.items() if images != usual}}

    def selection(self) -> str:
        """What of the accounts file is crawled, for `Hints`: the same words for the same selection."""
        parts = (
            self.account,
            self.account_tag,
            self.region,
            self.repository,
            self.exclude_repository,
            self.tag_status.value,
            self.image_status.value,
            self.page_size,
            # Only the kind that came second: hints of image IDs go on to mean what they meant before there was one.
            *[self.rows.value] * (self.rows is not RowKind.IDS),
        )
        return "; ".join(map(str, parts))

    def agree(self) -> None:
        """Refuse options that do not go together. Raises `UsageError`."""
        self._keep_apart()
        self._one_way_to_crawl()
        if self.hints and self.hints.startswith("s3://") and not all(self.hints[5:].partition("/")[::2]):
            raise UsageError(f"--hints {self.hints}: name an object, as in s3://bucket/prefix/hints.json")
        if self.run_id is not None and self.resume:
            raise UsageError("--run-id names a run, --resume takes the newest unfinished one: choose one of them")
        if self.publishes:
            if self.delta and _place(self.delta).startswith(_place(self.output)):
                raise UsageError(f"--delta {self.delta}: lies within --output {self.output}: name another place")
            return
        wants_store = {
            "--run-id": self.run_id,
            "--resume": self.resume,
            "--iceberg": self.iceberg,
            "--delta": self.delta,
            "--publish-partial": self.publish_partial,
            f"--format {self.format}": self.format not in (None, "ndjson"),
        }
        for option, given in wants_store.items():
            if given:
                raise UsageError(
                    f"{option} is for runs that are published: --output DIR/ (with a slash at its end), or s3://…"
                )

    @property
    def share(self) -> tuple[int, int] | None:
        """Which of how many shares of the accounts is crawled, None for all of them. Raises `UsageError`.

        How many there can be is what https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html has.
        """
        if self.shard is None:
            return None
        if share := _SHARE.fullmatch(self.shard):
            number, shares = map(int, share.groups())
            if 1 <= number <= shares <= MOST_SHARES:
                return number, shares
        raise UsageError(
            f"shard {self.shard}: write I/N, as in 3/8, from 1/N to N/N; N is {MOST_SHARES:,} at most, as for AWS Batch"
        )

    def _one_way_to_crawl(self) -> None:
        """Refuse options for several processes that do not go together. Raises `UsageError`."""
        ways = {"--workers": self.workers, "--engine": self.engine, "shard": self.share}
        several = [name for name, given in ways.items() if given]
        if len(several) > 1:
            raise UsageError(f"{' and '.join(several)}: choose one of them")
        if self.engine and self.otel:
            # Each task is a process for as long as one shard: it would have to wait for the collector at its end.
            raise UsageError("--otel is not for --engine ray: leave one of them out")
        if self.address == "":
            raise UsageError("--address is empty: name the head of the cluster, or leave the option out")
        if self.address is not None and not self.engine:
            raise UsageError("--address is that of --engine ray: add it")
        if self.engine and not self.publishes:
            raise UsageError("--engine ray publishes: other machines need an --output that they share, s3://… or DIR/")
        if self.share and not (self.publishes and self.run_id):
            raise UsageError(
                "shard I/N needs --run-id and --output s3://… or DIR/, the same for all shares of a run, "
                "as in --run-id nightly-2026-01-31 --output s3://bucket/inventory/"
            )

    def _keep_apart(self) -> None:
        """Refuse names that would have one file overwrite another. Raises `UsageError`."""
        names: dict[Path, str] = {}
        for option in ("accounts", "output", "ledger", "report", "hints"):
            name: str | None = getattr(self, option)
            if name == "":
                raise UsageError(f"--{option} is empty: name a file, or leave the option out")
            if name is None or (name == "-" and option in ("accounts", "output")) or name.startswith("s3://"):
                continue
            if name == "-":
                raise UsageError(f"--{option} -: standard output is for the rows; name a file")
            if _URL.match(name):
                raise UsageError(f"--{option} {name}: is no file here, and of URLs only s3://bucket/… is known")
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


def _place(name: str) -> str:
    """A folder or prefix so that all that lies in it begins with this."""
    return (name if name.startswith("s3://") else os.path.realpath(name)).rstrip("/") + "/"
