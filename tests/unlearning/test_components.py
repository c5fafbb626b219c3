"""What two models of an audit must have in common: everything but the denoiser's weights, by content."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from edge_sdk.cli.main import main
from edge_sdk.unlearning.audit.components import compare
from edge_sdk.unlearning.denoiser import load_denoiser

Change = Callable[[Path], None]


def entry(file: str, **entries: object) -> Change:
    """Set entries of a config."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def number(file: str, tensor: str) -> Change:
    """Move one number of a tensor."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / file)
        tensors[tensor].view(-1)[0] += 0.25
        save_file(tensors, folder / file, {"format": "pt"})

    return change


def without(name: str) -> Change:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def other_words(file: str) -> Change:
    """Let words of a vocabulary change places."""

    def change(folder: Path) -> None:
        path = folder / file
        value = json.loads(path.read_text())
        words = value["model"]["vocab"] if "model" in value else value
        words["a</w>"], words["b</w>"] = words["b</w>"], words["a</w>"]
        path.write_text(json.dumps(value))

    return change


WEIGHTS = "diffusion_pytorch_model.safetensors"
CHANGES = {  # of Stable Diffusion 1.x: what is said of each, and the change
    "a colour cast in the VAE": ("vae", number(f"vae/{WEIGHTS}", "decoder.conv_out.bias")),
    "the VAE's encoder": ("vae", number(f"vae/{WEIGHTS}", "encoder.conv_in.weight")),
    "a scaling factor": ("scaling_factor is 0.3, not 0.2", entry("vae/config.json", scaling_factor=0.3)),
    "a shift factor": ("shift_factor", entry("vae/config.json", shift_factor=0.1)),
    "latents' statistics": ("latents_mean", entry("vae/config.json", latents_mean=[0, 0, 0, 0])),
    "a text encoder's weight": (
        "text_encoder", number("text_encoder/model.safetensors", "final_layer_norm.bias"),
    ),
    "a text encoder's activation": ("hidden_act", entry("text_encoder/config.json", hidden_act="gelu")),
    "a tokenizer": ("tokenizer", other_words("tokenizer/tokenizer.json")),
    "a tokenizer's other file": ("tokenizer", other_words("tokenizer/vocab.json")),
    "a tokenizer's length": ("model_max_length", entry("tokenizer/tokenizer_config.json", model_max_length=20)),
    "a schedule": ("beta_end", entry("scheduler/scheduler_config.json", beta_end=0.01)),
    "a prediction type": ("prediction_type", entry("scheduler/scheduler_config.json", prediction_type="v_prediction")),
    "another sampler": ("_class_name", entry("scheduler/scheduler_config.json", _class_name="DDIMScheduler")),
    "the denoiser's norm": ("denoiser", entry("unet/config.json", norm_eps=1e-3)),
    "the denoiser's size": ("denoiser", entry("unet/config.json", sample_size=16)),
    "the index": ("model_index.json", entry("model_index.json", tokenizer=["transformers", "T5Tokenizer"])),
    "no text encoder": ("has no text_encoder", without("text_encoder")),
    "no tokenizer": ("has no tokenizer", without("tokenizer")),
    "no index": ("has no model_index.json", without("model_index.json")),
}  # fmt: skip


@pytest.mark.parametrize(("component", "change"), CHANGES.values(), ids=CHANGES)
def test_models_that_differ_in_more_than_the_denoisers_weights_are_refused_by_name(
    component: str, change: Change, sd1_folder: Path, audit_of: Callable[..., list[str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    after = shutil.copytree(sd1_folder, tmp_path / "after")
    change(after)
    assert main(audit_of(sd1_folder, after)) == 2
    error = capsys.readouterr().err
    assert component in error.replace(str(tmp_path), "") and "the denoiser's weights only" in error
    assert error.count("\n") == 1 and not (tmp_path / "a").exists()


DDPM = {
    "a schedule": ("scheduler", entry("scheduler/scheduler_config.json", beta_end=0.01)),
    "a clip": ("clip_sample", entry("scheduler/scheduler_config.json", clip_sample=False)),
    "a size": ("sample_size is 32, not 16", entry("unet/config.json", sample_size=32)),
    "an activation": ("act_fn", entry("unet/config.json", act_fn="mish")),
}


@pytest.mark.parametrize(("component", "change"), DDPM.values(), ids=DDPM)
def test_of_an_unconditional_model_the_denoiser_and_the_schedule_are_compared(
    component: str, change: Change, ddpm_folder: Path, audit_of: Callable[..., list[str]], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    after = shutil.copytree(ddpm_folder, tmp_path / "after")
    change(after)
    assert main(audit_of(ddpm_folder, after, "--resolution", "16")) == 2
    error = capsys.readouterr().err
    assert component in error and error.count("\n") == 1 and not (tmp_path / "a").exists()


@pytest.mark.parametrize("family", ["ddpm", "sd1", "sd2", "sd3"])
def test_saving_a_model_again_or_training_its_denoiser_is_no_difference(
    family: str, model_of: dict[str, Path], tmp_path: Path
) -> None:
    """Newer files lack ``vocab.json``, and their configs have other versions and defaults that older ones lack."""
    again = tmp_path / "again"
    DiffusionPipeline.from_pretrained(model_of[family]).save_pretrained(again, safe_serialization=True)
    for path in again.glob("*/config.json"):
        config = json.loads(path.read_text()) | {"_diffusers_version": "0.1", "_name_or_path": "elsewhere"}
        config.pop("latents_mean", None)
        path.write_text(json.dumps(config))
    base, repaired = load_denoiser(str(model_of[family])), load_denoiser(str(again))
    with torch.no_grad():
        next(repaired.module.parameters()).add_(1)
    digests, own = compare(base, repaired), compare(repaired, repaired)
    assert all(own[name] == digest for name, digest in digests.items() if not name.startswith("tokenizer"))
    wanted = {"ddpm": 0, "sd1": 1, "sd2": 1, "sd3": 3}[family]
    for kind in ("text_encoder", "tokenizer"):
        assert sum(name.startswith(kind) for name in digests) == wanted
    assert {"denoiser", "scheduler", "model_index.json"} <= set(digests) and ("vae" in digests) == (family != "ddpm")


def test_names_of_tensors_are_those_of_either_version_of_transformers(sd1_folder: Path, tmp_path: Path) -> None:
    older = shutil.copytree(sd1_folder, tmp_path / "older")
    file = older / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": value for name, value in load_file(file).items()}
    save_file(tensors | {"text_model.embeddings.position_ids": torch.arange(24)[None]}, file, {"format": "pt"})
    assert "text_encoder" in compare(load_denoiser(str(older)), load_denoiser(str(sd1_folder)))


def test_halves_are_the_numbers_that_they_stand_for(sd1_folder: Path, tmp_path: Path) -> None:
    half, full = (shutil.copytree(sd1_folder, tmp_path / name) for name in ("half", "full"))
    tensors = {name: value.half() for name, value in load_file(half / "vae" / WEIGHTS).items()}
    save_file(tensors, half / "vae" / WEIGHTS, {"format": "pt"})
    save_file({name: value.float() for name, value in tensors.items()}, full / "vae" / WEIGHTS, {"format": "pt"})
    assert "vae" in compare(load_denoiser(str(half)), load_denoiser(str(full)))
