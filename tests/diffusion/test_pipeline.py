"""Model folders as they are published: what is understood of their configs, and what is named and refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from edge_sdk.cli.main import main
from edge_sdk.diffusion.components import PART_CLASSES
from edge_sdk.diffusion.folder import check
from edge_sdk.diffusion.networks.clip import ClipConfig
from edge_sdk.diffusion.networks.unet import UNetConfig
from edge_sdk.diffusion.networks.vae import VaeConfig
from edge_sdk.diffusion.pipeline import corrected_unet
from edge_sdk.diffusion.tables import DEFAULTS, LIBRARY_TABLES, TABLES
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import generate, sample, starting_noise
from edge_sdk.runtime.pytorch.model import open_model

UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, INDEX = "scheduler/scheduler_config.json", "model_index.json"
CLASSES = ("_class_name", "architectures", "model_type", "unet", "vae", "text_encoder", "scheduler")


def edit(path: Path, changes: dict[str, Any], dropped: tuple[str, ...] = ()) -> None:
    entries = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in entries.items() if name not in dropped}))


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


@pytest.fixture
def xl_model(sdxl_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdxl_folder, tmp_path / "model"))


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    # channels
    "inpainting": (UNET, {"in_channels": 9}),
    "InstructPix2Pix": (UNET, {"in_channels": 8}),
    "upscaler": (UNET, {"in_channels": 7, "num_class_embeds": 1000}),
    "learned variance": (UNET, {"out_channels": 8}),
    "layered pictures": (VAE, {"out_channels": 4}),
    "pictures and depth": (VAE, {"in_channels": 6, "out_channels": 6}),
    # conditioning
    "classes": (UNET, {"num_class_embeds": 10}),
    "noised picture": (UNET, {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 64}),
    "picture's embedding": (UNET, {"encoder_hid_dim": 64, "encoder_hid_dim_type": "image_proj"}),
    "guidance embedding": (UNET, {"time_cond_proj_dim": 256}),
    "boxes": (UNET, {"attention_type": "gated"}),
    # the network
    "middle of another kind": (UNET, {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}),
    "Kandinsky's blocks": (UNET, {"down_block_types": ["SimpleCrossAttnDownBlock2D", "DownBlock2D"]}),
    "kernel": (UNET, {"conv_in_kernel": [5, 5]}),
    "centred input": (UNET, {"center_input_sample": True}),
    "sines first": (UNET, {"flip_sin_to_cos": False}),
    "frequencies": (UNET, {"freq_shift": 1}),
    "scaled residuals": (UNET, {"resnet_out_scale_factor": 1.414}),
    "scaled middle": (UNET, {"mid_block_scale_factor": 1.414}),
    "doubled cross attention": (UNET, {"dual_cross_attention": True}),
    "normed keys": (UNET, {"cross_attention_norm": "group_norm"}),
    "another activation": (UNET, {"act_fn": "gelu"}),
    "time after its embedding": (UNET, {"timestep_post_act": "silu"}),
    "activation of the VAE": (VAE, {"act_fn": "mish"}),
    "a switch of a later version": (UNET, {"use_registers": True}),
    "a number of a later version": (VAE, {"patch_size": 2}),
    # latents
    "mean of latents": (VAE, {"latents_mean": [-1.6, 1.9, -1.4, 2.5]}),
    "deviation of latents": (VAE, {"latents_std": [8.5, 5.9, 6.5, 5.2]}),
    # weights
    "bitsandbytes": (UNET, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}),
    "GPTQ": (TEXT, {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
    "torchao": (VAE, {"quantization_config": {"quant_type": "int8wo"}}),
    # components
    "T5": (TEXT, {"architectures": ["T5EncoderModel"]}),
    "RoBERTa": (TEXT, {"model_type": "xlm-roberta"}),
    "tiny autoencoder": (VAE, {"_class_name": "AutoencoderTiny"}),
    "asymmetric autoencoder by the index": (INDEX, {"vae": ["diffusers", "AsymmetricAutoencoderKL"]}),
    "ONNX": (INDEX, {"unet": ["diffusers", "OnnxRuntimeModel"]}),
    "no text encoder": (INDEX, {"text_encoder": [None, None]}),
    "EDM by the index": (INDEX, {"scheduler": ["diffusers", "EDMEulerScheduler"]}),
    # schedulers
    "flow of another solver": (SCHEDULER, {"_class_name": "FlowMatchHeunDiscreteScheduler"}),
    "flow of another shift": (
        SCHEDULER,
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
    ),
    "Stable Cascade": (SCHEDULER, {"_class_name": "DDPMWuerstchenScheduler"}),
    "Shap-E": (SCHEDULER, {"_class_name": "HeunDiscreteScheduler", "prediction_type": "sample"}),
    "zero SNR": (SCHEDULER, {"rescale_betas_zero_snr": True, "timestep_spacing": "linspace"}),
} | {
    f"pipeline {kind}": (INDEX, {"_class_name": f"{kind}Pipeline"})
    for kind in (
        *("StableDiffusionInpaint", "StableDiffusionInstructPix2Pix", "StableDiffusionUpscale", "Flux", "Kandinsky"),
        *("StableDiffusionControlNet", "StableDiffusionXLControlNet", "StableDiffusion3", "PixArtAlpha", "Wuerstchen"),
        *("StableDiffusionXLInpaint", "StableDiffusionGLIGEN", "StableUnCLIP", "AltDiffusion", "Unknown"),
    )
}


@pytest.mark.parametrize(("file", "changes"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_named_before_weights_are_read(
    file: str, changes: dict[str, Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(model / file, changes)
    monkeypatch.setattr("edge_sdk.quantization.source.FloatWeights.read", lambda *_: pytest.fail("weights are read"))
    with pytest.raises(EdgeSdkError) as caught:
        open_model(str(model))
    message = str(caught.value)
    assert "\n" not in message and any(name in message for name in names(changes)), message


def names(changes: dict[str, Any]) -> list[str]:
    """Of each entry what a message must name: its own name, or the class that it says."""
    values = {
        name: value if isinstance(value, str) else value[-1] for name, value in changes.items() if name in CLASSES
    }
    return [values.get(name) or name for name in changes]


@pytest.mark.parametrize(
    "words",
    [
        ["quantize", "--output_dir", "{out}"],
        ["generate", "--prompt", "a dog", "--output", "{out}.png"],
        ["export", "--output_dir", "{out}"],
        ["personalize", "--train_data_dir", "{photos}", "--initializer_token", "dog", "--output_dir", "{out}"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize(
    "kind", ["InstructPix2Pix", "deviation of latents", "GPTQ", "flow of another solver", "zero SNR"]
)
def test_every_command_refuses_it_in_one_line_and_writes_nothing(
    kind: str, words: list[str], model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, changes = REFUSED[kind]
    edit(model / file, changes)
    before = sorted(tmp_path.rglob("*"))
    command = [word.format(out=tmp_path / "out", photos=photos) for word in words]
    assert main([*command, "--pretrained_model_name_or_path", str(model)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
        (torch.int8, "I8"),
        (torch.uint8, "U8"),
    ],
    ids=str,
)
def test_weights_of_another_type_are_named(dtype: torch.dtype, name: str, model: Path) -> None:
    path = model / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_in.weight"] = tensors["conv_in.weight"].to(dtype)
    save_file(tensors, path)
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*holds weights of type {name} \(conv_in\.weight\)[^\n]*$"):
        check(model)


ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "sides": (UNET, {"sample_size": [8, 8]}),
    "kernels": (UNET, {"conv_in_kernel": [3, 3], "conv_out_kernel": [3, 3]}),
    "the other name of SiLU": (UNET, {"act_fn": "swish"}),
    "cross attention nowhere alone": (UNET, {"only_cross_attention": False}),
    "no effect in float32": (UNET, {"upcast_attention": True, "dropout": 0.1}),
    "averaged weights": (UNET, {"decay": 0.9999, "optimization_step": 100, "power": 0.75, "use_ema_warmup": False}),
    "metadata": (
        UNET,
        {"_name_or_path": "./x", "_commit_hash": "0", "_diffusers_version": "9.9.9", "_extra": {"a": 1}},
    ),
    "neutral entries of a later version": (UNET, {"use_registers": False, "register_count": None, "kinds": []}),
    "neutral statistics": (VAE, {"latents_mean": [0, 0, 0, 0], "latents_std": [1.0, 1.0, 1.0, 1.0]}),
    "half precision": (VAE, {"force_upcast": False, "sample_size": 512}),
    "attributes of transformers": (TEXT, {"torch_dtype": "float16", "return_dict": True, "dropout": 0.0, "x": 3}),
    "unknown architecture": (TEXT, {"architectures": None}),
    "Euler": (SCHEDULER, {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear"}),
    "old scheduler": (SCHEDULER, {"tensor_format": "pt", "predict_epsilon": True}),
    "picture to picture": (INDEX, {"_class_name": "StableDiffusionImg2ImgPipeline"}),
    "distilled": (INDEX, {"_class_name": "LatentConsistencyModelPipeline", "scheduler": ["diffusers", "LCMScheduler"]}),
    "a checker": (INDEX, {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}),
    "a pipeline of its own code": (INDEX, {"_class_name": ["pipeline", "Mine"]}),
}


@pytest.mark.parametrize(("file", "changes"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_changes_nothing_stops_nothing(file: str, changes: dict[str, Any], model: Path, sd1_folder: Path) -> None:
    edit(model / file, changes)
    opened, plain = open_model(str(model)), open_model(str(sd1_folder))
    assert opened.resolution() == plain.resolution() == 16
    for part in opened.parts:
        assert opened.shapes(part).config == plain.shapes(part).config


def test_every_entry_of_diffusers_is_known() -> None:
    import inspect

    import diffusers

    for kind, table in LIBRARY_TABLES.items():
        if hasattr(diffusers, kind):
            theirs = set(inspect.signature(getattr(diffusers, kind).__init__).parameters) - {"self"}
            assert theirs == set(table.entries), kind
    for part in ("unet", "vae"):
        assert set(TABLES[part].entries) == set(LIBRARY_TABLES[PART_CLASSES[part]].entries)


def test_entries_that_a_config_leaves_out_have_the_defaults_of_their_libraries() -> None:
    import diffusers
    from transformers import CLIPTextConfig

    theirs: list[tuple[Any, dict[str, Any]]] = [
        (UNetConfig, dict(diffusers.UNet2DConditionModel(block_out_channels=(32,) * 4).config)),
        (VaeConfig, dict(diffusers.AutoencoderKL().config)),
        (ClipConfig, CLIPTextConfig().to_dict()),
    ]
    for kind, entries in theirs:
        for name, value in asdict(kind.from_dict({})).items():
            assert value == entries[name] or name == "block_out_channels", name
        assert {name: DEFAULTS[name] for name in DEFAULTS if name in entries and kind is not VaeConfig} == {
            name: entries[name] for name in DEFAULTS if name in entries and kind is not VaeConfig
        }


def test_a_folder_of_the_hubs_cache_says_where_the_model_is(model: Path, tmp_path: Path) -> None:
    (tmp_path / "models--org--name" / "snapshots").mkdir(parents=True)
    model.rename(tmp_path / "models--org--name" / "snapshots" / "0123")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*model_index\.json does not exist; [^\n]*below its snapshots$"):
        open_model(str(tmp_path / "models--org--name"))


def test_a_refiner_is_refused(xl_model: Path) -> None:
    edit(xl_model / INDEX, {"_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [None, None]})
    shutil.rmtree(xl_model / "text_encoder")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*has no text_encoder[^\n]*$"):
        open_model(str(xl_model))


# What diffusers' pipelines correct on loading.
OLD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "clipped": ({"_class_name": "DDIMScheduler", "clip_sample": True}, ()),
    "clipped by default": ({"_class_name": "DDIMScheduler"}, ("clip_sample",)),
    "no offset": ({"_class_name": "DDIMScheduler", "steps_offset": 0, "clip_sample": False}, ()),
    "no offset by default": ({"_class_name": "DDIMScheduler", "clip_sample": False}, ("steps_offset",)),
    "another offset": ({"_class_name": "DDIMScheduler", "steps_offset": 7, "clip_sample": True}, ()),
    "alpha of one": (
        {"_class_name": "DDIMScheduler", "set_alpha_to_one": True, "clip_sample": True},
        ("steps_offset",),
    ),
    "trailing": ({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}, ("steps_offset", "clip_sample")),
}


def stock_latents(kind: Any, folder: Path, channels: int) -> np.ndarray:
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    latents = torch.from_numpy(starting_noise(3, 1, (channels, 8, 8)))
    settings = {"num_inference_steps": 5, "guidance_scale": 4.0, "height": 16, "width": 16, "output_type": "latent"}
    drawn = pipeline("a dog", negative_prompt="a cat", latents=latents, **settings)
    return drawn.images.numpy()


def own_latents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    runtime, seen = open_model(str(folder), "none"), list[np.ndarray]()
    monkeypatch.setattr(
        "edge_sdk.runtime.pytorch.generate.decode", lambda _, latents: seen.append(latents.numpy()) or latents.numpy()
    )
    noise = starting_noise(3, 1, runtime.latents_shape(16))
    sample(runtime, [("a dog", [])], noise, 16, negative_prompt="a cat", steps=5, guidance_scale=4.0)
    return seen[0]


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(("changes", "dropped"), OLD.values(), ids=OLD)
def test_old_schedules_give_the_latents_of_diffusers(
    family: str,
    changes: dict[str, Any],
    dropped: tuple[str, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stable Diffusion's pipeline corrects them, that of XL does not."""
    folder = Path(shutil.copytree(request.getfixturevalue(f"{family}_folder"), tmp_path / "model"))
    edit(folder / SCHEDULER, changes, dropped)
    edit(folder / INDEX, {"scheduler": ["diffusers", "DDIMScheduler"]})
    kind = StableDiffusionPipeline if family == "sd1" else StableDiffusionXLPipeline
    expected, found = stock_latents(kind, folder, 4), own_latents(folder, monkeypatch)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("version", "sides", "expected"),
    [
        ("0.2.2", 32, 64),
        ("0.8.1", 8, 64),
        ("0.8.0.dev0", 63, 64),
        ("0.9.0.dev0", 8, 8),
        ("0.10.2", 32, 32),
        ("1.0.0", 8, 8),
        ("0.2.2", 96, 96),
        ("0.2.2", [32, 32], [32, 32]),
        (None, 8, 8),
    ],
    ids=str,
)
def test_old_sides_are_corrected_as_diffusers_does(version: str | None, sides: Any, expected: Any, model: Path) -> None:
    edit(
        model / UNET, {"_diffusers_version": version, "sample_size": sides}, () if version else ("_diffusers_version",)
    )
    config = json.loads((model / UNET).read_text())
    assert corrected_unet(config)["sample_size"] == expected
    theirs = StableDiffusionPipeline.from_pretrained(model).unet.config.sample_size
    assert theirs == (expected if isinstance(expected, int) else [32, 32])
    side = expected if isinstance(expected, int) else expected[0]
    assert open_model(str(model)).resolution() == 2 * side


