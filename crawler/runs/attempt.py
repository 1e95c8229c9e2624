"""An attempt at a run: how it begins, how it shows that it lives, and how it learns that it no longer counts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from crawler.errors import Fatal, UsageError
from crawler.runs import layout, owners
from crawler.runs.documents import Claim, Manifest
from crawler.store import Exists, Store

logger = logging.getLogger(__name__)

#: Seconds between two signs of life, and how long a silent attempt is watched before it is held for dead.
BEAT, SILENCE = 5.0, 17.0

#: The last sign of life.
_ENDED = b"ended"


class Published(Exception):
    """The run has been published before; there is nothing left to crawl."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest.run)
        self.manifest = manifest


async def begin(store: Store, run_id: str, format: str, settings: Mapping[str, Any]) -> Claim:  # noqa: A002  the field's own word
    """Begin the run, or go on with it. `settings` are those that decide which rows it has, as JSON has them.

    Raises `Published`; `Fatal` where an attempt is alive; or `UsageError` where the run was begun with other settings,
    and where the store would let two attempts overwrite each other.
    """
    where = store.uri_of(layout.run_folder(run_id))
    if manifest := await read_manifest(store, run_id):
        _require_same(where, manifest, format, settings)
        raise Published(manifest)
    now = datetime.now(UTC)
    started = now.isoformat(timespec="seconds")
    owner = {**owners.ourselves(), "nonce": secrets.token_hex(8)}
    ours = await _claimed(store, Claim(run_id, 1, now.date().isoformat(), format, started, started, owner, settings))
    await require_conditions(store, layout.claim(run_id, ours.attempt))
    return ours


async def join(store: Store, run_id: str, format: str, settings: Mapping[str, Any]) -> Claim:  # noqa: A002  (see begin)
    """Begin the run, or be one of those who are at it: several may, each with shards of its own.

    Raises `Published`; or `UsageError` where the run was begun with other settings, or by a process on its own.
    """
    where = store.uri_of(layout.run_folder(run_id))
    if manifest := await read_manifest(store, run_id):
        # Who was to crawl what matters no more: shares go by hints, which whoever published the run has replaced.
        rest = {key: value for key, value in settings.items() if key != "shard"}
        _require_same(where, manifest, format, rest)
        raise Published(manifest)
    now = datetime.now(UTC)
    started = now.isoformat(timespec="seconds")
    first = Claim(run_id, 1, now.date().isoformat(), format, started, started, owners.ourselves(), settings)
    there = await newest(store, run_id)
    if there is None:
        with suppress(Exists):
            await store.create(layout.claim(run_id, 1), first.encode())
        await require_conditions(store, layout.claim(run_id, 1))
        there = await newest(store, run_id) or first
    _require_same(where, there, format, settings)
    return there


async def require_conditions(store: Store, path: str) -> None:
    """Raise `UsageError` if the store would replace this file, which exists, where it is to create one."""
    if not await store.refuses_to_replace(path):
        raise UsageError(
            f"{store.uri}: this server ignores If-None-Match, so nothing could keep two runs apart: use another one"
        )


async def _claimed(store: Store, first: Claim) -> Claim:
    """The claim that this process got: `first`, or what goes on with the attempts that are there."""
    where = store.uri_of(layout.run_folder(first.run))
    while True:
        ours = first
        if last := await newest(store, first.run):
            _require_same(where, last, first.format, first.settings)
            if await lives(store, last):
                raise Fatal(
                    "InUse",
                    f"{where}: attempt {last.attempt} is alive on {last.owner.get('host')}, process "
                    f"{last.owner.get('pid')}: wait for it, or use another --run-id",
                )
            base = await lineage(store, last)
            ours = replace(first, attempt=last.attempt + 1, date=last.date, started=last.started, base=base)
        try:
            await store.create(layout.claim(ours.run, ours.attempt), ours.encode())
        except Exists:
            # What a process sent to a bucket before it was killed may come to pass after its end.
            if (other := await newest(store, first.run)) and owners.dead(other.owner):
                continue
            raise Fatal(
                "InUse", f"{where}: another process has just begun this run: wait for it, or use another --run-id"
            ) from None
        return ours


async def newest(store: Store, run_id: str) -> Claim | None:
    """The attempt that has the run, None if it was never begun."""
    claims = [name for name in await store.names(layout.attempts(run_id)) if name.endswith(".json")]
    if not claims:
        return None
    return Claim.decode(store.uri_of(claims[-1]), await store.read(claims[-1]) or b"")


