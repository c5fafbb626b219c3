"""Whole runs from the command line, on small random models of every family: results, resuming, several processes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge_sdk.cli.main import main
from edge_sdk.unlearning import unlearn as module
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.training.loop import Unlearner
from tests.unlearning.test_losses import losses_of

pytestmark = pytest.mark.usefixtures("no_probe")


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
    run = [
        "personalize",
        "--pretrained_model_name_or_path",
        str(tmp_path / "q"),
        "--train_data_dir",
        str(photos),
        "--initializer_token",
        "mug",
        "--output_dir",
        str(tmp_path / "run"),
        "--max_train_steps",
        "2",
        "--zo_samples",
        "1",
        "--eval_draws",
        "2",
        "--no_preview",
        "--quiet",
    ]
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
        "import os, sys; from edge_sdk.cli.main import main; from edge_sdk.unlearning import unlearn; "
        "from edge_sdk.unlearning.training import preconditioner; "
        "preconditioner.DRAWS = 64; unlearn.check_reproducible = lambda *_: None; "
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