def test_sides_of_sdxl_are_taken_as_they_are(xl_model: Path) -> None:
    edit(xl_model / UNET, {"_diffusers_version": "0.2.2"})
    assert open_model(str(xl_model)).resolution() == 16


def test_a_picture_that_is_no_square_needs_a_resolution(model: Path) -> None:
    edit(model / UNET, {"sample_size": [8, 12]})
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*sample_size of a square picture; give --resolution$"):
        open_model(str(model)).resolution()


@pytest.mark.parametrize("source", ["model", "bundle"])
def test_a_picture_that_is_not_finite_is_not_written(
    source: str,
    sd1_folder: Path,
    bundle_of: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "edge_sdk.generation.starting_noise", lambda _, count, shape: np.full((count, *shape), np.nan, np.float32)
    )
    place = ["--pretrained_model_name_or_path", str(sd1_folder)]
    if source == "bundle":
        place = ["--bundle", str(bundle_of("sd1", "int8"))]
    words = ["generate", *place, "--prompt", "a dog", "--num_inference_steps", "1", "--output", str(tmp_path / "a.png")]
    assert main([*words, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "not finite" in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SAMPLED: dict[str, tuple[dict[str, Any], int, float]] = {
    **{
        kind: (SD | {"_class_name": f"{kind}Scheduler"}, 3, 4.0)
        for kind in (
            "PNDM",
            "EulerDiscrete",
            "UniPCMultistep",
            "DPMSolverMultistep",
            "LCM",
            "DDPM",
            "TCD",
            "HeunDiscrete",
        )
    },
    "SD-Turbo": (SD | {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, 1, 0.0),
    "zero SNR": (
        SD
        | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
        | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        3,
        4.0,
    ),
    "zero SNR, never at its last step": (SD | {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}, 3, 4.0),
}


@pytest.mark.parametrize(("config", "steps", "guidance"), SAMPLED.values(), ids=SAMPLED)
def test_every_scheduler_that_folders_come_with_draws_a_picture(
    config: dict[str, Any], steps: int, guidance: float, model: Path
) -> None:
    (model / SCHEDULER).write_text(json.dumps(config))
    edit(model / INDEX, {"scheduler": ["diffusers", config["_class_name"]]})
    (picture,) = generate("a dog", str(model), weights="none", num_inference_steps=steps, guidance_scale=guidance)
    assert all(low < high for low, high in picture.getextrema())


def test_averaged_weights_alone_are_no_model(model: Path) -> None:
    (model / "unet").rename(model / "unet_ema")
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*unet/config\.json does not exist; the unet is missing$"):
        open_model(str(model))


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        *((VAE, name) for name in ("layers_per_block", "scaling_factor", "act_fn")),
        *((UNET, name) for name in ("in_channels", "norm_eps", "_class_name")),
        *((TEXT, name) for name in ("layer_norm_eps", "architectures")),
        (SCHEDULER, "_class_name"),
    ],
    ids=str,
)
def test_an_optional_entry_that_is_left_out_is_diffusers_own(file: str, entry: str, model: Path) -> None:
    edit(model / file, {}, (entry,))
    edit(model / VAE, {"scaling_factor": 0.18215})
    runtime = open_model(str(model), "none")
    stock = StableDiffusionPipeline.from_pretrained(model).vae.config
    shapes = runtime.shapes("vae").config
    assert (shapes.layers_per_block, shapes.scaling_factor) == (stock.layers_per_block, stock.scaling_factor)
    for part in runtime.parts:
        runtime.load(part)
