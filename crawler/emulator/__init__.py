"""A local AWS to rehearse a crawl on: STS, Organizations, Account, EC2's regions and ECR, in one process on one port.

    from crawler.emulator import Estate, Options, running

    with running(Estate.generate(seed=1), Options(faults=["throttling:times=2"])) as emulator:
        ...  # any AWS client, given emulator.environment()

It shares no code with the rest of `crawler`: a checker that shares code with what it checks proves less.
"""

from crawler.emulator.account import Account, Repository
from crawler.emulator.estate import Estate, Row
from crawler.emulator.faults import ALWAYS, FAULTS, Rule
from crawler.emulator.images import MIXED, PLAIN, Image, Listed, Mix, Series
from crawler.emulator.server import Emulator, run, running, serve
from crawler.emulator.throttle import Throttle
from crawler.emulator.world import Options

__all__ = [
    "ALWAYS",
    "FAULTS",
    "MIXED",
    "PLAIN",
    "Account",
    "Emulator",
    "Estate",
    "Image",
    "Listed",
    "Mix",
    "Options",
    "Repository",
    "Row",
    "Rule",
    "Series",
    "Throttle",
    "run",
    "running",
    "serve",
]
