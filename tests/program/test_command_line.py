"""What a user types, and what is said where it cannot be used."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from crawler import __version__
from crawler.__main__ import main
from crawler.cli import app
from crawler.emulation import emulator
from crawler.emulator import FAULTS
from crawler.errors import UsageError
from crawler.extras import need
from crawler.usage import EXAMPLES
from tests.program.conftest import Program
from tests.program.readme_help import README, program_help, split

ONE = "accounts: [{account_id: '123123123123', name: one, regions: [us-east-1], tags: [a]}]\n"


def test_the_version(program: Program) -> None:
    done = program.run("--version")
    assert (done.returncode, done.stdout.decode().strip()) == (0, __version__)


def test_the_help_in_the_readme_is_the_programs_own() -> None:
    _, block, _ = split(README.read_text())
    assert block.rstrip() == program_help()


def test_the_schema_is_json(program: Program) -> None:
    done = program.run("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_reader_of_the_schema_may_go_away(program: Program) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        program.command("schema"),
        env=program.env(),
        cwd=program.folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_shell_is_told_how_to_complete(program: Program) -> None:
    done = program.run("completion", "bash")
    assert done.returncode == 0
    script = program.folder / "completion.bash"
    script.write_bytes(done.stdout)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0  # noqa: S607  (any bash)
    assert b"--targets-at-once" in done.stdout


def test_the_emulator_serves_until_it_is_told_to_stop(program: Program) -> None:
    command = program.command("emulator", "--accounts", "2", "--write-accounts", "accounts.yaml", "--rate", "50")
    with subprocess.Popen(
        command, env=program.env(), cwd=program.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        words = shlex.split(process.stdout.readline())
        assert words[0] == "export"
        program.environment |= dict(word.split("=", 1) for word in words[1:])
        crawled = program.run("--accounts", "accounts.yaml", "--output", "rows")
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert "3 accounts, the hub 999999999999 among them" in process.stderr.read()
    assert crawled.returncode == 0, crawled.stderr.decode()
    assert (program.folder / "rows").stat().st_size


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estate": "nowhere.yaml"}, "emulator: nowhere.yaml: No such file or directory"),
        ({"fault": ("nonsense",)}, "emulator: no fault is called 'nonsense'; there are"),
        ({"write_accounts": "nowhere/accounts.yaml"}, "emulator: nowhere/accounts.yaml: No such file or directory"),
    ],
)
def test_an_emulator_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(said)):
        emulator(**options)


def test_all_faults_of_the_emulator_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert emulator(fault=("list",)) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FAULTS)


@pytest.mark.parametrize("module", ["nothing_of_this_name", "nothing_of_this_name.at_all", "json.nothing"])
def test_what_an_extra_would_bring_is_named(module: str) -> None:
    need("lake", "json")
    with pytest.raises(UsageError, match=rf"without {module}: python -m pip install 'ecr-inventory-crawler\[lake\]'"):
        need("lake", "json", module)


def test_without_its_environment_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["crawler", "--help"])
    monkeypatch.setitem(sys.modules, "crawler.cli", None)  # which is how Python says that it cannot be imported
    with pytest.raises(SystemExit, match=r"is not installed here: run `\. \.venv/bin/activate`"):
        main()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--accounts"),
        (["--accounts", "nowhere.yaml"], "No such file or directory; `crawler import profiles > nowhere.yaml` writes"),
        (["--accounts", "one.yaml", "--page-size", "1001"], "--page-size"),
        (["--accounts", "one.yaml", "--page-size", "0"], "--page-size"),
        (["--accounts", "one.yaml", "--targets-at-once", "0"], "--targets-at-once"),
        (["--accounts", "one.yaml", "--timeout", "-1"], "--timeout"),
        (["--accounts", "one.yaml", "--tag-status", "some"], "--tag-status"),
        (["--accounts", "one.yaml", "--tolerate", "denid"], "--tolerate"),
        (["--accounts", "one.yaml", "--log-format", "xml"], "--log-format"),
        (["--accounts", "one.yaml", "--account", "two"], "--account"),
        (["--accounts", "one.yaml", "--account-tag", "b"], "--account-tag"),
        (["--accounts", "one.yaml", "--tolerate", "ok"], "choose from denied, throttled, failed"),
        (["--accounts", "one.yaml", "--output", "one.yaml"], "--accounts and --output are the same file, one.yaml"),
        (["--accounts", "one.yaml", "--ledger", "./one.yaml"], "--accounts and --ledger are the same file"),
        (["--accounts", "one.yaml", "--output", "x", "--report", "x"], "--output and --report are the same file"),
        (["--accounts", "one.yaml", "--ledger", ""], "--ledger is empty"),
        (["--accounts", "one.yaml", "--report", "-"], "standard output is for the rows"),
        (["--accounts", "one.yaml", "--output", "nowhere/rows"], "nowhere/rows: cannot be written"),
        (["--accounts", "one.yaml", "--ledger", "."], ".: is a folder: name a file"),
        (["--accounts", "one.yaml", "--workers", "0"], "--workers"),
        (["--accounts", "one.yaml", "--output", "x/", "--engine", "ray", "--address", ""], "--address is empty"),
        (["doktor", "--accounts", "one.yaml"], "Did you mean crawler doctor?"),
        (["one.yaml"], "Is --accounts missing before it?"),
        (["shard"], "WHICH is missing: Which share of how many, as in 3/8"),
        (["shard", "1/4"], "--accounts is missing: crawler shard 3/8 --accounts accounts.yaml"),
        (
            ["shard", "1/4", "--accounts", "one.yaml"],
            "as in --run-id nightly-2026-01-31 --output s3://bucket/inventory/",
        ),
        (["report"], "For example:"),
        (["report", "--output", "x/"], "RUN is missing: Id of the run."),
        (["report", "monday"], "--output is missing: Where runs were published"),
        (["report", "monday", "--output"], "--output has no value: Where runs were published"),
        (["show", "--output", "x/"], "crawler show monday --output s3://bucket/inventory/"),
        (["show", "monday", "tuesday", "--output", "x/"], '"tuesday" means nothing to crawler show.'),
        (["show", "x/y", "--output", "."], "run x/y: cannot be the id of a run"),
        (["report", "x/", "--output", "."], "run x/: cannot be the id of a run"),
        (["diff", "../a", "b", "--output", "."], "run ../a: cannot be the id of a run"),
        (["diff", "monday", "--output", "x/"], "RUN_B is missing: Id of the later run."),
        (["runs"], "crawler runs --output s3://bucket/inventory/"),
        (["import"], "crawler import profiles > accounts.yaml"),
        (
            ["shard", "0/4", "--accounts", "one.yaml", "--output", "x/", "--run-id", "r"],
            "shard 0/4: write I/N, as in 3/8",
        ),
    ],
)
def test_what_cannot_be_used_is_said_before_any_request(program: Program, arguments: list[str], said: str) -> None:
    (program.folder / "one.yaml").write_text(ONE)
    program.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"  # nobody answers there
    done = program.run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stdout == b""
    assert (program.folder / "one.yaml").read_text() == ONE
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: make ray")
@pytest.mark.parametrize(
    ("output", "said"), [("rows/", "rows/: cannot be written"), ("s3://bucket/", "no connection to 127.0.0.1:9")]
)
def test_an_output_that_cannot_be_is_told_before_ray_is_started(program: Program, output: str, said: str) -> None:
    (program.folder / "one.yaml").write_text(ONE)
    (program.folder / "rows").write_text("a file, and no folder")
    program.environment |= {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "RAY_ADDRESS": "local",
        "RAY_OVERRIDE_RESOURCES": "no JSON",  # which it would tell as soon as it starts
    }
    done = program.run("--accounts", "one.yaml", "--engine", "ray", "--output", output)
    assert done.returncode in (1, 2)
    assert said in done.stderr.decode()
    assert "--address" not in done.stderr.decode()


#: Python itself runs this in each process: what is hidden is as if it were not installed.
HIDES = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda _, name, *where: None if name == {hidden!r} else found(name, *where))
"""


