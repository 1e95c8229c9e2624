"""`python -m tests.simulation SEED` replays one seed; `FIRST LAST [PROCESSES]` runs many, and tells those that fail."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import structlog

from tests.simulation.oracle import judge
from tests.simulation.story import Story


def outcomes_of(seed: int) -> tuple[int, str, Counter[str]]:
    """The seed, what was wrong with it in one line, and how its units ended."""
    story = Story(seed)
    try:
        judge(story.tell())
        wrong = ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        wrong = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    ended = Counter(line["outcome"] for attempt in story.attempts for line in attempt.lines)
    ended["killed"] = sum(attempt.killed for attempt in story.attempts)
    ended["cut off"] = sum(attempt.cut and not attempt.killed for attempt in story.attempts)
    return seed, wrong, ended


def soak(first: int, last: int, processes: int) -> int:
    """Run the seeds from `first` up to `last`; 1 if one failed."""
    began, failed, ended = time.monotonic(), 0, Counter[str]()
    with ProcessPoolExecutor(processes) as pool:
        for seed, wrong, outcomes in pool.map(outcomes_of, range(first, last), chunksize=20):
            ended += outcomes
            if wrong:
                failed += 1
                print(f"python -m tests.simulation {seed}  # {wrong}", flush=True)
    print(f"{last - first} seeds, {failed} failed, {time.monotonic() - began:.0f} s: {dict(ended)}")
    return int(failed > 0)


def replay(seed: int) -> int:
    """Tell one story line by line."""
    story = Story(seed)
    print(story.world.temper, story.limits, story.policy, f"cuts {story.cuts}", sep="\n")
    try:
        judge(story.tell())
    except Exception:  # noqa: BLE001  (told, and the next seed)
        traceback.print_exc()
        return 1
    finally:
        for number, attempt in enumerate(story.attempts):
            print(f"attempt {number}: cut {attempt.cut}, fatal {attempt.fatal}, {attempt.seconds:.1f} s")
            for line in attempt.lines:
                print(*(line[key] for key in ("registryId", "region", "repositoryName", "outcome", "code", "rows")))
    return 0


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(replay(numbers[0]) if len(numbers) == 1 else soak(numbers[0], numbers[1], [*numbers, 1][2]))
