"""Files: whole or not at all, errors in one line, one run a folder."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import RunLock, check_output_dir, disk_errors, replacing, write_bytes, write_json

HOLD = """
import sys, time
from pathlib import Path
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import RunLock
try:
    with RunLock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
except EdgeSdkError as error:
    print(error, flush=True)
"""


def test_bytes_and_json_are_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\0\1")
    write_json(tmp_path / "b.json", {"steps": [1, 2]})
    assert (tmp_path / "a").read_bytes() == b"\0\1"
    assert json.loads((tmp_path / "b.json").read_text()) == {"steps": [1, 2]}
    assert sorted(os.listdir(tmp_path)) == ["a", "b.json"]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EIO, "Input/output error")],
    ids=["full", "over quota", "broken"],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("older", [b"older", None], ids=["over an older file", "new"])
def test_a_failing_disk_leaves_the_older_file_whole_and_nothing_else(
    older: bytes | None, call: str, number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    if older is not None:
        path.write_bytes(older)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*run\.json cannot be written: {message}; [^\n]*$"):
        write_json(path, {"new": 1})
    assert os.listdir(tmp_path) == (["run.json"] if older else [])
    assert older is None or path.read_bytes() == older


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError], ids=lambda kind: kind.__name__)
def test_an_interrupted_write_leaves_the_older_file_whole(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"older")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"older" and os.listdir(tmp_path) == ["a"]


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    write_bytes(tmp_path / "a", b"new")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder's entry


@pytest.mark.parametrize("place", ["no_folder/a", "a_file/a", "a_folder"])
def test_a_place_that_cannot_be_written_is_a_one_line_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder").mkdir()
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{place} cannot be written: [^\n]*; choose another place$"):
        write_bytes(tmp_path / place, b"new")
    assert sorted(os.listdir(tmp_path)) == ["a_file", "a_folder"]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full; free some space and resume"), (errno.EROFS, "Read-only file system; choose")],
    ids=["full", "read-only"],
)
def test_a_disk_error_names_the_place_and_what_to_do(number: int, message: str) -> None:
    with pytest.raises(EdgeSdkError, match=f"^/runs/1 cannot be written: {message}"), disk_errors(Path("/runs/1")):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), disk_errors(Path("a")):
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["run.json", "learned_embeds.safetensors", "checkpoint-50/state.safetensors"])
def test_a_folder_with_another_run_is_refused_unless_it_is_resumed(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    check_output_dir(tmp_path)
    (tmp_path / "checkpoint-50").mkdir()  # alone it is no checkpoint
    check_output_dir(tmp_path)
    (tmp_path / name).touch()
    taken = name.partition("/")[0]
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]* already holds {taken}; use another --output_dir, or --resume"):
        check_output_dir(tmp_path)
    check_output_dir(tmp_path, resume=True)
    assert sorted(os.listdir(tmp_path)) == sorted({"notes.txt", "checkpoint-50", taken})


def test_a_folder_for_something_else_than_a_run_has_its_own_marks(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    check_output_dir(tmp_path, run_files=("model_index.json",))
    (tmp_path / "model_index.json").touch()
    with pytest.raises(EdgeSdkError, match=r"already holds model_index\.json; use another --output_dir$"):
        check_output_dir(tmp_path, run_files=("model_index.json",))


@pytest.mark.parametrize("missing", [False, True], ids=["a file", "missing"])
def test_an_output_folder_that_is_none_is_a_one_line_error(missing: bool, tmp_path: Path) -> None:
    place = tmp_path / "out"
    if not missing:
        place.touch()
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*out cannot be written: [^\n]*$"):
        check_output_dir(place)


def start_holder(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A second process that tries to hold the folder, and what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    stream: IO[str] | None = process.stdout
    assert stream is not None
    with stream:
        return process, stream.readline().strip()


def test_a_second_process_is_refused_until_the_first_ends_even_by_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    holder, said = start_holder(folder)
    try:
        assert said == "held"
        with pytest.raises(EdgeSdkError, match=r"^another run is at work in [^\n]*run; wait"), RunLock(folder):
            pytest.fail("two runs hold one folder")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with RunLock(folder):
        other, said = start_holder(folder)
        other.wait()
        assert said.startswith("another run is at work in")
    with RunLock(folder):
        pass


def test_two_folders_can_be_held_at_once(tmp_path: Path) -> None:
    with RunLock(tmp_path / "a"), RunLock(tmp_path / "b"):
        assert (tmp_path / "a" / ".lock").exists() and (tmp_path / "b" / ".lock").exists()


def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]* cannot be written: [^\n]*$"), RunLock(tmp_path):
        pytest.fail("a link was followed")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("place", ["a_file/run", "a_file"])
def test_a_folder_that_cannot_be_made_is_a_one_line_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{place} cannot be written: [^\n]*$"), RunLock(tmp_path / place):
        pytest.fail("there is no folder to hold")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folder")
def test_a_file_system_that_takes_no_folder_is_a_one_line_error() -> None:
    place = Path("/proc/nowhere/run")
    with pytest.raises(EdgeSdkError, match=r"^/proc/nowhere/run cannot be written: [^\n]*$"), RunLock(place):
        pytest.fail("there is no folder to hold")
