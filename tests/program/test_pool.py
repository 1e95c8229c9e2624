"""One pool for all accounts, and no secret in anything that is written."""

from __future__ import annotations

from crawler.emulator import Estate, Options, running
from crawler.emulator.sessions import HUB_SECRET_KEY
from tests.program.conftest import Program


def test_connections_are_bounded_by_the_pool_and_not_by_targets(program: Program) -> None:
    estate = Estate.uniform(repositories=2, images=3, accounts=20, regions=["us-east-1", "eu-west-1", "ap-south-1"])
    with running(estate) as emulator:
        program.environment |= emulator.environment()
        crawled = program.crawl(estate.accounts_yaml(), "--targets-at-once", "4", "--requests-per-target", "2")
        stats = emulator.stats()
    assert crawled.code == 0, crawled.stderr
    assert sum(stats["requests"].values()) > 180
    # 4 targets of 2 requests each, and the 4 accounts whose roles are being assumed meanwhile.
    assert stats["connections"] - 1 <= 4 * 2 + 4, "the connection that asks for these numbers is left out"


def test_no_secret_is_written_anywhere(program: Program) -> None:
    estate = Estate.uniform(repositories=2, images=3, accounts=2, regions=["us-east-1"])
    with running(estate, Options(faults=["access-denied:account=000000000002", "unavailable:times=1"])) as emulator:
        program.environment |= emulator.environment() | {"PYTHONASYNCIODEBUG": "1"}
        crawled = program.crawl(estate.accounts_yaml(), "-vv", "--log-format", "json")
        sessions = [keys for keys in emulator.world.sessions._keys.values() if keys.session_token]
    written = crawled.stdout + crawled.stderr.encode()
    written += b"".join(path.read_bytes() for path in program.folder.iterdir())
    assert crawled.code == 3
    assert b"answered" in written, "the log of requests is on"
    assert len(sessions) >= 2
    assert HUB_SECRET_KEY.encode() not in written
    for keys in sessions:
        assert keys.secret_key.encode() not in written
        assert str(keys.session_token).encode() not in written
    assert b"Signature=" not in written
    assert b"X-Amz-Security-Token" not in written
