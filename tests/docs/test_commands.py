"""Every command of README.md and docs/, run as a reader would run it; or listed here, with the reason why it is not."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from crawler.cli import app
from tests.docs.pages import PAGES, ROOT, languages, steps, text_of, without_blocks
from tests.docs.reader import Reader
from tests.lake.servers import moto

_INSTALLS = "installs from a package index; tests/program/test_wheel.py installs the wheel, and CI from constraints.txt"
_IDENTITY = "signs in to a real AWS, in a browser"
_THIS_VERY_RUN = "is what runs this test, or runs beside it in CI"

#: Commands that no test runs, each with its reason.
NOT_RUN = {
    "git clone … && cd ecr-inventory-crawler": "what is tested here is the clone",
    "python3 -m venv .venv && . .venv/bin/activate": _INSTALLS,
    "python -m pip install .              # the crawler; the same again upgrades it": _INSTALLS,
    "python -m pip install '.[emulator]'  # with the emulator, to rehearse without AWS": _INSTALLS,
    "python -m pip install '.[lake]'      # to publish runs in a folder or a bucket, and in tables": _INSTALLS,
    "python -m pip install '.[lake,report]'  # and to draw them as a page": _INSTALLS,
    "python -m pip install '.[otel]'      # for metrics and traces": _INSTALLS,
    "python -m pip install '.[lake,ray]'  # to crawl on a Ray cluster": _INSTALLS,
    "python -m pip install '.[lake]'": _INSTALLS,
    "python -m pip install '.[otel]'": _INSTALLS,
    "python -m pip install '.[emulator,lake,report]'": _INSTALLS,
    "python -m pip install '.[lake,ray]'     # on every machine of the cluster": _INSTALLS,
    "make demo": "makes .venv as CI does, then starts `crawler demo`, which tests/program/test_wheel.py runs",
    "make test": _THIS_VERY_RUN,
    "make docs": _THIS_VERY_RUN,
    "aws sso login": _IDENTITY,
    "python -m benchmarks scale": "measures nothing, but writes into the page; see tests/benchmarks",
    "python -m benchmarks simulate": "takes minutes; see tests/benchmarks",
    "docker build -t ecr-inventory-crawler .": "needs a docker daemon; `make examples` has hadolint read Dockerfile",
}
#: The same, of commands that are long: how they begin.
NOT_RUN_FROM = {
    "docker run --rm ": "needs a docker daemon, and a bucket of AWS",
    "crawler --accounts accounts.yaml --output s3://bucket/inventory/ --run-id nightly --engine ray --address ": (
        "needs a cluster; tests/lake/test_ray.py has one of one node, and `make ray` of two"
    ),
}

EMULATOR = ["crawler emulator --accounts 5 --write-accounts accounts.yaml", "export AWS_ENDPOINT_URL=…"]
THE_SAME_AS_TOLD = ["crawler emulator --write-accounts accounts.yaml", "export AWS_ENDPOINT_URL=…"]
COMPANY = [
    f"crawler emulator --estate {ROOT}/tests/docs/company.yaml --write-accounts accounts.yaml",
    "export AWS_ENDPOINT_URL=…",
]
NIGHT_BEFORE = "crawler --accounts accounts.yaml --output s3://bucket/inventory/ --run-id nightly-2026-01-30 --quiet"
#: Options on the pages that are not the crawler's own.
OPTIONS_OF_OTHERS = {
    *("--env", "--read-only", "--rm", "--tmpfs", "--volume"),  # docker run
    *("--filename", "--namespace"),  # kubectl apply
    *("--capabilities", "--parameter-overrides", "--stack-name", "--template-file"),  # aws cloudformation deploy
    *("--generate", "--now", "--wrap"),  # ray get-auth-token, systemctl enable, base64
}
#: What a reader has by then without being told to, by page and command.
GIVEN = {
    ("README.md", "python -m crawler --accounts accounts.yaml > images.ndjson"): EMULATOR,
    ("README.md", "python -m crawler import profiles > accounts.yaml"): [
        r"printf '[profile payments]\nrole_arn = arn:aws:iam::123123123123:role/inventory\n' > config",
        "export AWS_CONFIG_FILE=$PWD/config",
    ],
    ("README.md", "python -m crawler doctor --accounts accounts.yaml"): COMPANY,
    ("README.md", "python -m crawler plan --accounts accounts.yaml"): THE_SAME_AS_TOLD,
    (
        "README.md",
        "python -m crawler --accounts accounts.yaml --account payments --ledger ledger.ndjson > payments.ndjson",
    ): COMPANY,
    ("README.md", "make help"): [f"ln -s {ROOT}/Makefile Makefile"],
    ("docs/how-to/completion.md", "crawler completion bash > ~/.local/share/bash-completion/completions/crawler"): [
        "mkdir -p ~/.local/share/bash-completion/completions"
    ],
    ("docs/how-to/what-is-missing.md", "aws sts get-caller-identity"): EMULATOR,
    ("docs/reference/permissions.md", "python -m crawler policy --accounts accounts.yaml"): EMULATOR,
    **{
        (
            page,
            "python -m crawler --accounts accounts.yaml --output s3://bucket/inventory/ --run-id nightly-2026-01-31",
        ): [
            *EMULATOR,
            NIGHT_BEFORE,
        ]
        for page in ("README.md", "docs/reference/published-runs.md")
    },
}
#: Exit codes, where they are not 0.
CODES = {
    ("README.md", "python -m crawler doctor --accounts accounts.yaml"): 3,
    (
        "README.md",
        "python -m crawler --accounts accounts.yaml --account payments --ledger ledger.ndjson > payments.ndjson",
    ): 3,
}


def reason(command: str) -> str | None:
    """Why a command is not run."""
    return NOT_RUN.get(command) or next((why for start, why in NOT_RUN_FROM.items() if command.startswith(start)), None)


def fits(told: str, output: str) -> bool:
    """Whether the output is what was told; an ellipsis stands for anything, on a line of its own for any lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "…" else r"[^\n]*".join(map(re.escape, line.split("…"))) + "\n"
        for line in told.splitlines()
    )
    output = re.sub(r" +$", "", output, flags=re.MULTILINE)  # of columns without a value
    return re.fullmatch(pattern, output + "\n" if output and not output.endswith("\n") else output) is not None


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(not reason(c) for c, _ in steps(page))], ids=name_of)
def test_what_a_reader_sees_is_what_stands_there(page: Path, tmp_path: Path) -> None:
    with ExitStack() as exits:
        environment = {}
        if "s3://" in text_of(page):
            server = exits.enter_context(moto())
            server.client.create_bucket(Bucket="bucket")
            environment = {"AWS_ENDPOINT_URL_S3": server.url}
        reader = Reader(tmp_path, exits, environment)
        for command, told in steps(page):
            if reason(command):
                continue
            at = (name_of(page), command)
            for before in GIVEN.get(at, ()):
                code, output = reader.follow(before)
                assert code == 0, f"$ {before}\n{output}"
            code, output = reader.follow(command)
            assert code == CODES.get(at, 0), f"$ {command}\n{output}"
            if told is not None and not command.startswith("export "):
                assert fits(told, output), f"$ {command}\n{output}\n--- instead of ---\n{told}"


