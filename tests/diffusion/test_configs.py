"""Configs of model parts: checked by type and range against the weights that exist, before they cost anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.diffusion.configs import check_config
from edge_sdk.diffusion.schedulers import scheduler_entries
from edge_sdk.diffusion.tables import LIBRARY_TABLES, TABLES
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.pytorch.model import open_model

REFUSED: dict[str, tuple[str, dict[str, Any] | str, str]] = {
    "layers of transformers": ("unet", {"transformer_layers_per_block": 2147483647}, "transformer_layers_per_block is"),
    "layers beyond the weights": ("unet", {"transformer_layers_per_block": 500}, "the weights are"),
    "layers a block": ("unet", {"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
    "blocks cut": ("unet", {"up_block_types": ["UpBlock2D"]}, "up_block_types has 1 values for 2 blocks"),
    "no blocks": ("unet", {"block_out_channels": []}, "block_out_channels is []"),
    "too many blocks": ("unet", {"block_out_channels": [32] * 100}, "block_out_channels is a list of 100"),
    "heads that do not divide": ("unet", {"attention_head_dim": 5}, "attention_head_dim 5 does not divide"),
    "groups that do not divide": ("unet", {"norm_num_groups": 7}, "norm_num_groups 7 does not divide"),
    "epsilon": ("unet", {"norm_eps": "x"}, "norm_eps is 'x'"),
    "true for a number": ("unet", {"in_channels": True}, "in_channels is True"),
    "channels of no latents": ("unet", {"in_channels": 9}, "the vae's latent_channels is 4"),
    "width of no text": ("unet", {"cross_attention_dim": 48}, "cross_attention_dim is 48"),
    "vae's layers": ("vae", '{"layers_per_block": 1e400}', "1e400 is too large for a number"),
    "vae's channels": ("vae", '{"block_out_channels": [-Infinity, 32]}', "block_out_channels.0 is -inf"),
    "scale": ("vae", {"scaling_factor": 0}, "scaling_factor is 0"),
    "text's layers": ("text_encoder", {"num_hidden_layers": 2**64}, "num_hidden_layers is 18446744073709551616"),
    "text's layers beyond the weights": ("text_encoder", {"num_hidden_layers": 900}, "make 900 layers"),
    "text's heads": ("text_encoder", {"num_attention_heads": "4"}, "num_attention_heads is '4'"),
    "text's heads that do not divide": ("text_encoder", {"num_attention_heads": 5}, "does not divide hidden_size"),
    "text's epsilon": ("text_encoder", {"layer_norm_eps": {}}, "layer_norm_eps is {}"),
    "twice": ("text_encoder", '{"hidden_size": 32, "hidden_size": 64}', "'hidden_size' is given twice"),
}


def changed(path: Path, change: dict[str, Any] | str) -> None:
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(("part", "change", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("form", ["float", "integer"])
def test_a_config_that_fits_no_weights_is_refused_before_anything_is_built(
    form: str,
    part: str,
    change: dict[str, Any] | str,
    message: str,
    sd1_folder: Path,
    checkpoint_of: Callable[[str, str], Path],
    tmp_path: Path,
) -> None:
    source = sd1_folder if form == "float" else checkpoint_of("sd1", "int8")
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    changed(folder / part / "config.json", change)
    with pytest.raises(EdgeSdkError) as caught:
        open_model(str(folder))
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


SCHEDULES: dict[str, dict[str, Any] | str] = {
    "timesteps a text": {"num_train_timesteps": "1000"},
    "timesteps an object": {"num_train_timesteps": {}},
    "timesteps too many": {"num_train_timesteps": 2**62},
    "no timesteps": {"num_train_timesteps": 0},
    "beta a text": {"beta_start": "0.1"},
    "beta a list": {"beta_end": [0.1]},
    "beta below zero": {"beta_start": -1},
    "infinite beta": '{"beta_end": Infinity}',
    "prediction a number": {"prediction_type": 1},
    "another prediction": {"prediction_type": "gan"},
    "spacing a list": {"timestep_spacing": []},
    "offset": {"steps_offset": 1000},
    "range of clipping": {"clip_sample_range": "wide"},
}


@pytest.mark.parametrize("change", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_of_another_kind_is_refused(change: dict[str, Any] | str, sd1_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    changed(folder / "scheduler" / "scheduler_config.json", change)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*scheduler_config\.json cannot be used: [^\n]+$"):
        open_model(str(folder)).load_schedule()


def test_infinities_that_diffusers_writes_into_schedules_are_read(sd1_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lambda_min_clipped": float("-inf")}))
    assert open_model(str(folder)).load_schedule() == open_model(str(sd1_folder)).load_schedule()


def test_every_config_that_diffusers_and_transformers_write_is_accepted() -> None:
    import diffusers
    import transformers

    for name, table in LIBRARY_TABLES.items():
        library = diffusers if hasattr(diffusers, name) else transformers
        if library is diffusers:
            check_config(json.loads(getattr(diffusers, name)().to_json_string()), table)
        else:
            check_config(getattr(transformers, name).config_class().to_dict(), table)
    scheduler_entries(json.loads(diffusers.DDIMScheduler().to_json_string()), ("DDIMScheduler",))


PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "SDXL": (
        "unet",
        {
            "transformer_layers_per_block": [0, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "layers_per_block": 2,
            "sample_size": 128,
        },
    ),
    "SD 2.1": (
        "unet",
        {"attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280], "sample_size": 96},
    ),
    "nulls": ("unet", {"sample_size": None, "addition_embed_type": None, "addition_time_embed_dim": None}),
    "FLUX's VAE": (
        "vae",
        {
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
            "use_quant_conv": False,
            "mid_block_add_attention": True,
            "latent_channels": 16,
            "norm_num_groups": 32,
        },
    ),
    "OpenCLIP bigG": (
        "text_encoder_2",
        {
            "hidden_size": 1280,
            "num_attention_heads": 20,
            "num_hidden_layers": 32,
            "intermediate_size": 5120,
            "projection_dim": 1280,
            "hidden_act": "gelu",
        },
    ),
}


@pytest.mark.parametrize(("part", "config"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_configs_are_accepted(part: str, config: dict[str, Any]) -> None:
    check_config(config, TABLES[part], 2000)
