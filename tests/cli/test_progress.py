"""What a command shows while it works: stages with a count and a time, one line on a terminal."""

import io
import re

import pytest

from edge_sdk.cli import progress as module
from edge_sdk.cli.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the module; a list of one number."""
    time = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def walk(progress: Progress, now: list[float], total: int, seconds: float, name: str = "encoding photos") -> None:
    progress.stage(name, 0, total)
    for done in range(1, total + 1):
        now[0] += seconds
        progress.stage(name, done, total)


def test_a_short_stage_is_one_line_with_its_count_and_time(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    walk(Progress(False), now, 3, 1.0)
    assert capsys.readouterr().err == "encoding photos 3/3  0:03\n"


def test_a_long_stage_speaks_every_ten_seconds_and_says_what_is_left(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    walk(Progress(False), now, 100, 6.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 50 and lines[0] == "encoding photos 2/100  0:12  ETA 9:48"
    assert lines[-1] == "encoding photos 100/100  10:00"


def test_the_first_part_which_may_include_loading_is_no_measure(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(False)
    progress.stage("drawing", 0, 10)
    now[0] += 300
    progress.stage("drawing", 1, 10)
    now[0] += 11
    progress.stage("drawing", 2, 10)
    assert capsys.readouterr().err.splitlines() == ["drawing 1/10  5:00", "drawing 2/10  5:11  ETA 1:28"]


def test_a_stage_without_parts_is_named(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(False)
    progress.stage("loading the denoiser", 0, 0)
    walk(progress, now, 1, 1.0)
    assert capsys.readouterr().err.splitlines() == ["loading the denoiser", "encoding photos 1/1  0:01"]


def test_on_a_terminal_one_line_is_redrawn(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "stderr", terminal := Terminal())
    progress = Progress(False)
    walk(progress, now, 5, 1.0)
    progress.say("a notice")
    walk(progress, now, 2, 1.0, "drawing")
    progress.close()
    progress.close()
    written = terminal.getvalue()
    assert written.count("\n") == 2 and written.endswith("\n")
    shown = re.split(r"\r\x1b\[K", written)
    assert "encoding photos 0/5  0:00" in shown and "encoding photos 3/5  0:03  ETA 0:02" in shown
    assert "a notice\n" in shown and shown[-1] == "drawing 2/2  0:02\n"


def test_quiet_shows_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(True)
    walk(progress, now, 30, 5.0)
    progress.say("a notice")
    progress.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (75, "1:15"), (3675, "1:01:15")])
def test_times_are_minutes_and_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
