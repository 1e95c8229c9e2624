"""The crawl from within a program, with nothing but what `crawler` itself offers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crawler import Fatal, ImageDetails, ImagePage, Outcome, Result, UsageError, crawl
from crawler.emulator import Account, Emulator, Estate, Options, Repository, Series, running

ONE, TWO = "000000000001", "000000000002"
SIZES = {"team/api": 2500, "team/web": 3, "empty": 0}


def estate(**more: bool) -> Estate:
    def account(id_: str, **more: bool) -> Account:
        repositories = {name: Repository(name, Series(f"{id_}{name}", count)) for name, count in SIZES.items()}
        return Account(id_, f"name-{id_[-1]}", repositories={"us-east-1": repositories}, **more)

    return Estate([account(ONE), account(TWO, **more)], regions=["us-east-1", "eu-west-1"])


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    file = tmp_path / "accounts.yaml"
    file.write_text(estate().accounts_yaml())
    return file


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with running(estate()) as emulator:
        point_at(emulator, monkeypatch)
        yield emulator


def point_at(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("emulator")
def test_every_image_id_comes_in_typed_pages(accounts: Path) -> None:
    found: Counter[tuple[str, str, str, str | None, str | None]] = Counter()
    results: list[Result] = []

    async def main() -> None:
        async with crawl(accounts, account=["name-*"], on_result=results.append) as pages:
            async for page in pages:
                assert isinstance(page, ImagePage)
                assert page.account_id == page.registry_id
                assert len(page.image_ids) <= 1000
                for image in page.image_ids:
                    found[page.registry_id, page.region, page.repository, image["imageDigest"], image["imageTag"]] += 1
            assert pages.complete
            assert pages.failures == ()

    asyncio.run(main())
    assert found == Counter(tuple(row) for row in estate().rows())
    assert Counter(result.outcome for result in results) == {Outcome.OK: 6, Outcome.EMPTY: 4}


@pytest.mark.usefixtures("emulator")
def test_details_come_in_typed_pages_too(accounts: Path) -> None:
    found: list[ImageDetails] = []
    image_ids: Counter[tuple[str | None, str | None]] = Counter()

    async def main() -> None:
        async with crawl(accounts, account=["name-1"], rows="details") as pages:
            async for page in pages:
                found.extend(page.details)
                image_ids.update((image["imageDigest"], image["imageTag"]) for image in page.image_ids)
        assert pages.complete

    asyncio.run(main())
    expected = Counter((row[3], row[4]) for row in estate().rows() if row[0] == ONE)
    assert image_ids == expected
    assert Counter((image["imageDigest"], tag) for image in found for tag in image["imageTags"] or [None]) == expected
    assert len(found) == len({image["imageDigest"] for image in found}) > 2500
    assert all(set(image) == set(ImageDetails.__annotations__) for image in found)
    assert all(image["imageSizeInBytes"] and image["imagePushedAt"] for image in found)


@pytest.mark.usefixtures("emulator")
def test_details_that_were_not_asked_for_are_no_empty_page(accounts: Path) -> None:
    async def main() -> None:
        async with crawl(accounts, account=["name-1"], repository=["team/web"]) as pages:
            assert [page.details async for page in pages]

    with pytest.raises(UsageError, match=r'rows="details"'):
        asyncio.run(main())


def test_what_is_missing_shows_in_the_end(accounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with crawl(accounts, account=["name-*"], region=["us-east-1"]) as pages:
            assert not pages.complete
            assert {page.registry_id async for page in pages} == {ONE}
        assert not pages.complete
        (failure,) = pages.failures
        assert (failure.first.outcome, failure.first.unit.registry_id) == (Outcome.DENIED, TWO)

    with running(estate(deny_role=True)) as emulator:
        point_at(emulator, monkeypatch)
        asyncio.run(main())


def test_leaving_early_ends_the_crawl(accounts: Path, emulator: Emulator) -> None:
    async def main() -> None:
        async with crawl(accounts, account=["name-*"], requests_per_target=1) as pages:
            async for _ in pages:
                break
        assert not pages.complete
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert emulator.stats()["requests"]["ecr:ListImages"] < 8  # 2 × (3 + 1 + 1) would be all


@pytest.mark.usefixtures("emulator")
def test_what_the_reader_raises_is_raised(accounts: Path) -> None:
    async def main() -> None:
        async with crawl(accounts, account=["name-*"]) as pages:
            async for _ in pages:
                raise LookupError("the reader's own")

    with pytest.raises(LookupError, match="the reader's own"):
        asyncio.run(main())


def test_a_wrong_clock_is_raised_as_such(accounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with crawl(accounts, account=["name-*"]) as pages:
            assert [page async for page in pages] == []

    with running(estate(), Options(faults=["time-too-skewed:times=always"])) as emulator:
        point_at(emulator, monkeypatch)
        with pytest.raises(Fatal, match="clock"):
            asyncio.run(main())


def test_an_accounts_file_that_cannot_be_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with crawl(tmp_path / "nowhere.yaml"):
            pass

    with pytest.raises(UsageError, match="cannot be read"):
        asyncio.run(main())


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, crawler; sys.exit('botocore' in sys.modules or 'anyio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "from crawler import crawl; import crawler; assert crawler.crawl is crawl, crawler.crawl"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("emulator")
def test_the_example_of_the_readme_runs(accounts: Path) -> None:
    section = (Path(__file__).parents[2] / "README.md").read_text().split("<!-- library: ", 1)[1]
    example = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    imports, _, body = example.partition("\n\n")
    code = f"import asyncio\n{imports}\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=accounts.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ""  # nothing is in eu-west-1, and that is complete


def test_the_function_stays_where_users_look_for_it_after_its_module_was_imported() -> None:
    code = "import crawler.crawl; from crawler import crawl; print(crawl.__module__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "crawler.library"), done.stderr
