"""The commands that need no AWS: an emulated one, and the main job rehearsed on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from crawler.errors import UsageError
from crawler.extras import need
from crawler.wording import counted

_POSITIVE = validators.Number(gt=0)


def demo(
    *,
    output: Annotated[str, Parameter(help="File for the rows.")] = "images.ndjson",
    accounts: Annotated[int, Parameter(validator=_POSITIVE, help="Accounts of the made-up company.")] = 25,
    seed: Annotated[int, Parameter(help="What it is made from.")] = 1,
) -> int:
    """Crawl a made-up company on the emulator, and check every row."""
    need("emulator", "httptools", "uvloop")
    from crawler.demo import demonstrate  # noqa: PLC0415  (see crawl)

    return demonstrate(output, accounts=accounts, seed=seed)


def emulator(
    *,
    estate: Annotated[
        str | None, Parameter(help="File that describes what exists, see crawler/emulator/example.yaml; else made up.")
    ] = None,
    accounts: Annotated[int, Parameter(validator=_POSITIVE, help="Accounts to make up.")] = 25,
    seed: Annotated[int, Parameter(help="What is made up, and when faults strike, follows from it.")] = 1,
    write_accounts: Annotated[
        str | None, Parameter(help="Write an accounts file that fits, for `crawler --accounts`, and go on.")
    ] = None,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535), help="0 takes a free one.")] = 0,
    latency: Annotated[float, Parameter(validator=validators.Number(gte=0), help="Seconds before each answer.")] = 0.0,
    rate: Annotated[
        float | None, Parameter(validator=_POSITIVE, help="Requests a second before ECR throttles, in each registry.")
    ] = None,
    burst: Annotated[float, Parameter(validator=validators.Number(gte=1), help="Requests at once before it does.")] = 1,
    fault: Annotated[
        tuple[str, ...],
        Parameter(help="What goes wrong, as in `throttling:times=2,repository=team/*`; `list` prints all names."),
    ] = (),
    checks: Annotated[
        bool, Parameter(negative="--no-checks", help="Verify signatures and requests; without, it is fast.")
    ] = True,
) -> int:
    """Serve an emulated AWS, to rehearse a crawl on, until interrupted. Prints what to export."""
    need("emulator", "httptools", "uvloop")
    from crawler.emulator import FAULTS, Estate, Options, Rule, Throttle, run  # noqa: PLC0415  (see crawl)

    if "list" in fault:
        width = max(map(len, FAULTS))
        sys.stdout.writelines(f"{name:{width}}  {what}\n" for name, what in FAULTS.items())
        return 0
    try:
        made = Estate.load(estate) if estate else Estate.generate(seed, accounts=accounts)
        options = Options(
            checks=checks,
            latency=latency,
            throttle=Throttle(rate, burst) if rate else None,
            faults=[Rule.of(text) for text in fault],
            seed=seed,
        )
        if write_accounts:
            Path(write_accounts).write_text(made.accounts_yaml(), encoding="utf-8")
        told = (
            f", with --accounts {write_accounts}" if write_accounts else "; --write-accounts FILE makes a file for it"
        )
        sys.stderr.write(
            f"{counted(len(made.accounts), 'account')}, the hub {made.hub} among them; any role may be assumed. Paste "
            f"the line below into another shell and crawl there{told}. Ctrl-C ends it.\n"
        )
        run(made, options, host=host, port=port)
    except ValueError as error:
        raise UsageError(f"emulator: {error}") from error
    except OSError as error:
        raise UsageError(f"emulator: {f'{error.filename}: {error.strerror}' if error.filename else error}") from error
    return 0
