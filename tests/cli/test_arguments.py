"""Options of the command line: help that stands alone, defaults and ranges that are those of the configs, spellings."""

import argparse
import re
import shlex
import subprocess
import sys
from dataclasses import Field, fields
from typing import Any

import pytest

from edge_sdk.cli.arguments import collect
from edge_sdk.cli.main import COMMANDS, build_parser
from edge_sdk.cli.parser import Parser
from edge_sdk.config import PersonalizeConfig
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.zo import PAPER, ZoConfig
from tests.cli.test_main import call, refused

REQUIRED = {
    "demo": [],
    "personalize": ["--train_data_dir", "photos", "--output_dir", "run"],
    "generate": ["--prompt", "a dog", "--output", "x.png"],
    "quantize": ["--output_dir", "out"],
    "export": ["--output_dir", "out"],
    "verify": ["bundle"],
    "unlearn": ["--forget_data_dir", "a", "--retain_data_dir", "b", "--output_dir", "c"],
    "audit": ["--after", "x", "--forget_data_dir", "a", "--retain_data_dir", "b", "--output_dir", "c"],
    "benchmark": ["speed"],
}


def parser_of(command: str) -> argparse.ArgumentParser:
    (subparsers,) = (a for a in build_parser(command)._actions if isinstance(a, argparse._SubParsersAction))
    return subparsers.choices[command]


def actions() -> list[Any]:
    """Every option and argument of every command."""
    return [
        pytest.param(action, id=f"{command} {(action.option_strings or [action.dest])[0]}")
        for command in COMMANDS
        for action in parser_of(command)._actions
    ]


@pytest.mark.parametrize("action", actions())
def test_the_help_of_an_option_stands_alone(action: argparse.Action) -> None:
    words = (action.help or "").split()
    assert len(words) >= 3 and words[0] != "and" and not words[0].startswith("(")
    takes_value = action.option_strings and action.nargs != 0 and not action.required
    assert not takes_value or re.search("default|preset|instead|resume|new folder", action.help)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_that_the_parser_takes(command: str) -> None:
    epilog = parser_of(command).epilog or ""
    assert epilog.startswith(f"example: edge-sdk {command} ") and "\n" not in epilog
    assert build_parser(command).parse_args(shlex.split(epilog)[2:]).command == command


@pytest.mark.parametrize("command", ["personalize", "unlearn", "generate", "audit"])
def test_long_lists_of_options_are_grouped(command: str) -> None:
    groups = [group for group in parser_of(command)._action_groups if group._group_actions]
    assert groups[1].title == "often used" and {"method", "model", "run"} <= {group.title for group in groups}
    assert [action.dest for action in groups[0]._group_actions] == ["help"]


def test_the_command_alone_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    out, err = capsys.readouterr()
    assert err == "" and all(f"    {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_framework(command: str) -> None:
    program = (
        "import sys; from edge_sdk.cli.main import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "finally: assert not {'torch', 'onnxruntime', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [PersonalizeConfig, UnlearnConfig], ids=lambda kind: kind.__name__)
def test_without_options_the_config_is_the_default(kind: type[Any]) -> None:
    command = "unlearn" if kind is UnlearnConfig else "personalize"
    args = build_parser(command).parse_args([command, *REQUIRED[command]])
    assert kind.from_options(**collect(args, kind)) == kind()


def example_of(each: "Field[Any]") -> tuple[list[str], Any]:
    """Words of the command line for a field, and what they mean."""
    if each.metadata["choices"]:
        return [each.metadata["choices"][-1]], each.metadata["choices"][-1]
    if isinstance(each.default, tuple):
        return ["3", "9"], (3, 9)
    if isinstance(each.default, bool):
        return [], True
    return ["7"], "7" if "str" in str(each.type) else 7


@pytest.mark.parametrize(
    ("command", "kind"),
    [("personalize", PersonalizeConfig), ("personalize", ZoConfig), ("unlearn", UnlearnConfig)],
    ids=["personalize", "optimizer", "unlearn"],
)
def test_every_field_with_a_group_is_an_option_that_reaches_the_config(command: str, kind: type) -> None:
    listed = [each for each in fields(kind) if each.metadata.get("group")]
    assert len(listed) > 10
    for each in listed:
        words, value = example_of(each)
        args = build_parser(command).parse_args([command, *REQUIRED[command], f"--{each.name}", *words])
        assert collect(args, kind)[each.name] == value, each.name


@pytest.mark.parametrize("kind", [PersonalizeConfig, UnlearnConfig, ZoConfig], ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_is(kind: type) -> None:
    for each in fields(kind):
        assert each.name == "zo_options" or len(each.metadata["help"].split()) >= 3, each.name


SPELLINGS = [
    ["personalize", "--train-data-dir", "p", "--output-dir=r"],
    ["generate", "--prompt", "x", "--output", "x.png", "--num-inference-steps=3", "--guidance-scale", "2"],
    ["quantize", "--output-dir", "x", "--pretrained-model-name-or-path=pocket"],
    ["export", "--output-dir", "x", "--num-vectors", "2"],
    ["unlearn", "--forget-data-dir", "a", "--retain-data-dir", "b", "--output-dir", "c", "--lora-rank=2"],
    ["audit", "--after", "x", "--forget-data-dir", "a", "--retain-data-dir=b", "--output-dir", "c", "--include-images"],
    ["demo", "--output-dir", "x", "--resume-from-checkpoint", "latest"],
]


@pytest.mark.parametrize("words", SPELLINGS, ids=lambda words: words[0])
def test_dashes_are_taken_for_underscores(words: list[str]) -> None:
    spelled = [re.sub(r"^(--[^=]*)", lambda match: "--" + match[1][2:].replace("-", "_"), word) for word in words]
    assert vars(build_parser(words[0]).parse_args(words)) == vars(build_parser(words[0]).parse_args(spelled))


def test_dashes_in_values_and_after_two_dashes_stay() -> None:
    parser = Parser()
    parser.add_argument("--a_b", nargs="?")
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(["--a-b=x-y=--c-d", "--", "--a-b"])
    assert (args.a_b, args.rest) == ("x-y=--c-d", ["--a-b"])


def test_dashes_are_taken_in_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert "rounds" in refused(capsys, "benchmark", "speed", "--rounds", "0")
    assert "did you mean --checkpoints?" in refused(capsys, "benchmark", "speed", "--check-points", "x")


def test_the_presets_own_values_are_said() -> None:
    (action,) = (a for a in parser_of("personalize")._actions if a.dest == "zo_samples")
    assert f"fast: 32, paper: {PAPER.zo_samples}" in action.help
