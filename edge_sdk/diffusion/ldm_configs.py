"""Configs of the components in a single-file checkpoint, from the names and shapes of its tensors.

Such a file has the names of the first latent diffusion code (CompVis, Stability AI). What shapes do not show is what
all published models of a family have: 32 groups a norm, heads of 64 channels (Stable Diffusion 1.x: 8 heads).
"""

import re
from dataclasses import dataclass
from typing import Any

Shapes = dict[str, list[int]]
DENOISER, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
HEAD = 64  # channels of an attention head
MOST_OPEN_CLIP_LAYERS = 23  # Stable Diffusion 2.x leaves the last one of 24 out


@dataclass(frozen=True)
class Layer:
    """A residual block of the denoiser by its place in the file.

    Attributes:
        place: of the residual block, such as "input_blocks.1.0".
        channels: of its output.
        depth: how many transformer blocks follow; None without a transformer.
    """

    place: str
    channels: int
    depth: int | None

    @property
    def transformer(self) -> str:
        """The place of the transformer."""
        stem, _, last = self.place.rpartition(".")
        return f"{stem}.{int(last) + 1}"


@dataclass(frozen=True)
class Levels:
    """Where the denoiser's layers are, and its resamplers, each in the order in which they run."""

    down: list[list[Layer]]
    middle: list[Layer]
    up: list[list[Layer]]
    downsamplers: list[str]
    upsamplers: list[str]


def within(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def levels_of(shapes: Shapes) -> Levels:
    """The layers of a denoiser, whose names have no prefix."""
    levels = Levels([[]], _middle(shapes), [[]], [], [])
    for i in range(1, _count(shapes, "input_blocks")):
        place = f"input_blocks.{i}.0"
        if f"{place}.op.weight" in shapes:
            levels.downsamplers.append(f"{place}.op")
            levels.down.append([])
        else:
            levels.down[-1].append(_layer(shapes, place))
    count = _count(shapes, "output_blocks")
    for i in range(count):
        levels.up[-1].append(_layer(shapes, f"output_blocks.{i}.0"))
        resamplers = [f"output_blocks.{i}.{j}.conv" for j in (1, 2) if f"output_blocks.{i}.{j}.conv.weight" in shapes]
        if resamplers:
            levels.upsamplers.extend(resamplers)
            levels.up.append([])
    return levels


def unet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The denoiser's config.

    Raises:
        ValueError, LookupError: no supported network has these tensors.
    """
    levels = levels_of(shapes)
    channels = [level[0].channels for level in levels.down]
    down, up = [_depths(level) for level in levels.down], [_depths(level) for level in levels.up]
    depths: list[Any] = [1 if depth is None else depth for depth in down]
    middle = levels.middle[0].depth if levels.middle else None
    if middle is not None and down[-1] is None:
        depths[-1] = middle
    first = depths[-1][0] if isinstance(depths[-1], list) else depths[-1]
    if middle is not None and middle != first:
        raise ValueError(f"its middle block has {middle} transformer blocks and the level before it {first}")
    flat = all(isinstance(depth, int) for depth in depths)
    same = flat and all(depth in (None, other) for depth, other in zip(up, reversed(depths), strict=True))
    attention = _attention(shapes)
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": _one([len(level) for level in levels.down]),
        "down_block_types": [f"{'' if depth is None else 'CrossAttn'}DownBlock2D" for depth in down],
        "mid_block_type": _middle_type(levels.middle),
        "up_block_types": [f"{'' if depth is None else 'CrossAttn'}UpBlock2D" for depth in up],
        "transformer_layers_per_block": _one(depths),
        "reverse_transformer_layers_per_block": None if same else [1 if depth is None else depth for depth in up],
        "cross_attention_dim": shapes[f"{attention}.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[f"{attention}.proj_in.weight"]) == 2,
        "attention_head_dim": 8 if family == "1.x" else [max(1, each // HEAD) for each in channels],
        "norm_num_groups": 32,
    }
    if "label_emb.0.0.weight" in shapes:
        config["addition_embed_type"] = "text_time"
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def vae_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The autoencoder's config; raises LookupError if a tensor is missing."""
    levels = _numbers(shapes, r"encoder\.down\.(\d+)\.")
    channels = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "block_out_channels": channels,
        "layers_per_block": _numbers(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": 32,
        "scaling_factor": 0.13025 if family == "XL" else 0.18215,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def clip_config(shapes: Shapes) -> dict[str, Any]:
    """The config of a text encoder with transformers' names (CLIP ViT-L); raises LookupError."""
    layers = _numbers(shapes, r"encoder\.layers\.(\d+)\.")
    return _text_config(
        *shapes["embeddings.token_embedding.weight"],
        length=shapes["embeddings.position_embedding.weight"][0],
        inner=shapes["encoder.layers.0.mlp.fc1.weight"][0],
        layers=layers,
    )


def open_clip_config(shapes: Shapes, projected: bool) -> dict[str, Any]:
    """The config of a text encoder with OpenCLIP's names (ViT-H, ViT-bigG); raises LookupError."""
    layers = _numbers(shapes, r"transformer\.resblocks\.(\d+)\.")
    config = _text_config(
        *shapes["token_embedding.weight"],
        length=shapes["positional_embedding"][0],
        inner=shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        layers=layers if projected else min(layers, MOST_OPEN_CLIP_LAYERS),
    )
    config["hidden_act"] = "gelu"
    if projected:
        config["architectures"] = ["CLIPTextModelWithProjection"]
        config["projection_dim"] = shapes["text_projection"][1]
    return config


def _text_config(words: int, width: int, *, length: int, inner: int, layers: int) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"],
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD),
        "max_position_embeddings": length,
        "hidden_act": "quick_gelu",
        "projection_dim": width,
    }


