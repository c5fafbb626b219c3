"""Whole runs from the command line, on small random models of every family: results, resuming, processes, mistakes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from edge_sdk.cli.main import main
from edge_sdk.unlearning import tensor_files
from edge_sdk.unlearning import unlearn as module
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.loop import Unlearner
from tests.unlearning.test_losses import losses_of

FAST = ("--max_train_steps", "3", "--forget_batch", "4", "--retain_batch", "4", "--quiet", "--max_retained_similarity",
        "1", "--max_background_change", "1")  # fmt: skip


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models reproduce nothing: the check that they do has a test of its own."""
    monkeypatch.setattr(module, "check_reproducible", lambda *_: None)


@pytest.fixture
def command(pictures: dict[str, Path], tmp_path: Path) -> Callable[..., list[str]]:
    def made(model: Path | str, *more: str, output: str = "out", given: bool = True) -> list[str]:
        out = ["unlearn", "--pretrained_model_name_or_path", str(model), "--forget_data_dir", str(pictures["forget"]),
               "--retain_data_dir", str(pictures["retain"]), "--output_dir", str(tmp_path / output), *FAST]  # fmt: skip
        return [*out, *(["--surrogate_data_dir", str(pictures["given"])] if given else []), *more]

    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = [p for p in (folder / "model").rglob("diffusion_pytorch_model.safetensors") if "vae" not in p.parts]
    return load_file(path)


@pytest.mark.parametrize("family", ["ddpm", "sd1", "sd2", "sd3"])
def test_every_family_unlearns_and_its_model_loads_again(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, family: str
) -> None:
    assert main(command(model_of[family])) == 0
    record = json.loads((tmp_path / "out" / "unlearn.json").read_text())
    assert record["steps"] == 3 and len(record["targets"]) == 2 and record["retained"] == 6
    again = load_denoiser(str(tmp_path / "out" / "model"))
    base = load_denoiser(str(model_of[family]))
    changed = [n for n, p in again.module.named_parameters() if not torch.equal(p, base.module.get_parameter(n))]
    assert len(changed) > 5
    assert (tmp_path / "out" / "patch" / "delta.safetensors").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_repaired_model_is_personalized_quantized_and_exported(
    model_of: dict[str, Path], command: Callable[..., list[str]], photos: Path, tmp_path: Path
) -> None:
    assert main(command(model_of["sd1"], "--lora_rank", "2", "--quantization_aware", "int8")) == 0
    model = str(tmp_path / "out" / "model")
    assert (
        main(["quantize", "--pretrained_model_name_or_path", model, "--output_dir", str(tmp_path / "q"), "--quiet"])
        == 0
    )
    run = ["personalize", "--pretrained_model_name_or_path", str(tmp_path / "q"), "--train_data_dir", str(photos),
           "--initializer_token", "mug", "--output_dir", str(tmp_path / "run"), "--max_train_steps", "2",
           "--zo_samples", "1", "--eval_draws", "2", "--no_preview", "--quiet"]  # fmt: skip
    assert main(run) == 0
    bundle = ["export", "--pretrained_model_name_or_path", str(tmp_path / "q"), "--output_dir", str(tmp_path / "b")]
    assert main([*bundle, "--quiet"]) == 0


def test_the_old_layout_without_subfolders_works(command: Callable[..., list[str]], tmp_path: Path) -> None:
    from tests.tiny_models import build_ddpm

    flat = build_ddpm(tmp_path / "flat", flat=True)
    assert main(command(flat)) == 0
    assert (tmp_path / "out" / "model" / "diffusion_pytorch_model.safetensors").exists()


