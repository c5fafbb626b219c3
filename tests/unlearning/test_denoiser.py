"""Models that cannot be used are refused in one line: what is said of a prompt, sides, devices."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.denoiser import load_denoiser, locate


def without_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "text_encoder")


def with_a_pickle(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").rename(folder / "text_encoder" / "pytorch_model.bin")


def cut_short(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])


def without_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


@pytest.mark.parametrize("family", ["sd1", "sd3"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_encoder, "cannot be used"),
        (with_a_pickle, "is a pickle"),
        (cut_short, "cannot be used"),
        (without_tokenizer, "cannot be used"),
    ],
)
def test_a_text_encoder_that_cannot_be_used_is_said(
    model_of: dict[str, Path], tmp_path: Path, family: str, damage: Callable[[Path], None], said: str
) -> None:
    folder = Path(shutil.copytree(model_of[family], tmp_path / family))
    damage(folder)
    denoiser = load_denoiser(str(folder))
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{re.escape(str(folder))}[^\n]* {said}[^\n]*$"):
        denoiser.condition("a dog")


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DDPM of five levels: a side of 24 is halved to 3, which no doubling gives back."""
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8,) * 5,
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 5,
        up_block_types=("UpBlock2D",) * 5,
    )
    folder = tmp_path_factory.mktemp("models") / "deep"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_side_that_the_levels_do_not_divide_is_refused(
    deep_folder: Path, pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_denoiser(str(deep_folder), 32).shape == (3, 32, 32)
    with pytest.raises(EdgeSdkError, match=r"resolution is 24; of .* a multiple of 16"):
        load_denoiser(str(deep_folder), 24)
    arguments = ["unlearn", "--pretrained_model_name_or_path", str(deep_folder), "--output_dir", str(tmp_path / "out")]
    arguments += ["--forget_data_dir", str(pictures["forget"]), "--retain_data_dir", str(pictures["retain"])]
    assert main([*arguments, "--resolution", "24"]) == 2
    error = capsys.readouterr().err
    assert "must be a multiple of 16" in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "changed", "said"),
    [
        ("unet", {"class_embed_type": "timestep"}, "is told a class (class_embed_type 'timestep')"),
        ("unet", {"num_class_embeds": 10}, "is told a class (num_class_embeds 10)"),
        ("unet", {"out_channels": 6}, "takes 3 channels and says 6"),
        ("unet", {"in_channels": "3"}, "takes '3' channels"),
        ("unet", {"down_block_types": ["NoBlock2D", "DownBlock2D"]}, "NoBlock2D does not exist"),
        ("unet", {"block_out_channels": []}, "the model's UNet2DModel cannot be used"),
        ("unet", {"time_embedding_type": "none"}, "the model's UNet2DModel cannot be used"),
        ("transformer", {"caption_projection_dim": 7}, "the model's SD3Transformer2DModel cannot be used"),
    ],
    ids=["class", "classes", "variance", "channels", "block", "no blocks", "time", "width"],
)
def test_a_config_of_a_model_that_cannot_unlearn_is_said_before_anything_is_loaded(
    model_of: dict[str, Path],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    changed: dict[str, object],
    said: str,
) -> None:
    folder = Path(shutil.copytree(model_of["ddpm" if part == "unet" else "sd3"], tmp_path / "model"))
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    arguments = ["unlearn", "--pretrained_model_name_or_path", str(folder), "--output_dir", str(tmp_path / "out")]
    arguments += ["--forget_data_dir", str(pictures["forget"]), "--retain_data_dir", str(pictures["retain"])]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "supported are" in error and error.count("\n") == 1


@pytest.mark.parametrize(("side", "fits"), [(24, True), (32, True), (30, False), (40, False)])
def test_stable_diffusion_3_takes_whole_patches_and_as_many_as_it_has_positions_for(
    sd3_folder: Path, side: int, fits: bool
) -> None:
    place = locate(str(sd3_folder))
    if fits:
        assert place.shape(side) == (4, side // 2, side // 2)
    else:
        with pytest.raises(EdgeSdkError, match="multiple of 4, at most 32"):
            place.shape(side)


def test_a_gpu_that_is_not_there_is_said(ddpm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EdgeSdkError, match="finds no GPU"):
        load_denoiser(str(ddpm_folder), device="cuda")


def test_a_damaged_step_of_the_t5_tokenizer_is_said(model_of: dict[str, Path], tmp_path: Path) -> None:
    """The library raises a bare `Exception` for it."""
    folder = Path(shutil.copytree(model_of["sd3"], tmp_path / "model"))
    path = folder / "tokenizer_3" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": {"type": "None"}}))
    denoiser = load_denoiser(str(folder))
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*cannot be used \(tokenizer_3: [^\n]*$"):
        denoiser.condition("a dog")


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_weights_that_the_config_asks_for_and_the_file_lacks_are_not_made_up(
    model_of: dict[str, Path], tmp_path: Path, part: str
) -> None:
    folder = Path(shutil.copytree(model_of["sd1"], tmp_path / "model"))
    path = folder / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file({other: value for other, value in tensors.items() if other != name}, path)
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{part} lacks 1 weights of its config, such as {re.escape(name)}$"):
        load_denoiser(str(folder))
