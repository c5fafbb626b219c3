"""The apps' command lines beside learning: golden vectors, measurements, and mistakes in one line."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.phones.apps import BUNDLE, App, learn
from tests.phones.listed import list_again


@pytest.mark.parametrize(
    ("family", "weights"),
    [("pocket", "int8"), ("pocket", "int4"), ("pocket", "none"), ("sd2", "int8"), ("sdxl", "int4")],
)
def test_golden_vectors_are_within_the_bounds(
    family: str, weights: str, app: App, bundle_of: Callable[[str, str], Path]
) -> None:
    result = app.call("verify", "--bundle", bundle_of(family, weights))
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and len(lines) == 5, result.stdout + result.stderr
    assert all(": ok, " in line for line in lines), result.stdout


def copy_with_golden(folder: Path, old: str, new: str) -> Path:
    """A bundle whose golden vectors have another text in one place."""
    Path(shutil.copytree(BUNDLE, folder))
    golden = folder / "golden.json"
    text = json.dumps(json.loads(golden.read_text()))
    assert old in text
    golden.write_text(text.replace(old, new, 1))
    list_again(folder, "golden.json")
    return folder


def test_golden_vectors_beyond_a_bound_are_status_1(app: App, tmp_path: Path) -> None:
    folder = copy_with_golden(tmp_path / "bundle", '"onnxruntime": 1e-05', '"onnxruntime": 1e-12')
    result = app.call("verify", "--bundle", folder)
    assert result.returncode == 1 and "FAILED" in result.stdout and result.stderr == ""


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('"graph": "unet"', '"graph": "other"', "graph is 'other'"),
        ('"outputs": {', '"outputs": {}, "others": {', "compares nothing"),
        ('"bounds": {', '"bounds": [], "others": {', "bounds is"),
        ('"cases": [', '"cases": [], "others": [', "cases is"),
    ],
    ids=["no such graph", "no outputs", "no bounds", "no cases"],
)
def test_damaged_golden_vectors_are_one_line(old: str, new: str, part: str, app: App, tmp_path: Path) -> None:
    assert part in app.refusal("verify", "--bundle", copy_with_golden(tmp_path / "bundle", old, new))


@pytest.mark.parametrize("flag", ["--embedding", "--resume_from_checkpoint"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(flag: str, app: App, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.safetensors")
    if flag == "--embedding":
        arguments = [*DRAWING, "--output", tmp_path / "x.png", flag, tmp_path / "state.safetensors"]
    else:
        arguments = list(learn(tmp_path / "run", flag, tmp_path))
    assert "state.safetensors cannot be read" in app.refusal(*arguments)


def test_several_pictures_have_numbers_and_none_replaces_a_folder(app: App, tmp_path: Path) -> None:
    quick = ["--num_inference_steps", 1, "--num_images", 2, "--output", tmp_path / "x.png"]
    result = app.call(*DRAWING, *quick)
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 2, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-0.png", "x-1.png"]
    (tmp_path / "x-1.png").unlink()
    (tmp_path / "x-1.png").mkdir()
    assert "x-1.png, which is a folder" in app.refusal(*DRAWING, *quick)


def test_measure_writes_a_device_record(app: App, tmp_path: Path) -> None:
    output = tmp_path / "device.json"
    result = app.call("measure", "--bundle", BUNDLE, "--output", output, "--max_train_steps", 2, "--threads", 1)
    assert result.returncode == 0 and result.stdout == f"wrote {output}\n", result.stdout + result.stderr
    record = json.loads(output.read_text())
    assert list(record)[:3] == ["schema_version", "command", "date"] and record["schema_version"] == 1
    ((name, row),) = record["results"].items()
    assert name == f"int8 {app.name}, {record['machine']['name']}"
    case, (measured,) = row["case"], row["runs"]
    assert (case["kind"], case["client"], case["threads"]) == ("device", app.name, 1)
    assert (case["steps"], case["steps_of_preset"], case["forwards"]) == (2, 40, 66)
    assert set(measured["phases"]) == {"import", "load", "step", "run"} and len(measured["seconds"]) == 2
    assert 0 < measured["phases"]["step"]["anonymous"] <= measured["phases"]["step"]["resident"] < 1000
    assert measured["temperature_c"] == {"start": None, "end": None}


DRAWING: list[object] = ["generate", "--bundle", BUNDLE, "--prompt", "x"]


def id_of(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["learn"], "'learn' is no command"),
        (["verify", "--bundle", "nowhere"], "manifest.json cannot be read"),
        (["measure", "--bundle", BUNDLE, "--output", "nowhere/result.json"], "nowhere/result.json cannot be written"),
        (
            ["generate", "--bundle", BUNDLE, "--prompt", "x", "--output", "x.png", "--embedding", BUNDLE],
            "cannot be read",
        ),
        ([*DRAWING, "--output", "nowhere/x.png"], "nowhere/x.png, but there is no folder"),
        ([*DRAWING, "--output", "x.jpg"], "x.jpg; it must end in .png"),
        ([*DRAWING, "--output", BUNDLE / "tokenizer"], "it must end in .png"),
    ],
    ids=id_of,
)
def test_a_wrong_command_is_one_line(arguments: Sequence[object], part: str, app: App) -> None:
    assert part in app.refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--seed", "-1"], "seed is '-1'"),
        (["--seed", 2**64], "seed is"),
        (["--max_train_steps", "many"], "max_train_steps is 'many'"),
        (["--preset", "slow"], "preset is 'slow'"),
        (["--zo_mu", "nan"], "zo_mu is"),
        (["--timestep_range", 5, 5], "timestep_range is"),
        (["--timestep_range", 0, 1001], "timestep_range is"),
        (["--num_vectors", 40], "would be cut off"),
        (["--placeholder_token", "person"], "is already a word"),
        (["--placeholder_token", "two words"], "one word without spaces"),
        (["--resume_from_checkpoint", "latest"], "no checkpoint-<step> folder"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere/state.safetensors cannot be read"),
        (["--output_dir", "/proc/run"], "/proc/run cannot be"),
    ],
    ids=id_of,
)
def test_a_wrong_setting_is_one_line_and_writes_nothing(
    arguments: Sequence[object], part: str, app: App, tmp_path: Path
) -> None:
    assert_refused(app, arguments, part, tmp_path)


@pytest.mark.parametrize(
    ("flag", "part"),
    [("--train_data_dir", "holds no usable photo"), ("--bundle", "cannot be read")],
    ids=["no photo", "no bundle"],
)
def test_a_folder_of_other_things_is_one_line(flag: str, part: str, app: App, tmp_path: Path) -> None:
    assert_refused(app, [flag, app.tools], part, tmp_path)


def assert_refused(app: App, arguments: Sequence[object], part: str, folder: Path) -> None:
    """A run with these arguments is one line, and leaves no file."""
    assert part in app.refusal(*learn(folder / "run", *arguments))
    assert not [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
