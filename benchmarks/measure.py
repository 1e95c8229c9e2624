"""Run one command on one core and tell what it cost: `python -I -S measure.py RESULT CORE first|all COMMAND…`.

A process of its own because Linux lets a child begin with the peak memory of whoever forked it (`exec` carries
`ru_maxrss` over): this one needs about 10 MB, which no client undercuts, while the benchmark itself holds estates.
Only the standard library, and little of that, for the same reason.
"""

import json
import os
import signal
import sys
import time


def main(result: str, core: int, until: str, command: list[str]) -> int:
    """Write seconds and bytes to `result` as JSON. `first` stops the command at the first byte that it writes."""
    read_end, write_end = os.pipe() if until == "first" else (-1, -1)
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            if core >= 0:
                os.sched_setaffinity(0, {core})
            if write_end >= 0:
                os.dup2(write_end, 1)
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    measured: dict[str, float] = {}
    if until == "first":
        os.close(write_end)
        os.read(read_end, 1)
        measured["first"] = time.perf_counter() - started
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    measured["wall"] = time.perf_counter() - started
    measured["cpu"] = usage.ru_utime + usage.ru_stime
    measured["rss"] = usage.ru_maxrss * 1024
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would cost memory
        json.dump(measured, file)
    return 0 if until == "first" else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
