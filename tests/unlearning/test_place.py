"""Models that cannot unlearn are named before a weight is read; those that can are read as their folders have them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.place import locate
from tests.diffusion.test_weight_files import SPELLINGS, as_variant, in_shards

pytestmark = pytest.mark.usefixtures("no_probe")
INDEX, SCHEDULER, UNET = "model_index.json", "scheduler/scheduler_config.json", "unet/config.json"
VAE, TEXT = "vae/config.json", "text_encoder/config.json"


def edit(path: Path, changes: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def without_weights(folder: Path) -> Path:
    """The same folder with empty files of weights: whoever opens one fails."""
    for path in folder.rglob("*.safetensors"):
        path.write_bytes(b"")
    return folder


REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    # pipelines
    "LDM": ("ddpm", INDEX, {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}, "LDMPipeline"),
    "super resolution": ("ddpm", INDEX, {"_class_name": "LDMSuperResolutionPipeline"}, "LDMSuperResolutionPipeline"),
    "score SDE": ("ddpm", INDEX, {"_class_name": "ScoreSdeVePipeline"}, "ScoreSdeVePipeline"),
    "consistency": ("ddpm", INDEX, {"_class_name": "ConsistencyModelPipeline"}, "ConsistencyModelPipeline"),
    "Karras": ("ddpm", INDEX, {"_class_name": "KarrasVePipeline"}, "KarrasVePipeline"),
    "DiT": ("ddpm", INDEX, {"_class_name": "DiTPipeline"}, "DiTPipeline"),
    "inpainting": ("sd1", INDEX, {"_class_name": "StableDiffusionInpaintPipeline"}, "StableDiffusionInpaintPipeline"),
    "XL": ("sd1", INDEX, {"_class_name": "StableDiffusionXLPipeline"}, "StableDiffusionXLPipeline"),
    # autoencoders
    "vqvae that the index names": ("ddpm", INDEX, {"vqvae": ["diffusers", "VQModel"]}, "VQModel"),
    "vqvae": ("ddpm", "vqvae/config.json", {"_class_name": "VQModel"}, "vqvae"),
    "Kandinsky's": ("ddpm", "movq/config.json", {"_class_name": "VQModel"}, "movq"),
    "VQModel as vae": ("sd1", VAE, {"_class_name": "VQModel"}, "VQModel"),
    "tiny": ("sd1", INDEX, {"vae": ["diffusers", "AutoencoderTiny"]}, "AutoencoderTiny"),
    "mean of latents": ("sd1", VAE, {"latents_mean": [1.0, 0, 0, 0]}, "latents_mean"),
    # schedulers
    "ScoreSdeVe": ("ddpm", SCHEDULER, {"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
    "consistency scheduler": (
        "ddpm",
        SCHEDULER,
        {"_class_name": "CMStochasticIterativeScheduler"},
        "CMStochasticIterativeScheduler",
    ),
    "Karras scheduler": ("ddpm", INDEX, {"scheduler": ["diffusers", "KarrasVeScheduler"]}, "KarrasVeScheduler"),
    "betas of a flow": ("sd3", SCHEDULER, {"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
    "flow with another solver": (
        "sd3",
        SCHEDULER,
        {"_class_name": "FlowMatchHeunDiscreteScheduler"},
        "FlowMatchHeunDiscreteScheduler",
    ),
    "shift of the picture": ("sd3", SCHEDULER, {"use_dynamic_shifting": True}, "use_dynamic_shifting"),
    "sample": ("ddpm", SCHEDULER, {"prediction_type": "sample"}, "prediction_type"),
    "zero SNR": ("ddpm", SCHEDULER, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    # denoisers
    "score's time": ("ddpm", UNET, {"time_embedding_type": "fourier"}, "time_embedding_type"),
    "grey": ("ddpm", UNET, {"in_channels": 1, "out_channels": 1}, "diffuses 1 channels, and pictures have 3"),
    "9 channels": ("sd1", UNET, {"in_channels": 9}, "takes 9 channels"),
    "other latents": ("sd1", UNET, {"in_channels": 16, "out_channels": 16}, "and the vae gives 4"),
    "guidance embedding": ("sd1", UNET, {"time_cond_proj_dim": 256}, "time_cond_proj_dim"),
    "PixArt": (
        "sd3",
        "transformer/config.json",
        {"_class_name": "PixArtTransformer2DModel"},
        "PixArtTransformer2DModel",
    ),
    "Flux": ("sd3", "transformer/config.json", {"_class_name": "FluxTransformer2DModel"}, "FluxTransformer2DModel"),
    # text encoders
    "RoBERTa": ("sd1", TEXT, {"architectures": ["RobertaSeriesModelWithTransformation"]}, "RobertaSeries"),
    "another model": ("sd1", TEXT, {"model_type": "gemma2"}, "gemma2"),
    "BERT by the index": ("sd1", INDEX, {"text_encoder": ["transformers", "BertModel"]}, "BertModel"),
    "Qwen": ("sd3", "text_encoder_3/config.json", {"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM"),
    "UMT5": ("sd3", "text_encoder_3/config.json", {"model_type": "umt5"}, "umt5"),
    "bitsandbytes": (
        "sd3",
        "text_encoder_3/config.json",
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        "bitsandbytes",
    ),
}


@pytest.mark.parametrize(("family", "file", "changes", "named"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_unlearn_is_named_before_weights_are_read(
    family: str, file: str, changes: dict[str, Any], named: str, model_of: dict[str, Path], tmp_path: Path
) -> None:
    folder = without_weights(Path(shutil.copytree(model_of[family], tmp_path / "model")))
    edit(folder / file, changes)
    with pytest.raises(EdgeSdkError) as caught:
        locate(str(folder))
    message = str(caught.value)
    assert named in message and "\n" not in message, message


@pytest.mark.parametrize("kind", ["vqvae", "ScoreSdeVe", "consistency", "Qwen"])
def test_unlearn_and_audit_refuse_it_in_one_line_and_leave_nothing(
    kind: str,
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    audit_of: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    family, file, changes, named = REFUSED[kind]
    folder = without_weights(Path(shutil.copytree(model_of[family], tmp_path / "model")))
    edit(folder / file, changes)
    before = sorted(tmp_path.rglob("*"))
    for words in (command(folder), audit_of(folder, folder)):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert named in error and error.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_a_denoiser_of_latents_without_an_autoencoder_is_refused(
    family: str, model_of: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_of[family], tmp_path / "model"))
    shutil.rmtree(folder / "vae")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]* has no vae[^\n]*$"):
        locate(str(folder))


def test_old_folders_without_an_index_or_subfolders_are_read(tmp_path: Path) -> None:
    from tests.tiny_models import build_ddpm

    place = locate(str(build_ddpm(tmp_path / "flat", flat=True)))
    assert (place.part, place.scale, place.shape()) == ("", None, (3, 16, 16))


def test_old_sides_are_corrected_for_stable_diffusion_only(model_of: dict[str, Path], tmp_path: Path) -> None:
    sides = {}
    for family in ("ddpm", "sd1"):
        folder = Path(shutil.copytree(model_of[family], tmp_path / family))
        edit(folder / UNET, {"_diffusers_version": "0.4.0", "sample_size": 16})
        sides[family] = locate(str(folder)).shape()[1:]
    assert sides == {"ddpm": (16, 16), "sd1": (64, 64)}


@pytest.mark.parametrize("kind", ["fp16", *SPELLINGS])
def test_weights_of_a_variant_are_loaded(kind: str, model_of: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_of["sd1"], tmp_path / "model"))
    as_variant(folder, "fp16")
    expected = load_file(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    if kind != "fp16":
        for part in ("unet", "text_encoder"):
            in_shards(folder / part, "fp16", kind)
    before = sorted(folder.rglob("*"))
    denoiser = load_denoiser(str(folder))
    for name, value in denoiser.module.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name].float()), name
    assert denoiser.condition("a dog")["encoder_hidden_states"].isfinite().all()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("spelling", SPELLINGS[:2])
def test_a_repaired_model_of_a_variant_is_whole_and_audited(
    spelling: str,
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    audit_of: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    base = Path(shutil.copytree(model_of["sd1"], tmp_path / "base"))
    as_variant(base, "fp16")
    in_shards(base / "text_encoder", "fp16", spelling)
    in_shards(base / "unet", "fp16", spelling)
    assert main(command(base)) == 0
    made = tmp_path / "out" / "model"
    weights = {str(path.relative_to(made)) for path in made.rglob("*") if "safetensors" in path.name}
    assert weights == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        f"text_encoder/{spelling.format(stem='model', v='fp16')}",
    }
    assert main(audit_of(base, made, "--samples", "4")) in (0, 1)


def test_a_model_in_the_hubs_cache_is_repaired_into_files(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    root = tmp_path / "models--org--name"
    snapshot = Path(shutil.copytree(model_of["ddpm"], root / "snapshots" / "0"))
    (root / "blobs").mkdir()
    for number, path in enumerate(path for path in sorted(snapshot.rglob("*")) if path.is_file()):
        path.rename(root / "blobs" / str(number))
        path.symlink_to(root / "blobs" / str(number))
    assert main(command(snapshot)) == 0
    files = [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()]
    assert files and not any(path.is_symlink() for path in files)


def test_a_model_of_pickles_only_is_refused_with_the_way_to_convert(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(model_of["ddpm"], tmp_path / "model"))
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")
    assert main(command(folder)) == 2
    error = capsys.readouterr().err
    assert "is a pickle" in error and "safe_serialization=True" in error and error.count("\n") == 1


def test_a_consistency_model_that_diffusers_saves_is_refused(tmp_path: Path) -> None:
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler()).save_pretrained(tmp_path / "model")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*ConsistencyModelPipeline[^\n]*$"):
        locate(str(tmp_path / "model"))
    (tmp_path / "model" / INDEX).unlink()
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*CMStochasticIterativeScheduler[^\n]*$"):
        locate(str(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model" / "scheduler")
    DDIMScheduler().save_pretrained(tmp_path / "model" / "scheduler")
    assert locate(str(tmp_path / "model")).in_channels == 3