async def read_manifest(store: Store, run_id: str) -> Manifest | None:
    """What was published, None if the run is not."""
    path = layout.manifest(run_id)
    data = await store.read(path)
    return Manifest.decode(store.uri_of(path), data) if data is not None else None


async def lineage(store: Store, claim: Claim) -> tuple[str, ...]:
    """The records that count once this attempt has ended: its own, and those it rested on.

    Not all that are there: an attempt that was held for dead may have added some that crawl what others did, too.
    """
    prefix = layout.record(claim.run, claim.attempt, 0).rpartition("-")[0]
    own = [name for name in await store.names(layout.records(claim.run)) if name.startswith(f"{prefix}-")]
    return (*claim.base, *own)


def differing(before: Claim | Manifest, format: str, settings: Mapping[str, Any]) -> str:  # noqa: A002  (see begin)
    """The options that a run was begun with another value of, as in `--region, --rows`; empty for none."""
    # Runs begun before rows had kinds are of image IDs.
    there = {"rows": "ids", **before.settings}
    # Filters follow from the rest, and runs begun before they were written down have none.
    pairs = {"format": (before.format, format), **{key: (there.get(key), settings[key]) for key in settings}}
    pairs.pop("filters", None)
    # Where the number of shares is the same, what divides them differs.
    shares = [str(plan).partition(",")[0] for plan in pairs.get("shard", ())]
    if shares and shares[0] == shares[1]:
        pairs["hints"] = pairs.pop("shard")
    return ", ".join(f"--{key.replace('_', '-')}" for key, (one, other) in pairs.items() if one != other)


def _require_same(where: str, before: Claim | Manifest, format: str, settings: Mapping[str, Any]) -> None:  # noqa: A002  (see begin)
    if names := differing(before, format, settings):
        raise UsageError(f"{where}: this run was begun with another {names}: use the same again, or another --run-id")


async def lives(store: Store, claim: Claim) -> bool:
    """Tell whether the attempt is at work; where that cannot be seen, it is watched for `SILENCE` seconds at most.

    No clocks are compared: its sign of life changes while we watch, or it does not. One that just began has none yet.
    """
    # Where several crawl shares of a run, the claim names only the first of them.
    if "shard" not in claim.settings and owners.dead(claim.owner):
        return False
    path = layout.alive(claim.run, claim.attempt)
    seen = await store.read(path)
    if seen == _ENDED:
        return False
    with anyio.move_on_after(SILENCE):
        while (sign := await store.read(path)) == seen:  # noqa: ASYNC110  (the event is in another process)
            await anyio.sleep(BEAT / 5)
        return sign not in (_ENDED, None)  # older programs removed it when they ended
    return False


@asynccontextmanager
async def living(store: Store, claim: Claim) -> AsyncGenerator[None]:
    """Show that this attempt lives while the body runs, and end the body once a newer attempt has the run.

    What the body raises leaves bare, in no group.
    """
    await store.put(layout.alive(claim.run, claim.attempt), b"0")
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_beat, store, claim)
        try:
            yield
        except Exception as error:  # noqa: BLE001  (raised again below)
            failure = error
        group.cancel_scope.cancel()
    if failure:
        raise failure


async def leave(store: Store, claim: Claim) -> None:
    """Say that this attempt has ended, so that whoever comes next need not watch it. What fails is a warning."""
    try:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            await store.put(layout.alive(claim.run, claim.attempt), _ENDED)
    except Fatal as failure:
        logger.warning("run %s: whoever goes on with it may have to watch this process first: %s", claim.run, failure)


async def _beat(store: Store, claim: Claim) -> None:
    beats = 0
    while True:
        await anyio.sleep(BEAT)
        await require_ours(store, claim)
        beats += 1
        await store.put(layout.alive(claim.run, claim.attempt), str(beats).encode())


async def require_ours(store: Store, claim: Claim) -> None:
    """Raise `Fatal` if a newer attempt has the run."""
    if await store.exists(layout.claim(claim.run, claim.attempt + 1)):
        raise Fatal(
            "TakenOver",
            f"run {claim.run} was taken over by attempt {claim.attempt + 1}, which held this one for dead: "
            "nothing more is written here",
        )
