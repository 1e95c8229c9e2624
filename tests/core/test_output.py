"""Files that appear whole or not at all, and streams that may end at any time."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from crawler.errors import Fatal, ReaderGone, UsageError
from crawler.sinks.output import Output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images.ndjson"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_appears_when_it_is_published_and_until_then_the_old_one_stays(file: Path) -> None:
    file.write_bytes(b"of last night")
    with Output(str(file)) as output:
        output.write(b"one\n")
        output.write(b"two\n")
        assert file.read_bytes() == b"of last night"
        output.publish()
        assert file.read_bytes() == b"one\ntwo\n"
    assert list(file.parent.iterdir()) == [file]


def test_only_its_owner_may_read_it_also_where_one_was_left_that_others_may(file: Path) -> None:
    partial(file).touch(mode=0o644)
    partial(file).chmod(0o644)
    with Output(str(file)) as output:
        assert stat.S_IMODE(partial(file).stat().st_mode) == 0o600
        output.publish()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize(("owner", "refused"), [("ours", False), ("another's", True)])
def test_what_is_left_by_another_is_refused_and_stays_as_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch, owner: str, mode: int, *, refused: bool
) -> None:
    """Root could write it for them. Ours stays open to others where a file system knows no modes."""
    partial(file).write_bytes(b"theirs")
    partial(file).chmod(mode)
    uid = os.geteuid() + (owner != "ours")
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    def refuse(_fd: int, _mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    if refused:
        with pytest.raises(UsageError, match="cannot be written: Operation not permitted"):
            Output(str(file))
        assert partial(file).read_bytes() == b"theirs"
    else:
        Output(str(file)).close()


def test_where_a_file_system_says_that_all_is_anothers_what_we_make_is_ours(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a share of Windows has it, and NFS for root."""
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with Output(str(file)) as output:
        output.write(b"rows")
        output.publish()
    assert file.read_bytes() == b"rows"


def test_only_its_owner_may_read_it(file: Path) -> None:
    with Output(str(file)) as output:
        output.publish()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_run_that_fails_leaves_the_partial_file_and_the_next_begins_it_anew(file: Path) -> None:
    with Output(str(file)) as output:
        output.write(b"a longer text than the next\n")
    assert not file.exists()
    assert partial(file).read_bytes() == b"a longer text than the next\n"
    with Output(str(file)) as output:
        output.write(b"short\n")
        output.publish()
    assert file.read_bytes() == b"short\n"
    assert not partial(file).exists()


def test_a_second_run_is_locked_out_and_harms_nothing(file: Path) -> None:
    open_before = open_descriptors()
    with Output(str(file)) as output:
        output.write(b"first\n")
        with pytest.raises(UsageError, match=r"images\.ndjson\.partial: another run is writing it; choose another"):
            Output(str(file))
        output.publish()
    assert file.read_bytes() == b"first\n"
    assert open_descriptors() == open_before


