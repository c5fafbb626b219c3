"""Consoles of any encoding, streams that are closed, words and paths as shells and other programs pass them on."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk import EdgeSdkError, generate, load_embedding, quantize
from edge_sdk.cli import arguments
from edge_sdk.cli.main import COMMANDS, build_parser, main
from edge_sdk.cli.parser import Parser
from edge_sdk.cli.progress import Progress
from edge_sdk.cli.terminal import prepare_streams
from edge_sdk.pocket import PHOTOS
from edge_sdk.system.paths import expanded
from tests.cli.test_main import call, environment, refused

NAMES = ("\u732b \u2192.png", "caf\u00e9 \U0001f642.png", os.fsdecode(b"caf\xe9.png"), "a\u0301\u05d0.png")
FEW = ("--weights", "none", "--num_inference_steps", "1", "--prompt", "a picture of a person")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii", "latin-1", "cp437", "utf-8"])
def test_any_output_name_is_told_on_any_console(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consoles = {name: io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for name in ("stdout", "stderr")}
    for name, console in consoles.items():
        monkeypatch.setattr(sys, name, console)
    files = NAMES if encoding == "cp1252" else NAMES[:1]
    for file in files:
        assert main(["generate", *FEW, "--output", str(tmp_path / file)]) == 0
        assert (tmp_path / file).exists()
    assert main(["generate", *FEW, "--output", str(tmp_path / "\u732b\u2192.jpg")]) == 2
    for console in consoles.values():
        console.flush()
    written, told = (console.buffer.getvalue().decode(encoding) for console in consoles.values())  # type: ignore[attr-defined]
    assert written.count("wrote ") == len(files) and "must end in .png" in told


CLOSED = {"no stdout": ">&-", "no stderr": "2>&-", "neither": ">&- 2>&-", "nothing at all": "<&- >&- 2>&-"}


@pytest.mark.parametrize("how", CLOSED.values(), ids=CLOSED)
def test_a_command_works_without_streams(how: str, tmp_path: Path) -> None:
    words = " ".join([f"'{sys.executable}'", "-m edge_sdk.cli.main"])
    drawn = f"{words} generate {' '.join(map(repr, FEW))} --output {tmp_path}/x.png"
    program = f"{drawn} {how}; test $? = 0 && {words} generate --prompt x --output x.jpg {how}; exit $?"
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, env=environment())
    assert done.returncode == 2 and (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "Traceback" not in done.stdout + done.stderr


def test_streams_that_are_missing_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
    progress = Progress(quiet=False)
    progress.say("\u732b")
    progress.close()
    print("\u732b", file=sys.stdout)


# words

TEXTS = {
    "generate": ("--prompt", "--negative_prompt"),
    "personalize": ("--placeholder_token", "--initializer_token", "--validation_prompt"),
    "unlearn": ("--prompt",),
    "audit": ("--prompt",),
}
REST = {
    "generate": ["--prompt", "a picture", "--output", "x.png"],
    "personalize": ["--train_data_dir", PHOTOS, "--output_dir", "run"],
    "unlearn": ["--forget_data_dir", PHOTOS, "--retain_data_dir", PHOTOS, "--output_dir", "out"],
    "audit": ["--after", "pocket", "--forget_data_dir", PHOTOS, "--retain_data_dir", PHOTOS, "--output_dir", "out"],
}


@pytest.mark.parametrize("value", [b"caf\xe9", b"\xff", b"a \xed\xa0\x80"], ids=["Latin-1", "no letter", "half a pair"])
@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in TEXTS.items() for o in options])
def test_words_that_are_no_utf8_are_one_line(
    command: str,
    option: str,
    value: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, command, *REST[command], option, os.fsdecode(value))
    assert option[2:] in line and "UTF-8" in line and list(tmp_path.iterdir()) == []


def test_words_in_utf8_are_read_where_the_locale_knows_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    assert arguments.text("caf\udcc3\udca9") == "caf\u00e9" and arguments.text("caf\udce9") == "caf\udce9"
    assert arguments.text("cat") == "cat" and arguments.text("caf\u00e9") == "caf\u00e9"


# paths

PATHS = ("DIR", "FILE", "FILE.png", "FILE.json", "MODEL", "latest|PATH", "pixels|FILE.onnx")


def actions(command: str) -> list[argparse.Action]:
    parser = build_parser(command)
    (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return commands.choices[command]._actions


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_words_says_whether_it_is_a_path(command: str) -> None:
    for action in actions(command):
        if action.metavar in PATHS:
            assert action.type is arguments.path, action.dest
        elif action.nargs not in (0, argparse.REMAINDER) and action.choices is None:
            assert action.type in (arguments.text, int, float) or callable(action.type), action.dest
            assert action.type is not str, action.dest


def test_there_are_paths_in_every_command_that_reads_or_writes() -> None:
    count = {command: sum(action.type is arguments.path for action in actions(command)) for command in COMMANDS}
    assert {command for command, number in count.items() if not number} == {"benchmark"}
    assert sum(count.values()) >= 30


@pytest.mark.parametrize("form", ["--output_dir=~/int8", "--output-dir=~/int8", "--output_dir ~/int8"])
def test_a_home_folder_may_be_written_as_a_tilde(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "int8").mkdir()
    (tmp_path / "home" / "int8" / "model_index.json").write_text("{}")
    line = refused(capsys, "quantize", *form.split(" "))
    assert f"{tmp_path}/home/int8 already holds model_index.json" in line and not (tmp_path / "~").exists()


def test_benchmarks_take_a_tilde_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    parser = Parser()
    parser.add_argument("--output", type=Path)
    parser.add_argument_group("more").add_argument("--bundle", type=Path, nargs="+")
    args = parser.parse_args(["--output=~/x.json", "--bundle", "~/a", "b"])
    assert args.output == Path("/home/somebody/x.json") and args.bundle == [Path("/home/somebody/a"), Path("b")]


def test_somebody_without_a_home_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "export", "--output_dir", "~no-such-user/x")
    assert "~no-such-user, which is nobody's home folder here" in line and "./~no-such-user/x" in line
    assert list(tmp_path.iterdir()) == []


def test_paths_of_the_python_interface_are_expanded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert (
        expanded("~/x") == tmp_path / "home" / "x" and expanded("./~/x") == Path("~/x") and expanded("x~") == Path("x~")
    )
    for use in (
        lambda: load_embedding("~/e.safetensors"),
        lambda: generate("a", "~/model"),
        lambda: generate("a", bundle="~/bundle"),
        lambda: generate("a", embeddings=["~/e.safetensors"]),
        lambda: quantize("~/model", "~/out"),
    ):
        with pytest.raises((EdgeSdkError, OSError)) as caught:
            use()
        assert f"{tmp_path}/home" in str(caught.value) or "~/model" in str(caught.value)
    with pytest.raises(EdgeSdkError, match="nobody's home folder"):
        load_embedding("~no-such-user/e.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_option_may_begin_with_a_tilde_inside_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("generate", *FEW, "--output", "./~x.png") == 0 and (tmp_path / "~x.png").exists()