def test_no_list_has_a_command_that_is_nowhere() -> None:
    everywhere = {(name_of(page), command) for page in PAGES for command, _ in steps(page)}
    commands = {command for _, command in everywhere}
    assert set(NOT_RUN) <= commands
    assert {start for start in NOT_RUN_FROM if not any(command.startswith(start) for command in commands)} == set()
    assert {*GIVEN, *CODES} <= everywhere
    assert all(not reason(command) for _, command in [*GIVEN, *CODES])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_written_where_this_finds_them(page: Path) -> None:
    text = text_of(page)
    assert languages(text) <= {"console", "ini", "json", "python", "sql", "text", "yaml"}
    assert not re.findall(r"\n\n {4}[^ \n-][^\n]*", without_blocks(text)), "indented code"


def options() -> set[str]:
    """All that some command of the program knows."""
    apps = [app, *(app[name] for name in app if not name.startswith("-"))]
    known = {name for each in apps for argument in each.assemble_argument_collection() for name in argument.names}
    return known | {"--help", "--version"}


def test_every_option_that_is_told_of_exists() -> None:
    told = {option for page in PAGES for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of(page))}
    assert told - options() == OPTIONS_OF_OTHERS


def test_every_command_that_is_told_of_exists() -> None:
    named = r"(?:`|\$ |python -m )crawler ([a-z]+)"
    assert {name for page in PAGES for name in re.findall(named, text_of(page))} <= set(app)
