"""What appears whole or not at all: what killed processes left goes, what others own or use stays, modes are kept."""

import itertools
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sdk.system.atomic import PRIVATE, SHIPPED, make_folder, staging, whole_file, whole_folder

WRITER = """
import sys, time
from pathlib import Path
from edge_sdk.system.atomic import whole_folder
with whole_folder(Path(sys.argv[1])) as new:
    (new / "half").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path, file_mode: int = PRIVATE) -> None:
    with whole_file(path, file_mode) as new:
        new.write_bytes(b"new")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that is at work on ``out`` in ``tmp_path``."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_stays(
    writer: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    (left,) = tmp_path.iterdir()
    write(tmp_path / "other")
    assert (left / "out" / "half").read_bytes() == b"half"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    write(tmp_path / "other")
    assert os.listdir(tmp_path) == ["other"]


@pytest.mark.parametrize("number", [1, os.getpid()], ids=["process 1", "this process's number"])
def test_temporary_files_of_earlier_versions_are_removed_whatever_their_number(number: int, tmp_path: Path) -> None:
    (tmp_path / f".a.{number}.tmp").write_bytes(b"half")
    (tmp_path / f".folder.{number}.tmp").mkdir()
    (tmp_path / f".folder.{number}.tmp" / "half").write_bytes(b"half")
    (tmp_path / ".notes.1.tmp").write_bytes(b"mine")
    write(tmp_path / "a")
    with whole_folder(tmp_path / "folder") as new:
        (new / "b").write_bytes(b"b")
    assert sorted(os.listdir(tmp_path)) == [".notes.1.tmp", "a", "folder"]


def test_a_link_in_place_of_a_leftover_leads_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_bytes(b"kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".edge-sdk-{'0' * 32}.tmp").symlink_to(tmp_path / "mine")
    write(tmp_path / "out" / "a")
    assert (tmp_path / "mine" / "kept").read_bytes() == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_another_user_left_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f".edge-sdk-{'0' * 32}.tmp"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    write(tmp_path / "a")
    assert folder.exists()


def test_a_temporary_folder_is_private_and_its_name_is_new_each_time(
    umask: Callable[[int], object], tmp_path: Path
) -> None:
    umask(0)
    names = set()
    for _ in range(3):
        with staging(tmp_path) as folder:
            names.add(folder.name)
            assert mode(folder) == 0o700
    assert len(names) == 3 and all(len(name) > 32 for name in names) and not any(tmp_path.iterdir())


def test_an_interruption_at_any_call_leaves_nothing(tmp_path: Path) -> None:
    """Python calls signal handlers where a function begins and where a built-in one has returned."""

    def interrupt_at(number: int) -> bool:
        events = itertools.count()

        def profile(_frame: object, event: str, _argument: object) -> None:
            if event in ("call", "c_return") and next(events) == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            with staging(tmp_path) as folder:
                (folder / "half").write_bytes(b"half")
        except (KeyboardInterrupt, OSError):  # `shutil.rmtree` may close a descriptor twice then
            return True
        finally:
            sys.setprofile(None)
        return False

    number = 0
    while interrupt_at(number):
        assert os.listdir(tmp_path) == [], number
        number += 1
    assert number > 50


@pytest.mark.parametrize(
    ("mask", "file_mode", "expected"),
    [
        (0, PRIVATE, (0o600, 0o700)),
        (0o022, PRIVATE, (0o600, 0o700)),
        (0, SHIPPED, (0o666, 0o777)),
        (0o027, SHIPPED, (0o640, 0o750)),
        (0o077, SHIPPED, (0o600, 0o700)),
    ],
    ids=["private, umask 0", "private", "shipped, umask 0", "shipped, umask 27", "shipped, umask 77"],
)
def test_the_umask_counts_for_what_is_shipped_only(
    mask: int, file_mode: int, expected: tuple[int, int], umask: Callable[[int], object], tmp_path: Path
) -> None:
    umask(mask)
    write(tmp_path / "a", file_mode)
    with whole_folder(tmp_path / "b", file_mode) as new:
        (new / "c").mkdir(mode=0o700)
        (new / "c" / "d").touch(mode=0o600)  # as libraries make them
    make_folder(tmp_path / "e" / "f", file_mode)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == expected
    assert (mode(tmp_path / "b" / "c" / "d"), mode(tmp_path / "b" / "c")) == expected
    assert mode(tmp_path / "e") == mode(tmp_path / "e" / "f") == expected[1]


@pytest.mark.parametrize("file_mode", [PRIVATE, SHIPPED], ids=["private", "shipped"])
def test_replacing_widens_no_mode(file_mode: int, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o400)
    (tmp_path / "b").mkdir(mode=0o700)
    write(tmp_path / "a", file_mode)
    with whole_folder(tmp_path / "b", file_mode) as new:
        (new / "c").touch()
    assert (tmp_path / "a").read_bytes() == b"new" and mode(tmp_path / "a") == 0o400
    assert mode(tmp_path / "b") == 0o700 and (tmp_path / "b" / "c").exists()


def test_a_folder_that_holds_something_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(OSError, match="not empty"), whole_folder(tmp_path / "b") as new:
        (new / "c").touch()
    assert os.listdir(tmp_path) == ["b"] and os.listdir(tmp_path / "b") == ["mine"]