def test_an_engine_whose_extra_is_missing_is_told_with_it(program: Program) -> None:
    (program.folder / "one.yaml").write_text(ONE)
    (program.folder / "sitecustomize.py").write_text(HIDES.format(hidden="ray"))
    environment = {**program.env(), "PYTHONPATH": f"{program.folder}{os.pathsep}{Path(__file__).parents[2]}"}
    arguments = ["--accounts", "one.yaml", "--engine", "ray", "--output", "x/"]
    done = subprocess.run(
        program.command(*arguments), env=environment, cwd=program.folder, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"without ray: python -m pip install 'ecr-inventory-crawler[ray]'" in done.stderr
    assert done.stdout == b""
    assert not (program.folder / "x").exists()


def test_the_example_of_each_command_is_one_that_it_takes() -> None:
    for command, example in EXAMPLES.items():
        words = shlex.split(example.partition(" >")[0])
        assert words[:2] == ["crawler", command]
        app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert len(f"  {example}") <= 76, "a terminal of 80 columns shows it in one piece"


def test_the_accounts_file_from_standard_input(program: Program) -> None:
    done = program.run("--accounts", "-", stdin=b"accounts: [{account_id: 12}]\n")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("<stdin>:1:")


def test_options_are_environment_variables_too(program: Program) -> None:
    program.environment |= {"CRAWLER_ACCOUNTS": "-", "CRAWLER_ACCOUNT": "two"}
    done = program.run(stdin=ONE.encode())
    assert done.returncode == 2
    assert "two" in done.stderr.decode()


def test_an_endless_accounts_file_is_refused(program: Program) -> None:
    done = program.run("--accounts", "/dev/zero")
    assert done.returncode == 2
    assert "MiB" in done.stderr.decode()


def test_a_closed_standard_output_is_told_before_any_request(program: Program) -> None:
    (program.folder / "one.yaml").write_text(ONE)
    command = shlex.join(program.command("--accounts", "one.yaml"))
    shell = ["sh", "-c", f"exec {command} >&-"]
    done = subprocess.run(shell, env=program.env(), cwd=program.folder, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr.decode()


def test_ctrl_c_while_the_accounts_file_is_awaited(program: Program) -> None:
    process = subprocess.Popen(
        program.command("--accounts", "-", "-v", "--report", "fifo"),
        env=program.env(),
        cwd=program.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        # It reads its standard input: the file descriptor is where the kernel says that it waits.
        wait = Path(f"/proc/{process.pid}/syscall")
        while not wait.read_text().startswith("0 0x0 "):
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