@pytest.mark.parametrize("renewed", [False, True])
def test_a_file_published_while_we_waited_for_its_lock_is_not_truncated(
    *, renewed: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial(file).write_bytes(b"all of the other run\n")

    def flock_late(_fd: int, _how: int) -> None:
        partial(file).rename(file)
        if renewed:
            partial(file).write_bytes(b"of a third run\n")

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with pytest.raises(UsageError, match="another run is writing it"):
        Output(str(file))
    assert file.read_bytes() == b"all of the other run\n"


def test_a_link_stays_and_what_it_points_to_is_replaced(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real"
    file.symlink_to(real)
    with Output(str(file)) as output:
        output.write(b"rows\n")
        output.publish()
    assert file.is_symlink()
    assert real.read_bytes() == b"rows\n"


def test_a_link_in_place_of_the_partial_file_is_not_followed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    partial(file).symlink_to(victim)
    with pytest.raises(UsageError, match="cannot be written"):
        Output(str(file))
    assert victim.read_bytes() == b"precious"


def test_links_in_a_circle_are_no_crash(file: Path) -> None:
    file.symlink_to(file)
    with Output(str(file)) as output:
        output.publish()
    assert not file.is_symlink()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is a folder: name a file, or, as --output, "),
        ("missing/images.ndjson", "cannot be written: No such file or directory"),
        ("x" * 250, "cannot be written: File name too long"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_request(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Output(f"{tmp_path}/{name}")
    assert str(caught.value).startswith(f"{tmp_path}/{name}: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_a_named_pipe_is_written_as_it_is(file: Path) -> None:
    os.mkfifo(file)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(file.read_bytes()))
    reader.start()
    with Output(str(file)) as output:
        output.write(b"rows\n")
        output.publish()
    reader.join()
    assert got == [b"rows\n"]
    assert file.is_fifo()
    assert not partial(file).exists()


def test_a_device_is_not_replaced() -> None:
    with Output(os.devnull) as output:
        output.write(b"rows\n")
        output.publish()
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_a_full_disk_ends_the_run_and_names_the_file() -> None:
    with Output("/dev/full") as output, pytest.raises(Fatal) as caught:
        output.write(b"rows\n")
    assert str(caught.value) == "WriteFailed: /dev/full: No space left on device"
    assert not isinstance(caught.value, ReaderGone)


def test_a_pipe_of_the_shell_has_only_a_number(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with Output(f"/dev/fd/{write_end}") as output:
        output.write(b"rows\n")
        output.publish()
    assert os.read(read_end, 100) == b"rows\n"


def test_a_reader_that_has_gone_is_an_end_of_its_own(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    with Output(f"/dev/fd/{write_end}") as output:
        os.close(read_end)
        with pytest.raises(ReaderGone, match="its reader has closed it"):
            output.write(b"rows\n")


def test_standard_output_is_not_closed(capfd: pytest.CaptureFixture[str]) -> None:
    with Output("-") as output:
        assert repr(output) == "<Output '<stdout>'>"
        output.write(b"rows\n")
        output.publish()
        output.close()
    os.write(1, b"more\n")
    assert capfd.readouterr().out == "rows\nmore\n"


def test_a_pipe_that_someone_made_non_blocking_is_waited_for(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    monkeypatch.setattr(os, "dup", lambda _: write_end)
    rows = b"row\n" * 100_000
    output = Output("-")
    writer = threading.Thread(target=lambda: (output.write(rows), output.close()))
    writer.start()
    with open(read_end, "rb", closefd=False) as reader:
        assert reader.read() == rows
    writer.join()


@pytest.fixture
def rows() -> Iterator[IO[bytes]]:
    """A file that somebody has just written, and whose position is at its end."""
    with tempfile.TemporaryFile() as file:
        file.writelines(b"row %d\n" % number for number in range(50_000))
        file.flush()
        yield file


def copied(rows: IO[bytes], to: int, read_end: int | None, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What standard output gets, if it is `to`: a line, the file, and a line."""
    monkeypatch.setattr(os, "dup", lambda _: to)
    output = Output("-")

    def write() -> None:
        output.write(b"before\n")
        output.copy(rows)
        output.write(b"after\n")
        output.close()

    if read_end is None:
        write()
        return b""
    writer = threading.Thread(target=write)
    writer.start()
    with open(read_end, "rb", closefd=False) as reader:
        got = reader.read()
    writer.join()
    return got


WHOLE = b"before\n" + b"".join(b"row %d\n" % number for number in range(50_000)) + b"after\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_file_is_copied_to_a_pipe_between_what_is_written(
    pipe: tuple[int, int], rows: IO[bytes], monkeypatch: pytest.MonkeyPatch, *, blocking: bool
) -> None:
    os.set_blocking(pipe[1], blocking)
    assert copied(rows, pipe[1], pipe[0], monkeypatch) == WHOLE


@pytest.mark.parametrize("mode", [os.O_WRONLY, os.O_WRONLY | os.O_APPEND])  # `>` and `>>`: the kernel moves to one only
def test_a_file_is_copied_to_a_file(rows: IO[bytes], file: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    copied(rows, os.open(file, mode | os.O_CREAT), None, monkeypatch)
    assert file.read_bytes() == WHOLE


def test_a_copy_that_the_kernel_gives_up_half_way_is_ended_by_us(
    rows: IO[bytes], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = iter([12_345])

    def some(to: int, source: int, offset: int, count: int) -> int:  # noqa: ARG001  (the function's that it stands for)
        for size in moves:
            return os.write(to, os.pread(source, size, offset))
        raise OSError(errno.EIO, "of which side?")

    monkeypatch.setattr(os, "sendfile", some)
    copied(rows, os.open(file, os.O_WRONLY | os.O_CREAT), None, monkeypatch)
    assert file.read_bytes() == WHOLE


def test_a_copy_that_fails_has_the_words_of_a_write(pipe: tuple[int, int], rows: IO[bytes]) -> None:
    with Output("/dev/full") as output, pytest.raises(Fatal, match="No space left on device"):
        output.copy(rows)
    with Output(f"/dev/fd/{pipe[1]}") as output:
        os.close(pipe[0])
        with pytest.raises(ReaderGone):
            output.copy(rows)


def test_a_closed_standard_output_is_a_usage_error() -> None:
    program = """
import sys
from crawler.errors import UsageError
from crawler.sinks.output import Output
try:
    Output("-")
except UsageError as error:
    sys.stderr.write(f"{error}\\n")
"""
    ended = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" >&-', sys.executable, program], capture_output=True, text=True, check=True
    )
    assert ended.stderr == "standard output is closed: name a file with --output\n"


def test_repr_tells_the_partial_file(file: Path) -> None:
    with Output(str(file)) as output:
        assert repr(output) == f"<Output {str(file)!r} in 'images.ndjson.partial'>"
        output.publish()
        assert repr(output) == f"<Output {str(file)!r}>"
        output.publish()


def test_rows_are_on_the_disk_before_their_name_is_and_the_name_after(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), file.exists())))
    with Output(str(file)) as output:
        output.publish()
    assert synced == [(False, False), (True, True)]


def test_a_disk_that_fails_at_the_end_publishes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with Output(str(file)) as output, pytest.raises(Fatal, match=r"Input/output error$"):
        output.publish()
    assert not file.exists()


def test_a_file_that_could_not_take_all_never_appears(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end in half a line."""

    def write(_: int, data: bytes) -> int:
        if len(data) < 9:
            raise OSError(28, "No space left on device")
        return 4

    with Output(str(file)) as output:
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(Fatal, match="No space left"):
            output.write(b"one\ntwo\nthree\n")
        monkeypatch.undo()
        with pytest.raises(Fatal, match="No space left"):
            output.publish()
    assert not file.exists()
