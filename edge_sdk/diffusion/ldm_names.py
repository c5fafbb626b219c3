"""Tensors of a single-file checkpoint under the names that they have in a diffusers folder.

No tensor is read or copied: what a name stands for is an entry of a safetensors header, dtype, shape and offsets. A
part of a tensor has offsets of its own; an entry that is ``transposed`` has the shape that it is to be read as.
`diffusers.loaders.single_file_utils` converts the tensors themselves; a test compares the two.
"""

import re
from collections.abc import Iterable
from typing import Any

from edge_sdk.diffusion.ldm_configs import Shapes, levels_of

Entry = dict[str, Any]
Entries = dict[str, Entry]

_UNET = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE = (
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", r".up_blocks.\1.resnets."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)
_OPEN_CLIP = (
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
    (r"\.attn\.", ".self_attn."),
)
_PROJECTIONS = re.compile(r"(.*\.)in_proj_(weight|bias)")


def unet_entries(entries: Entries) -> Entries:
    """The denoiser's."""
    renamed = dict(_UNET)
    levels = levels_of(_shapes(entries))
    sides = [(f"down_blocks.{i}", level) for i, level in enumerate(levels.down)]
    sides += [("mid_block", levels.middle)]
    sides += [(f"up_blocks.{i}", level) for i, level in enumerate(levels.up)]
    for block, layers in sides:
        for j, layer in enumerate(layers):
            renamed |= {f"{layer.place}.{old}": f"{block}.resnets.{j}.{new}" for old, new in _RESNET.items()}
            if layer.depth is not None:
                renamed[layer.transformer] = f"{block}.attentions.{j}"
    renamed |= {place: f"down_blocks.{i}.downsamplers.0.conv" for i, place in enumerate(levels.downsamplers)}
    renamed |= {place: f"up_blocks.{i}.upsamplers.0.conv" for i, place in enumerate(levels.upsamplers)}
    return {new: entry for name, entry in entries.items() if (new := _moved(name, renamed)) is not None}


def vae_entries(entries: Entries) -> Entries:
    """The autoencoder's; the decoder's levels count from the smallest picture here."""
    levels = 1 + max(int(match[1]) for name in entries if (match := re.match(r"decoder\.up\.(\d{1,4})\.", name)))
    out = {}
    for name, entry in entries.items():
        turned = re.sub(r"^(decoder\.up\.)(\d{1,4})\.", lambda match: f"{match[1]}{levels - 1 - int(match[2])}.", name)
        out[_replaced(turned, _VAE)] = entry
    return out


def open_clip_entries(entries: Entries) -> Entries:
    """Of a text encoder of OpenCLIP: the projections of attention are apart here, and that of the text transposed."""
    out: Entries = {}
    for name, entry in entries.items():
        if name == "text_projection":
            out["text_projection.weight"] = {**entry, "shape": entry["shape"][::-1], "transposed": True}
        elif (match := _PROJECTIONS.fullmatch(name)) is not None:
            layer = _replaced(match[1], _OPEN_CLIP)
            for part, piece in zip("qkv", _thirds(entry), strict=True):
                out[f"{layer}{part}_proj.{match[2]}"] = piece
        else:
            out[_replaced(name, _OPEN_CLIP)] = entry
    return out


def _thirds(entry: Entry) -> list[Entry]:
    """The three parts of equally many rows."""
    rows, (first, last) = entry["shape"][0] // 3, entry["data_offsets"]
    size = (last - first) // 3
    return [
        {**entry, "shape": [rows, *entry["shape"][1:]], "data_offsets": [first + i * size, first + (i + 1) * size]}
        for i in range(3)
    ]


def _moved(name: str, places: dict[str, str]) -> str | None:
    """A name with its longest known beginning replaced; None without one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (place := ".".join(parts[:length])) in places:
            return ".".join([places[place], *parts[length:]])
    return None


def _replaced(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    for old, new in patterns:
        name = re.sub(old, new, name)
    return name


def _shapes(entries: Entries) -> Shapes:
    return {name: entry["shape"] for name, entry in entries.items()}
