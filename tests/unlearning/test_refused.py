"""What `edge-sdk unlearn` refuses, each in one line that leaves nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from edge_sdk.cli.main import main
from edge_sdk.unlearning import tensor_files
from edge_sdk.unlearning import unlearn as module

pytestmark = pytest.mark.usefixtures("no_probe")


def one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error


def test_a_target_that_is_also_kept_is_refused(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = shutil.copytree(pictures["retain"], tmp_path / "both")
    shutil.copy(pictures["forget"] / "1.png", both / "again.png")
    arguments = command(model_of["ddpm"])
    arguments += ["--retain_data_dir", str(both)]
    one_line(capsys, arguments, "a target cannot be kept")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_an_earlier_request_made_the_model_forget_cannot_be_kept(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(model_of["ddpm"], output="first")) == 0
    first = json.loads((tmp_path / "first" / "unlearn.json").read_text())
    assert first["earlier_requests"] == []
    arguments = command(tmp_path / "first" / "model", given=False)
    arguments += ["--forget_data_dir", str(pictures["given"])]
    forgotten = str(pictures["forget"])
    said = "picture 1 of {}_data_dir is one that an earlier request made this model forget"
    one_line(capsys, [*arguments, "--surrogate_data_dir", forgotten], said.format("surrogate"))
    one_line(capsys, [*arguments, "--retain_data_dir", forgotten], said.format("retain"))
    assert main([*arguments, "--max_target_similarity", "1"]) == 0
    earlier = json.loads((tmp_path / "out" / "unlearn.json").read_text())["earlier_requests"]
    assert [entry["targets"] for entry in earlier] == [first["targets"]]


@pytest.mark.parametrize("option", ["forget", "surrogate", "mask"])
def test_no_picture_that_must_be_used_is_skipped(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    arguments = command(model_of["ddpm"], "--mask_data_dir", str(pictures["given"]))
    place = arguments.index(f"--{option}_data_dir") + 1
    broken = Path(shutil.copytree(arguments[place], tmp_path / "broken"))
    (broken / "9.png").write_bytes(b"no picture")
    arguments[place] = str(broken)
    one_line(capsys, arguments, "9.png cannot be used")
    assert not (tmp_path / "out").exists()


def test_what_programs_leave_among_targets_is_no_target(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = command(model_of["ddpm"], "--dry_run")
    place = arguments.index("--forget_data_dir") + 1
    targets = Path(shutil.copytree(arguments[place], tmp_path / "targets"))
    for name in (".DS_Store", "._0.png", "Thumbs.db", "README.md", "metadata.jsonl", "0.AAE"):
        (targets / name).write_bytes(b"junk")
    (targets / "__MACOSX").mkdir()
    arguments[place] = str(targets)
    assert main(arguments) == 0, capsys.readouterr().err


def test_a_retained_picture_that_is_skipped_is_named(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = command(model_of["ddpm"], "--dry_run")
    some = shutil.copytree(pictures["retain"], tmp_path / "some")
    (some / "9.png").write_bytes(b"no picture")
    arguments += ["--retain_data_dir", str(some)]
    arguments.remove("--quiet")
    assert main(arguments) == 0 and "skipped 9.png" in capsys.readouterr().err


def test_results_appear_where_a_link_points_to_and_not_in_place_of_the_working_folder(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert main(command(model_of["ddpm"])) == 0
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "unlearn.json").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = command(model_of["ddpm"])
    arguments += ["--output_dir", "."]
    one_line(capsys, arguments, "give a new folder as --output_dir")


@pytest.mark.parametrize("place", ["out", "unet/out", "new/out"])
def test_results_among_the_files_of_the_base_are_refused_before_anything_is_read(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("something is read"))
    base = Path(shutil.copytree(model_of["ddpm"], tmp_path / "base"))
    (tmp_path / "link").symlink_to("base")
    before = sorted(base.rglob("*"))
    one_line(capsys, command(base, output=f"base/{place}"), "the base model; give an --output_dir outside of it")
    one_line(capsys, command(tmp_path / "link", output=f"base/{place}"), "the base model; give an --output_dir")
    inside = str(module.locate("pocket").folder / place)
    one_line(capsys, [inside if entry.endswith("/out") else entry for entry in command("pocket")], "outside of it")
    assert sorted(base.rglob("*")) == before and not Path(inside).parent.joinpath(".out.unlearning").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda base: (base / "model_index.json").write_text("[]"), "is not the index of a diffusers model"),
        (
            lambda base: (base / "text_encoder" / "model.safetensors").rename(
                base / "text_encoder" / "other.safetensors"
            ),
            "has no safetensors weights",
        ),
    ],
    ids=["index", "part"],
)
def test_a_part_that_cannot_be_copied_is_refused_before_training(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    monkeypatch.setattr(module, "load_denoiser", lambda *_: pytest.fail("the model is loaded"))
    base = Path(shutil.copytree(model_of["sd1"], tmp_path / "base"))
    damage(base)
    one_line(capsys, command(base), said)


def test_a_model_that_makes_nothing_of_the_target_has_nothing_to_forget(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    one_line(capsys, command(model_of["ddpm"]), "there is nothing to forget")


@pytest.mark.parametrize(
    ("similarities", "refused"),
    [
        ([0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2], True),
        ([0.0, 0.8, 0.3, 0.1, 0.2, 0.8, 0.7, 0.0], False),
        ([0.6, 0.7, 0.6, 0.7, 0.6, 0.7, 0.6, 0.7], False),
    ],
    ids=["never as itself", "from some noises as itself", "as itself"],
)
def test_a_target_is_refused_where_few_noises_leave_no_doubt(similarities: list[float], refused: bool) -> None:
    assert module.surely_below(np.array(similarities), module.REPRODUCED) is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--surrogate", "edit"], "go together"),
        (["--max_target_similarity", "-1"], "0 of 1 surrogates are admitted"),
        (
            ["--learning_rate", "10", "--lr_warmup_steps", "0", "--metric", "euclidean", "--layers", "all"],
            "the loss is not finite",
        ),
        (["--similarity", "nowhere.onnx"], "similarity nowhere.onnx cannot be used"),
        (["--resume_from_checkpoint", "elsewhere"], "takes latest"),
        (["--resume_from_checkpoint", "latest"], "holds no interrupted run"),
        (["--timestep_window", "100", "600"], "give both or neither"),
        (["--timestep_weight", "window", "--timestep_window", "5000", "6000"], "timesteps are 0 to 999"),
        (["--max_background_change", "0.0001"], "give others in --surrogate_data_dir"),
    ],
    ids=[
        "edit and given",
        "not admitted",
        "not finite",
        "no such similarity",
        "resume",
        "nothing to resume",
        "window unused",
        "window beyond",
        "background",
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    said: str,
) -> None:
    one_line(capsys, command(model_of["ddpm"], *more), said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("filled_by", "left"),
    [("state.safetensors", False), ("delta.safetensors", True), ("diffusion_pytorch_model.safetensors", True)],
)
def test_a_full_disk_is_one_line_and_leaves_what_a_run_goes_on_from(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    filled_by: str,
    left: bool,
) -> None:
    real = tensor_files.save_file

    def full(tensors: object, path: Path, *more: object) -> None:
        if filled_by in path.name:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        real(tensors, path, *more)

    monkeypatch.setattr(tensor_files, "save_file", full)
    arguments = command(model_of["ddpm"], "--checkpointing_steps", "2")
    one_line(capsys, arguments, "the disk is full")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == ({module.STATE, ".lock"} if left else set())
    monkeypatch.setattr(tensor_files, "save_file", real)
    assert main([*arguments, *(["--resume_from_checkpoint", "latest"] if left else [])]) == 0


def test_models_that_cannot_unlearn_are_named(
    sdxl_folder: Path, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_line(capsys, command(sdxl_folder), "which cannot unlearn yet")
    one_line(capsys, command(tmp_path), "has no unet or transformer")


@pytest.mark.parametrize("kind", ["missing", "empty", "broken"])
@pytest.mark.parametrize("option", ["forget", "retain", "surrogate", "mask"])
def test_folders_are_checked_before_a_model_is_looked_for(
    kind: str,
    option: str,
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "locate", lambda _: pytest.fail("a model is looked for"))
    folder = tmp_path / "album"
    if kind != "missing":
        folder.mkdir()
    if kind == "broken":
        (folder / "1.png").write_bytes(b"no picture")
    arguments = command("anything", "--mask_data_dir", str(pictures["given"]))
    arguments += [f"--{option}_data_dir", str(folder)]
    one_line(capsys, arguments, f"{option}_data_dir {folder}")