def test_a_run_that_is_cut_off_goes_on_to_the_same_bytes(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of["ddpm"]
    assert main(command(model, output="whole")) == 0
    real, calls = module.Unlearner.step, []

    def broken(self: module.Unlearner) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(module.Unlearner, "step", broken)
    every = ("--checkpointing_steps", "1")
    assert main(command(model, *every)) == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module.Unlearner, "step", real)
    assert main(command(model, *every)) == 2  # an interrupted run is not thrown away unasked
    assert main(command(model, *every, "--learning_rate", "1e-4", "--resume_from_checkpoint", "latest")) == 2
    assert main(command(model, *every, "--resume_from_checkpoint", "latest")) == 0
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_take_the_steps_of_one(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert main(command(model_of["ddpm"], output="one")) == 0
    code = (
        "import os, sys; from edge_sdk.cli.main import main; from edge_sdk.unlearning import metric, unlearn; "
        "metric.DRAWS = 64; unlearn.check_reproducible = lambda *_: None; "
        "print('process', os.environ['RANK'], flush=True); sys.exit(main(sys.argv[1:]))"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    flags = (
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"  # --cpu starts one
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), "--num_cpu_threads_per_process", "1"]
    done = subprocess.run(
        [*launch, str(script), *command(model_of["ddpm"], output="two")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"process 0", "process 1"} <= set(done.stdout.splitlines())
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    base = load_denoiser(str(model_of["ddpm"])).module.state_dict()
    gap, moved = (sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5 for other in (two, base))
    assert gap < 0.02 * moved  # a gradient that is zero but for rounding takes steps of any sign under Adam


def test_a_second_request_knows_of_the_first(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert main(command(model_of["ddpm"], output="first")) == 0
    assert main(command(tmp_path / "first" / "model", output="second")) == 0
    requests = json.loads((tmp_path / "second" / "model" / "unlearned.json").read_text())["requests"]
    assert len(requests) == 2 and requests[0]["salt"] != requests[1]["salt"]


def test_no_picture_of_a_target_is_stored(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert main(command(model_of["ddpm"])) == 0
    assert {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()} == {".json", ".safetensors"}


def test_a_dry_run_says_what_training_will_take_and_writes_nothing(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(model_of["ddpm"], "--dry_run", "--max_train_steps", "5000")
    arguments.remove("--quiet")
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert re.search(r"memory of training: at least \d+ MB", said.err)
    seconds, each = re.search(r"time of training: about (\d+) s, ([\d.]+) s a step", said.err).groups()
    assert float(seconds) == pytest.approx(5000 * float(each), abs=30)
    assert not [path for path in tmp_path.iterdir() if path.name != "flat"]


def one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error


def test_a_target_that_is_also_kept_is_refused(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    both = shutil.copytree(pictures["retain"], tmp_path / "both")
    shutil.copy(pictures["forget"] / "1.png", both / "again.png")
    arguments = command(model_of["ddpm"])
    arguments[arguments.index("--retain_data_dir") + 1] = str(both)
    one_line(capsys, arguments, "a target cannot be kept")
    assert not (tmp_path / "out").exists()


def test_a_picture_that_an_earlier_request_made_the_model_forget_cannot_be_kept(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(command(model_of["ddpm"], output="first")) == 0
    first = json.loads((tmp_path / "first" / "unlearn.json").read_text())
    assert first["earlier_requests"] == []
    arguments = command(tmp_path / "first" / "model", given=False)
    arguments[arguments.index("--forget_data_dir") + 1] = str(pictures["given"])
    forgotten, kept = str(pictures["forget"]), arguments.index("--retain_data_dir") + 1
    said = "picture 1 of {}_data_dir is one that an earlier request made this model forget"
    one_line(capsys, [*arguments, "--surrogate_data_dir", forgotten], said.format("surrogate"))
    one_line(capsys, [*arguments[:kept], forgotten, *arguments[kept + 1 :]], said.format("retain"))
    assert main([*arguments, "--max_target_similarity", "1"]) == 0
    earlier = json.loads((tmp_path / "out" / "unlearn.json").read_text())["earlier_requests"]
    assert [entry["targets"] for entry in earlier] == [first["targets"]]


def test_a_target_is_no_surrogate_of_another(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    for one, other in (("0", "1"), ("1", "0")):
        shutil.copy(pictures["forget"] / f"{one}.png", swapped / f"{other}.png")
    arguments = command(model_of["ddpm"])
    arguments[arguments.index("--surrogate_data_dir") + 1] = str(swapped)
    one_line(capsys, arguments, "picture 1 of forget_data_dir is also picture 2 of surrogate_data_dir")


@pytest.mark.parametrize("option", ["forget", "surrogate", "mask"])
def test_no_picture_that_must_be_used_is_skipped(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], option: str,
) -> None:  # fmt: skip
    arguments = command(model_of["ddpm"], "--mask_data_dir", str(pictures["given"]))
    place = arguments.index(f"--{option}_data_dir") + 1
    broken = Path(shutil.copytree(arguments[place], tmp_path / "broken"))
    (broken / "9.png").write_bytes(b"no picture")
    arguments[place] = str(broken)
    one_line(capsys, arguments, "9.png cannot be used")
    assert not (tmp_path / "out").exists()


def test_a_retained_picture_that_is_skipped_is_named(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = command(model_of["ddpm"], "--dry_run")
    some = shutil.copytree(pictures["retain"], tmp_path / "some")
    (some / "9.png").write_bytes(b"no picture")
    arguments[arguments.index("--retain_data_dir") + 1] = str(some)
    arguments.remove("--quiet")
    assert main(arguments) == 0 and "skipped 9.png" in capsys.readouterr().err


def test_results_appear_where_a_link_points_to_and_not_in_place_of_the_working_folder(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert main(command(model_of["ddpm"])) == 0
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "unlearn.json").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = command(model_of["ddpm"])
    arguments[arguments.index("--output_dir") + 1] = "."
    one_line(capsys, arguments, "give a new folder as --output_dir")


@pytest.mark.parametrize("place", ["out", "unet/out", "new/out"])
def test_results_among_the_files_of_the_base_are_refused_before_anything_is_read(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, place: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("something is read"))
    base = Path(shutil.copytree(model_of["ddpm"], tmp_path / "base"))
    (tmp_path / "link").symlink_to("base")
    before = sorted(base.rglob("*"))
    one_line(capsys, command(base, output=f"base/{place}"), "the base model; give an --output_dir outside of it")
    one_line(capsys, command(tmp_path / "link", output=f"base/{place}"), "the base model; give an --output_dir")
    inside = str(module.locate("pocket").folder / place)
    one_line(capsys, [inside if entry.endswith("/out") else entry for entry in command("pocket")], "outside of it")
    assert sorted(base.rglob("*")) == before and not Path(inside).parent.joinpath(".out.unlearning").exists()


def test_a_folder_that_is_no_part_of_the_base_is_left_alone(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(model_of["sd1"], tmp_path / "base"))
    for folder in ("loras", ".earlier.unlearning"):
        (base / folder).mkdir()
        shutil.copy(base / "vae" / "diffusion_pytorch_model.safetensors", base / folder / "anything.safetensors")
        (base / folder / "notes.json").write_text("{}")
    assert main(command(base, "--max_train_steps", "1")) == 0
    made = {path.relative_to(tmp_path / "out" / "model").parts[0] for path in (tmp_path / "out" / "model").rglob("*")}
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"} <= made
    assert not made & {"loras", ".earlier.unlearning"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda base: (base / "model_index.json").write_text("[]"), "is not the index of a diffusers model"),
     (lambda base: (base / "text_encoder" / "model.safetensors").rename(base / "text_encoder" / "other.safetensors"),
      "has no safetensors weights")],
    ids=["index", "part"],
)  # fmt: skip
def test_a_part_that_cannot_be_copied_is_refused_before_training(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "load_denoiser", lambda *_: pytest.fail("the model is loaded"))
    base = Path(shutil.copytree(model_of["sd1"], tmp_path / "base"))
    damage(base)
    one_line(capsys, command(base), said)


def test_a_process_without_a_share_of_a_batch_takes_part(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    losses = losses_of(model_of["ddpm"], pictures, retain_batch=1, forget_batch=1, metric="euclidean")
    run = Unlearner(losses, rank=1, processes=2)
    run._sum = lambda value: value
    step = run.step()
    assert (step.forget_loss, step.retain_loss, step.retain_change) == (0, 0, 0)


def test_all_processes_stop_at_the_step_at_which_one_is_asked_to(
    model_of: dict[str, Path], pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = losses_of(model_of["ddpm"], pictures, metric="euclidean")
    alone, run = Unlearner(losses), Unlearner(losses, rank=1, processes=2)
    assert [alone.any_of_all(asked) for asked in (True, False)] == [True, False]
    monkeypatch.setattr(Unlearner, "step", lambda self: self.history.append(one) or one)
    one, calls = module.UnlearnStep(1, 0, 0, 0, 0, 0), []

    def summed(value: torch.Tensor) -> torch.Tensor:
        """As if the first process was asked to stop in the second step, and had saved before the third call."""
        calls.append(float(value))
        return value + (len(calls) == 2)

    run._sum = summed
    with pytest.raises(module.Cancelled, match="stopped after step 2"):
        module._train(run, losses.config, lambda _: None, lambda: calls.append("saved"), lambda _: None, lambda: False)
    assert calls == [0, 0, "saved", 1]


def test_a_model_that_makes_nothing_of_the_target_has_nothing_to_forget(
    model_of: dict[str, Path], command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.undo()
    one_line(capsys, command(model_of["ddpm"]), "there is nothing to forget")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--surrogate", "edit"], "go together"),
        (["--max_target_similarity", "-1"], "0 of 1 surrogates are admitted"),
        (["--learning_rate", "10", "--lr_warmup_steps", "0", "--metric", "euclidean", "--layers", "all"],
         "the loss is not finite"),
        (["--similarity", "nowhere.onnx"], "similarity nowhere.onnx cannot be used"),
        (["--resume_from_checkpoint", "elsewhere"], "takes latest"),
        (["--resume_from_checkpoint", "latest"], "holds no interrupted run"),
        (["--timestep_window", "100", "600"], "give both or neither"),
        (["--timestep_weight", "window", "--timestep_window", "5000", "6000"], "timesteps are 0 to 999"),
        (["--max_background_change", "0.0001"], "give others in --surrogate_data_dir"),
    ],
    ids=["edit and given", "not admitted", "not finite", "no such similarity", "resume", "nothing to resume",
         "window unused", "window beyond", "background"],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    more: list[str], said: str,
) -> None:  # fmt: skip
    one_line(capsys, command(model_of["ddpm"], *more), said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("filled_by", "left"),
    [("state.safetensors", False), ("delta.safetensors", True), ("diffusion_pytorch_model.safetensors", True)],
)
def test_a_full_disk_is_one_line_and_leaves_what_a_run_goes_on_from(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, filled_by: str, left: bool,
) -> None:  # fmt: skip
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


def test_fewer_retained_pictures_than_nearest_surrogates_is_said(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--surrogate", "nearest", "--num_surrogates", "7", "--max_target_similarity", "1"]
    one_line(capsys, command(model_of["ddpm"], *more, given=False), "retain_data_dir holds 6 pictures, of which 7")
    more[3] = "6"
    assert main(command(model_of["ddpm"], *more, given=False)) == 0


def test_by_default_the_nearest_retained_pictures_are_surrogates_as_many_as_are_admitted(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(model_of["ddpm"], "--max_target_similarity", "1", given=False)
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "unlearn.json").read_text())
    assert [len(many) for many in record["surrogates"]] == [6, 6]  # of 64, all that are there
    scores = [sorted(score["to_target"] for score in many) for many in record["surrogates"]]
    limit = max(
        score for score in scores[0] + scores[1] if min(sum(one <= score for one in own) for own in scores) == 1
    )
    fewer = [sum(one <= limit for one in own) for own in scores]  # for one target a single one, for the other more
    arguments[arguments.index("--max_target_similarity") + 1] = str(limit)
    shutil.rmtree(tmp_path / "out")
    arguments.remove("--quiet")
    capsys.readouterr()
    assert main(arguments) == 0
    again = json.loads((tmp_path / "out" / "unlearn.json").read_text())["surrogates"]
    assert min(fewer) == 1 < max(fewer)
    assert [len(many) for many in again] == [max(fewer)] * 2  # the others of a target with fewer are repeats, in order
    for own, many in zip(fewer, again, strict=True):
        assert many == [many[j % own] for j in range(len(many))] and len({one["sha256"] for one in many}) == own
    assert f"surrogates of each target: {fewer[0]}, {fewer[1]};" in capsys.readouterr().err
    arguments.append("--quiet")
    arguments[arguments.index("--max_target_similarity") + 1] = "-1"
    shutil.rmtree(tmp_path / "out")
    one_line(capsys, arguments, "0 of 6 surrogates are admitted")


def test_surrogates_are_as_many_for_each_target(
    model_of: dict[str, Path], command: Callable[..., list[str]], pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    more = shutil.copytree(pictures["given"], tmp_path / "more")
    arguments = [str(more) if entry == str(pictures["given"]) else entry for entry in command(model_of["ddpm"])]
    shutil.copy(pictures["retain"] / "0.png", more / "2.png")
    one_line(capsys, arguments, "3 pictures for 2 targets")
    shutil.copy(pictures["retain"] / "1.png", more / "3.png")
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "unlearn.json").read_text())
    assert [len(many) for many in record["surrogates"]] == [2, 2]


def test_models_that_cannot_unlearn_are_named(
    sdxl_folder: Path, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_line(capsys, command(sdxl_folder), "which cannot unlearn yet")
    one_line(capsys, command(tmp_path), "has no unet or transformer")


@pytest.mark.parametrize("kind", ["edit", "nearest"])
def test_surrogates_that_the_model_makes_keep_the_background(
    model_of: dict[str, Path], pictures: dict[str, Path], kind: str
) -> None:
    from edge_sdk.unlearning.config import UnlearnConfig
    from edge_sdk.unlearning.data import read
    from edge_sdk.unlearning.similarity import Similarity
    from edge_sdk.unlearning.surrogate import make_surrogates, portrait_mask

    denoiser = load_denoiser(str(model_of["ddpm"]))
    targets, retained = (read(denoiser, pictures[name], name) for name in ("forget", "retain"))
    config = UnlearnConfig(surrogate=kind, num_surrogates=2, max_background_change=1e-6, max_retained_similarity=1.0)
    made = make_surrogates(denoiser, targets, retained, config, Similarity())
    assert made.x0.shape == (2, 2, 3, 16, 16)
    outside = portrait_mask(16) == 0
    gap = np.abs(made.pixels - targets.pixels[:, None])
    assert gap[..., outside].max() < 1e-6 and gap[..., ~outside].mean() > 0.1
    again = make_surrogates(denoiser, targets, retained, config, Similarity())
    assert (again.pixels == made.pixels).all()
