"""What is trained: the base untouched, adapters that peft reads, weights rounded as a checkpoint rounds them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge_sdk.quantization import integer_layers
from edge_sdk.quantization.layers import quantize_module
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.patch import write_model, write_patch
from edge_sdk.unlearning.training.trainable import Trainable, rounded


def inputs(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)), torch.tensor([100.0, 700.0])


def shaken(trainable: Trainable, by: float = 0.02) -> Trainable:
    generator = torch.Generator().manual_seed(1)
    for value in trainable.parameters.values():
        value.data.add_(by * torch.randn(value.shape, generator=generator))
    return trainable


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_nothing_changes_before_training_and_the_base_never_does(ddpm_folder: Path, rank: int) -> None:
    denoiser = load_denoiser(str(ddpm_folder))
    z, t = inputs(denoiser.shape)
    before = denoiser.module(z, t).sample
    trainable = Trainable(denoiser.module, "all", rank)
    torch.testing.assert_close(trainable(z, t).sample, before)
    shaken(trainable)
    assert not torch.allclose(trainable(z, t).sample, before)
    assert (trainable.module(z, t).sample == before).all()


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_rounded_weights_are_those_of_an_integer_checkpoint(sd1_folder: Path, weights: str) -> None:
    module = load_denoiser(str(sd1_folder)).module
    wanted = {name: value.clone() for name, value in module.named_parameters()}
    quantize_module(module, weights, "fused")
    checked = 0
    for name, layer in integer_layers(module).items():
        matrix = layer.matrix.int8().float() * layer.scale[:, None]
        found = rounded(wanted[f"{name}.weight"], weights)
        torch.testing.assert_close(layer.as_matrix(found), matrix)
        checked += 1
    assert checked > 10


def test_a_layer_on_three_colours_is_rounded_to_int8_instead_of_int4() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded(weight, "int4"), rounded(weight, "int8"))


def test_gradients_pass_straight_through_rounding(ddpm_folder: Path) -> None:
    denoiser = load_denoiser(str(ddpm_folder))
    trainable = Trainable(denoiser.module, "all")
    rounded_call, (z, t) = trainable.through("int4"), inputs(denoiser.shape)
    assert not torch.allclose(rounded_call(z, t).sample, denoiser.module(z, t).sample)
    assert torch.equal(trainable(z, t).sample, denoiser.module(z, t).sample)
    gradients = torch.autograd.grad(
        rounded_call(z, t).sample.square().mean(), list(trainable.parameters.values()), allow_unused=True
    )
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    weight = next(g for (name, _), g in zip(trainable.parameters.items(), gradients, strict=True) if "conv_in" in name)
    assert weight.abs().max() > 0


def test_adapters_are_read_by_peft(ddpm_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel  # noqa: F401

    denoiser = load_denoiser(str(ddpm_folder))
    trainable = shaken(Trainable(denoiser.module, "all", 3))
    write_patch(tmp_path / "patch", trainable)
    z, t = inputs(denoiser.shape)
    wanted = trainable(z, t).sample.detach()
    theirs = PeftModel.from_pretrained(load_denoiser(str(ddpm_folder)).module, tmp_path / "patch").eval()
    torch.testing.assert_close(theirs(z, t).sample, wanted, rtol=1e-4, atol=1e-5)
    size = sum(path.stat().st_size for path in (tmp_path / "patch").iterdir())
    assert size < 0.8 * (ddpm_folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size


def test_differences_on_the_base_are_the_merged_model(ddpm_folder: Path, tmp_path: Path) -> None:
    from diffusers import DDPMPipeline

    denoiser = load_denoiser(str(ddpm_folder))
    trainable = shaken(Trainable(denoiser.module, "all"))
    write_patch(tmp_path / "patch", trainable)
    write_model(tmp_path / "model", denoiser, trainable.merged(), {"requests": []})
    again = DDPMPipeline.from_pretrained(tmp_path / "model", use_safetensors=True).unet.state_dict()
    base, delta = denoiser.module.state_dict(), load_file(tmp_path / "patch" / "delta.safetensors")
    assert delta.keys() == again.keys()
    for name, value in again.items():
        torch.testing.assert_close(base[name] + delta[name], value)
    assert json.loads((tmp_path / "model" / "unlearned.json").read_text()) == {"requests": []}
    assert any(not torch.equal(value, denoiser.module.state_dict()[name]) for name, value in again.items())


def test_no_other_variant_of_the_base_is_in_the_repaired_model(sd1_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(sd1_folder, tmp_path / "base")
    for part, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        shutil.copy(base / part / f"{name}.safetensors", base / part / f"{name}.fp16.safetensors")
    shutil.copy(base / "unet" / "diffusion_pytorch_model.safetensors", base / "v1-5-pruned-emaonly.safetensors")
    denoiser = load_denoiser(str(base))
    write_model(tmp_path / "model", denoiser, {}, {"requests": []})
    found = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.safetensors")}
    assert found == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    assert (tmp_path / "model" / "tokenizer" / "vocab.json").exists()


@pytest.mark.parametrize("family", ["ddpm", "sd1", "sd3"])
def test_of_branches_the_first_and_last_layer_and_shortcuts_are_left_alone(
    model_of: dict[str, Path], family: str
) -> None:
    module = load_denoiser(str(model_of[family])).module
    trained = set(Trainable(module).parameters)
    layers = {
        f"{name}.weight"
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }
    left = {name.removesuffix(".weight") for name in layers - trained}
    assert trained < layers  # no bias, no norm
    outside = {
        "ddpm": ("conv_in", "conv_out", "time_embedding", "conv_shortcut", "samplers"),
        "sd1": ("conv_in", "conv_out", "time_embedding", "conv_shortcut", "samplers"),
        "sd3": ("pos_embed", "proj_out", "norm_out", "context_embedder", "time_text_embed"),
    }[family]
    assert all(any(word in name for word in outside) for name in left if "transformer_blocks" not in name)
    assert {word for word in outside if any(word in name for name in left)} >= set(outside[:2])
    assert not any(word in name for name in trained for word in outside if word != "proj_out")
    assert set(Trainable(module, "all").parameters) == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("which", ["branches", "all"])
@pytest.mark.parametrize("rank", [0, 4], ids=["weights", "adapters"])
def test_the_memory_estimate_is_near_what_training_takes(ddpm_folder: Path, rank: int, which: str) -> None:
    """Counted on the meta device, against the tensors that a real step keeps."""
    from edge_sdk.unlearning.config import UnlearnConfig
    from edge_sdk.unlearning.estimate import estimate

    denoiser = load_denoiser(str(ddpm_folder))
    config = UnlearnConfig(forget_batch=8, retain_batch=8, lora_rank=rank, layers=which)
    found = estimate(json.loads((ddpm_folder / "unet" / "config.json").read_text()), denoiser.shape, config)
    trainable = Trainable(denoiser.module, which, rank)
    kept: dict[int, int] = {}
    own = {value.data_ptr() for value in (*denoiser.module.parameters(), *trainable.parameters.values())}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    z = torch.randn(8, *denoiser.shape)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = trainable(z, torch.arange(8), return_dict=False)[0]
    assert output.requires_grad
    assert 1 <= found.activations / (sum(kept.values()) / 1e6) < 1.7  # shapes alone do not show what attention saves
    weights = sum(p.numel() for p in denoiser.module.parameters()) * 4 / 1e6
    own_weights = sum(p.numel() for p in trainable.parameters.values()) * 4 / 1e6
    assert found.weights == pytest.approx(weights) and found.trained == pytest.approx(7 * own_weights)
    aware = replace(config, quantization_aware="int8")
    found = estimate(json.loads((ddpm_folder / "unet" / "config.json").read_text()), denoiser.shape, aware)
    assert found.weights == pytest.approx(2 * weights)  # the teacher is rounded