def _layer(shapes: Shapes, place: str) -> Layer:
    layer = Layer(place, shapes[f"{place}.in_layers.2.weight"][0], None)
    if f"{layer.transformer}.proj_in.weight" not in shapes:
        return layer
    depth = _numbers(shapes, rf"{re.escape(layer.transformer)}\.transformer_blocks\.(\d+)\.")
    return Layer(place, layer.channels, depth)


def _middle(shapes: Shapes) -> list[Layer]:
    places = [f"middle_block.{i}" for i in (0, 2) if f"middle_block.{i}.in_layers.2.weight" in shapes]
    return [_layer(shapes, place) for place in places]


def _middle_type(layers: list[Layer]) -> str | None:
    types = {(): None, (False,): "UNetMidBlock2D", (True, False): "UNetMidBlock2DCrossAttn"}
    return types[tuple(layer.depth is not None for layer in layers)]


def _attention(shapes: Shapes) -> str:
    """The place of any transformer."""
    ending = ".transformer_blocks.0.attn2.to_k.weight"
    return next(name.removesuffix(ending) for name in shapes if name.endswith(ending))


def _depths(level: list[Layer]) -> int | list[int] | None:
    """Of a level's layers, as a config has them."""
    depths = [layer.depth for layer in level if layer.depth is not None]
    if depths and len(depths) != len(level):
        raise ValueError("only some layers of a level have transformers")
    return _one(depths) if depths else None


def _one(values: list[Any]) -> Any:
    """The value that all are, or the list."""
    return values[0] if all(value == values[0] for value in values) else values


def _count(shapes: Shapes, name: str) -> int:
    return _numbers(shapes, rf"{name}\.(\d+)\.")


def _numbers(shapes: Shapes, pattern: str) -> int:
    """How many numbers, counted from 0, stand in names at a pattern's group."""
    matches = (re.match(pattern, name) for name in shapes)
    numbers = {int(match[1]) for match in matches if match and len(match[1]) < 5}
    return next(i for i in range(len(numbers) + 1) if i not in numbers)
