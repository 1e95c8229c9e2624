"""What users install is the wheel, not this tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.program.conftest import Program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_crawler_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "crawler/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"crawler"}


def test_the_installed_wheel_crawls(wheel: Path, program: Program) -> None:
    site = program.folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    program.environment["PYTHONPATH"] = str(site)
    where = subprocess.run(
        [sys.executable, "-c", "import crawler; print(crawler.__file__)"],
        env=program.env(),
        cwd=program.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip() == str(site / "crawler" / "__init__.py")
    # Not the program that tests fork, which is of this folder.
    command = program.command("demo", "--accounts", "3")
    done = subprocess.run(command, env=program.env(), cwd=program.folder, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert " 0 missing, 0 that should not be there" in done.stderr.decode()
