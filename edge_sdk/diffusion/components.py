"""The components of a model's folder that have weights, each checked against its config, its weights and the others.

Headers of weight files are read, and nothing else of them.
"""

from pathlib import Path
from typing import Any

from edge_sdk.diffusion.configs import check_config, read_config
from edge_sdk.diffusion.tables import DEFAULTS, TABLES
from edge_sdk.diffusion.weight_files import weight_files
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.safetensors import read_header

PARTS = ("text_encoder", "unet", "vae")  # of Stable Diffusion 1.x and 2.x
XL_PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")
PART_CLASSES = {
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
}
SUPPORTED = "Stable Diffusion 1.x, 2.x and XL"
FLOATS = ("F16", "BF16", "F32", "F64")


def parts(folder: Path) -> tuple[str, ...]:
    """The parts of a checked model that have weights."""
    return XL_PARTS if (folder / "text_encoder_2").is_dir() else PARTS


def text_encoders(folder: Path) -> tuple[str, ...]:
    """Those of the parts that are text encoders."""
    return tuple(part for part in parts(folder) if part.startswith("text_encoder"))


def tokenizers(folder: Path) -> tuple[str, ...]:
    """The folders of a checked model's tokenizers, one a text encoder."""
    return tuple(part.replace("text_encoder", "tokenizer") for part in text_encoders(folder))


def checked_config(folder: Path, part: str, is_integer: bool, weights: Path | None = None) -> dict[str, Any]:
    """The config of a part, checked against the headers of its weights.

    Args:
        is_integer: the part is an integer checkpoint's.
        weights: the single file that has the weights of all parts; by default each part has its own.

    Raises:
        EdgeSdkError: a file is missing or damaged, or the part is of another kind than what is supported.
    """
    path, wanted = folder / part / "config.json", PART_CLASSES[part]
    config = read_config(path, f"the {part} is missing")
    declared = [config["_class_name"]] if "_class_name" in config else config.get("architectures") or [wanted]
    if declared != [wanted]:
        raise EdgeSdkError(f"{folder / part} is a {one_line(declared, 120)}; supported is {wanted} ({SUPPORTED})")
    if part == "unet" and (config.get("addition_embed_type") is not None) != (parts(folder) == XL_PARTS):
        raise EdgeSdkError(
            f"{folder / part} has addition_embed_type {config.get('addition_embed_type')!r} in a folder of "
            f"{len(tokenizers(folder))} text encoder(s); SDXL has text_time and two, {SUPPORTED} are supported"
        )
    check_quantization(folder / part, config)
    files = [folder / part / "integer_model.safetensors"] if is_integer else [weights] if weights else []
    files = files or weight_files(folder / part)
    headers = {file: read_header(file) for file in files}
    try:
        check_config(config, TABLES[part], sum(map(len, headers.values())))
    except ValueError as error:
        raise EdgeSdkError(f"{path} cannot be used: {error}; supported are {SUPPORTED}") from error
    if not is_integer:
        for file, header in headers.items():
            check_weight_types(file, header)
    return config


def check_quantization(folder: Path, config: dict[str, Any], accepted: tuple[str, ...] = ("quanto",)) -> None:
    """Check by a part's config who quantized its weights.

    Args:
        accepted: methods of quantization.

    Raises:
        EdgeSdkError: another library did.
    """
    given = config.get("quantization_config")
    method = given.get("quant_method") if isinstance(given, dict) else given
    if given is not None and method not in accepted:
        raise EdgeSdkError(
            f"{folder} was quantized by another library ({one_line(method or 'not named', 80)}, by its "
            "quantization_config); give the float model"
        )


def check_weight_types(file: Path, header: dict[str, Any]) -> None:
    """Raises EdgeSdkError for weights that are neither floats of 16 bits or more nor integers of quanto's."""
    for name, entry in header.items():
        if name.endswith((".weight", ".bias", ".qweight")) and entry["dtype"] not in FLOATS:
            raise EdgeSdkError(
                f"{file} holds weights of type {entry['dtype']} ({name}); supported are {', '.join(FLOATS)}: give the "
                "float model"
            )


def check_parts(folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    """Raises EdgeSdkError where what one part gives is not what another takes, by the entries of both."""
    whole = {part: DEFAULTS | config for part, config in configs.items()}
    unet, vae, first = whole["unet"], whole["vae"], whole["text_encoder"]
    width = first["hidden_size"] + (whole["text_encoder_2"]["hidden_size"] if "text_encoder_2" in whole else 0)
    latents = ("vae's latent_channels", vae["latent_channels"])
    pairs = [
        ("unet's in_channels", unet["in_channels"], *latents),
        ("unet's out_channels", unet["out_channels"], *latents),
    ]
    widths = unet["cross_attention_dim"]  # of each block, or of all of them
    for value in widths if isinstance(widths, list) else [widths]:
        pairs.append(("unet's cross_attention_dim", value, "text encoders' width", width))
    if unet.get("addition_time_embed_dim") and "projection_dim" in whole.get("text_encoder_2", {}):
        added = 6 * unet["addition_time_embed_dim"] + whole["text_encoder_2"]["projection_dim"]
        name = "projection_class_embeddings_input_dim"
        pairs.append((f"unet's {name}", unet.get(name), "size of what SDXL adds", added))
    for name, value, other_name, other in pairs:
        if None not in (value, other) and value != other:
            raise EdgeSdkError(
                f"{folder}: the {name} is {value} and the {other_name} is {other}, as no model of {SUPPORTED} has them"
            )
