"""Starts the program by forking, so that a hundred runs cost one import of it.

Each order is one message on the socket that is standard input: JSON, and with it the files that are the program's own
standard input, output and error. It is answered with the process id, and then with the exit status as `waitpid` gives
it. What a test is about the start itself, or about pipes and terminals, starts `python -m crawler` as a user does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import traceback
from typing import Any

#: What most commands import; the rest is imported by whoever needs it.
_KNOWN = ("crawler.cli", "crawler.job", "crawler.wiring", "crawler.crews", "uvloop", "aiobotocore.session")


def _be_the_program(order: dict[str, Any], files: list[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["crawler", *order["arguments"]]
    from crawler.__main__ import main  # noqa: PLC0415  (imported before the fork)

    main()


def _ended(order: dict[str, Any], files: list[int]) -> int:
    try:
        _be_the_program(order, files)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    except BaseException:  # noqa: BLE001  (whatever it is, two of us must not go on)
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for name in _KNOWN:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as orders:
        while True:
            message, files, _, _ = socket.recv_fds(orders, 1 << 20, 3)
            if not message:
                return
            child = os.fork()
            if child == 0:
                orders.close()
                code = _ended(json.loads(message), files)
                for stream in (sys.stdout, sys.stderr):
                    if stream:  # which the program lets go of where it cannot be written
                        stream.flush()
                os._exit(code)
            for file in files:
                os.close(file)
            orders.send(str(child).encode())
            orders.send(str(os.waitpid(child, 0)[1]).encode())


if __name__ == "__main__":
    main()
