"""The command line as a whole: help, exit statuses, one line for every mistake."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edge_sdk import EdgeSdkError, __version__
from edge_sdk.cli.main import CANCELLED, COMMANDS, USER_ERROR, main

FLAGS = {
    "demo": "--output_dir --web --bundle --port --seed --quiet",
    "personalize": (
        "--pretrained_model_name_or_path --train_data_dir --placeholder_token --initializer_token --num_vectors "
        "--output_dir --weights --max_train_steps --learning_rate --resolution --zo_samples --zo_mu --zo_difference "
        "--subspace_buffer --subspace_threshold --timestep_range --preset --checkpointing_steps "
        "--resume_from_checkpoint --time_budget_s --seed --quiet"
    ),
    "generate": (
        "--pretrained_model_name_or_path --embedding --prompt --negative_prompt --num_inference_steps "
        "--guidance_scale --num_images --output --seed --quiet"
    ),
    "quantize": "--pretrained_model_name_or_path --weights --output_dir --seed --quiet",
    "benchmark": "--seed --quiet",
    "export": "--pretrained_model_name_or_path --format --weights --output_dir --seed --quiet",
    "verify": "--quiet",
    "unlearn": "--pretrained_model_name_or_path --forget_data_dir --retain_data_dir --surrogate_data_dir --output_dir "
    "--seed --quiet",
    "audit": "--before --after --seed --quiet",
}


def call(*argv: object) -> int:
    """The exit status of a command in this process."""
    try:
        return main([str(word) for word in argv])
    except SystemExit as end:
        return int(end.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on stderr of a command that ends with the user's mistake."""
    capsys.readouterr()
    assert call(*argv) == USER_ERROR
    out, err = capsys.readouterr()
    assert err.startswith("edge-sdk: error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert out == "" and "Traceback" not in err
    return err


def environment() -> dict[str, str]:
    """That of a process which computes the same bytes as this one, and is as quiet as it makes itself."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    return inherited | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}


def start(*argv: object) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "edge_sdk.cli.main", *map(str, argv)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_flags_of_the_contract(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    listed = set(re.findall(r"--\w+", capsys.readouterr().out))
    assert not set(FLAGS[command].split()) - listed


def test_help_names_every_command_without_loading_a_framework() -> None:
    program = (
        "import sys; from edge_sdk.cli.main import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'numpy', 'onnxruntime', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^    {command} ", done.stdout, re.MULTILINE) for command in COMMANDS)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0 and capsys.readouterr().out == f"edge-sdk {__version__}\n"


MISTAKES = {
    "an option before the command": (["--quiet"], "--quiet"),
    "unknown command": (["train"], "invalid choice: 'train'"),
    "misspelled command": (["personalise"], "did you mean personalize? See edge-sdk --help"),
    "misspelled option": (["demo", "--wbe"], "did you mean --web? See edge-sdk demo --help"),
    "part of an option": (["personalize", "--model", "x"], "did you mean --pretrained_model_name_or_path?"),
    "misspelled option with dashes": (["generate", "--num-image=3"], "did you mean --num_images?"),
    "misspelled choice": (["quantize", "--output_dir", "x", "--weights", "int-8"], "did you mean int8?"),
    "misspelled benchmark": (["benchmark", "sped"], "did you mean speed? See edge-sdk benchmark --help"),
    "misspelled option of a benchmark": (["benchmark", "speed", "--round", "2"], "did you mean --rounds?"),
    "an option of diffusers' script": (["personalize", "--mixed_precision", "fp16"], "integers; leave it out"),
    "another one": (["personalize", "--gradient-checkpointing"], "integers; leave it out"),
    "pushing to the hub": (["personalize", "--push_to_hub"], "nothing leaves this machine"),
    "unknown option": (["quantize", "--output_dir", "x", "--bits", "3"], "--bits"),
    "unknown option with a line break": (["quantize", "--output_dir", "x", "--bits", "a\nb"], "--bits"),
    "abbreviated option": (["quantize", "--output", "x"], "--output_dir"),
    "personalize without photos": (["personalize", "--output_dir", "x"], "--train_data_dir"),
    "generate without a prompt": (["generate", "--output", "x.png"], "--prompt"),
    "quantize without a folder": (["quantize"], "--output_dir"),
    "seed that is no number": (["demo", "--output_dir", "x", "--seed", "lucky"], "--seed"),
}


@pytest.mark.parametrize(("argv", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refused(capsys, *argv)


def test_a_message_of_several_lines_is_made_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise EdgeSdkError("one\n  two")

    monkeypatch.setattr("edge_sdk.cli.demo.run", run)
    assert refused(capsys, "demo", "--output_dir", tmp_path) == "edge-sdk: error: one two\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "/models"),
            "/models cannot be used: Permission denied; give another",
        ),
        (OSError("no\nnetwork"), "the system refuses something (no network)"),
        (MemoryError(), "memory is used up (MemoryError); free some"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory is used up (CUDA out of memory)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr("edge_sdk.cli.quantize.run", run)
    assert said in refused(capsys, "quantize", "--output_dir", tmp_path)


def test_a_panic_of_a_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def run(_: object) -> int:
        raise panic("retry-limit-in-match\nover")

    monkeypatch.setattr("edge_sdk.cli.quantize.run", run)
    assert "a library gave up on an input (retry-limit-in-match over)" in refused(
        capsys, "quantize", "--output_dir", tmp_path
    )


def test_what_a_terminal_takes_for_a_command_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise EdgeSdkError("no \x1b[31mfile\x07 \u202ename \udcff")

    monkeypatch.setattr("edge_sdk.cli.quantize.run", run)
    assert refused(capsys, "quantize", "--output_dir", tmp_path) == "edge-sdk: error: no ?[31mfile? ?name ?\n"


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError, AssertionError])
def test_a_mistake_of_ours_is_seen_whole(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise error("ours")

    monkeypatch.setattr("edge_sdk.cli.quantize.run", run)
    with pytest.raises(error):
        call("quantize", "--output_dir", tmp_path)


def test_an_interrupt_outside_a_run_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_sdk.cli.quantize.run", run)
    assert call("quantize", "--output_dir", tmp_path) == CANCELLED == 130
    assert capsys.readouterr().err == "edge-sdk: cancelled\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_within_an_import_ends_with_130(number: signal.Signals) -> None:
    """Python would end itself by SIGINT where a KeyboardInterrupt has passed through ``exec``."""
    program = (
        "import os, signal, sys, time; from edge_sdk.cli import main, quantize\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"quantize.run = lambda _: exec('os.kill(os.getpid(), {int(number)}); time.sleep(20)')\n"
        "sys.exit(main.main(['quantize', '--output_dir', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "edge-sdk: cancelled\n")


def test_the_module_is_the_command() -> None:
    process = start("generate", "--prompt", "x", "--output", "picture.jpg")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert err == "edge-sdk: error: output is picture.jpg; it must end in .png\n"
