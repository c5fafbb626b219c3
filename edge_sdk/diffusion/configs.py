"""The ``config.json`` of a model part: what its entries may be, and reading those that matter here into a dataclass.

A config describes a network that is built before its weights are read. So counts of layers are bounded by the number
of tensors in the weight files, and sizes that a library allocates must be sizes of tensors there.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json
from edge_sdk.system.schema import Either, Many, Maybe, Real, Whole, check

SIZE, COUNT, HEADS, GROUPS = Whole(1, 1 << 20), Whole(1, 1024), Whole(1, 1024), Whole(1, 1024)
EPSILON, SIDE = Real(0, 1), Whole(1, 4096)
MOST_BLOCKS = 16
LARGEST_INTEGER = 1 << 20  # anywhere in the config of a network that a library builds
_NAMES, _CHANNELS = Many(str, 1, MOST_BLOCKS), Many(SIZE, 1, MOST_BLOCKS)
_DEPTH = Whole(0, 1024)
_DEPTHS = Many(Either(_DEPTH, Many(_DEPTH, 1, 1024)), 1, MOST_BLOCKS)  # of each block, or of each layer of a block
_SIDES = Either(SIDE, Many(SIDE, 2, 2), None)


@dataclass(frozen=True)
class Table:
    """What a config may say.

    Attributes:
        entries: name -> kind; all may be missing.
        counts: entries that say how many layers there are.
        per_block: entries whose lists have one value for each block.
        divisors: pairs of entries; the first divides every value of the second.
        sizes: entries that are also a size of some tensor.
    """

    entries: dict[str, Any]
    counts: tuple[str, ...] = ()
    per_block: tuple[str, ...] = ()
    divisors: tuple[tuple[str, str], ...] = ()
    sizes: tuple[str, ...] = ()


_BLOCKS = ("block_out_channels", "down_block_types", "up_block_types")
_GROUPS = ("norm_num_groups", "block_out_channels")

# The networks that this package builds itself.
UNET = Table(
    {
        "sample_size": _SIDES,
        "in_channels": SIZE,
        "out_channels": SIZE,
        "block_out_channels": _CHANNELS,
        "layers_per_block": Either(COUNT, Many(COUNT, 1, MOST_BLOCKS)),
        "down_block_types": _NAMES,
        "mid_block_type": Either(str, None),
        "up_block_types": _NAMES,
        "attention_head_dim": Either(HEADS, Many(HEADS, 1, MOST_BLOCKS)),
        "transformer_layers_per_block": Either(_DEPTH, _DEPTHS),
        "reverse_transformer_layers_per_block": Either(_DEPTHS, None),
        "only_cross_attention": Either(bool, Many(bool, 1, MOST_BLOCKS)),
        "mid_block_only_cross_attention": Either(bool, None),  # of another middle block only
        "cross_attention_dim": Either(SIZE, Many(SIZE, 1, MOST_BLOCKS)),
        "use_linear_projection": bool,
        "norm_num_groups": GROUPS,
        "norm_eps": EPSILON,
        "addition_embed_type": Either(str, None),
        "addition_time_embed_dim": Either(SIZE, None),
        "projection_class_embeddings_input_dim": Either(SIZE, None),
    },
    counts=("layers_per_block", "transformer_layers_per_block"),
    per_block=(
        *_BLOCKS,
        "layers_per_block",
        "attention_head_dim",
        "transformer_layers_per_block",
        "reverse_transformer_layers_per_block",
        "only_cross_attention",
        "cross_attention_dim",
    ),
    divisors=(_GROUPS, ("attention_head_dim", "block_out_channels")),
)
VAE = Table(
    {
        "in_channels": SIZE,
        "out_channels": SIZE,
        "latent_channels": SIZE,
        "block_out_channels": _CHANNELS,
        "down_block_types": _NAMES,
        "up_block_types": _NAMES,
        "layers_per_block": COUNT,
        "norm_num_groups": GROUPS,
        "scaling_factor": Real(1e-6, 1e6),
        "shift_factor": Either(Real(-1e6, 1e6), None),
        "mid_block_add_attention": bool,
        "use_quant_conv": bool,
        "use_post_quant_conv": bool,
    },
    counts=("layers_per_block",),
    per_block=_BLOCKS,
    divisors=(_GROUPS,),
)
CLIP = Table(
    {
        "vocab_size": SIZE,
        "hidden_size": SIZE,
        "intermediate_size": SIZE,
        "num_hidden_layers": COUNT,
        "num_attention_heads": HEADS,
        "max_position_embeddings": Whole(3, 4096),
        "layer_norm_eps": EPSILON,
        "hidden_act": str,
        "projection_dim": SIZE,
    },
    counts=("num_hidden_layers",),
    divisors=(("num_attention_heads", "hidden_size"),),
    sizes=("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"),
)
TABLES = {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": CLIP}

# The networks that a library builds, by the library's name of the class; they may be more various.
LIBRARY_TABLES = {
    "UNet2DModel": Table(
        UNET.entries
        | {
            "layers_per_block": COUNT,
            "attention_head_dim": Either(HEADS, None),
            "add_attention": bool,
            "dropout": Real(0, 1),
            "freq_shift": Whole(0, 1),
            "flip_sin_to_cos": bool,
            "center_input_sample": bool,
            "downsample_padding": Whole(0, 1),
            "mid_block_scale_factor": Real(1e-3, 1e3),
            "act_fn": str,
            "attn_norm_num_groups": Either(GROUPS, None),
            "time_embedding_dim": Either(SIZE, None),
            "num_train_timesteps": Either(Whole(1, 100_000), None),
            "time_embedding_type": str,
            "resnet_time_scale_shift": str,
            "downsample_type": str,
            "upsample_type": str,
        },
        counts=("layers_per_block",),
        per_block=_BLOCKS,
        divisors=(_GROUPS,),
        sizes=("in_channels", "out_channels", "block_out_channels", "time_embedding_dim"),
    ),
    "UNet2DConditionModel": Table(
        UNET.entries
        | {
            "dropout": Real(0, 1),
            "act_fn": str,
            "norm_num_groups": Either(GROUPS, None),
            "num_attention_heads": Either(HEADS, Many(HEADS, 1, MOST_BLOCKS), None),
            "freq_shift": Whole(0, 1),
            "flip_sin_to_cos": bool,
            "center_input_sample": bool,
            "downsample_padding": Whole(0, 1),
            "mid_block_scale_factor": Real(1e-3, 1e3),
            "resnet_out_scale_factor": Real(1e-3, 1e3),
            "time_embedding_dim": Either(SIZE, None),
            "conv_in_kernel": Whole(1, 15),
            "conv_out_kernel": Whole(1, 15),
            "upcast_attention": Either(bool, None),
            "resnet_skip_time_act": bool,
            "class_embeddings_concat": bool,
            "dual_cross_attention": bool,
        },
        counts=UNET.counts,
        per_block=UNET.per_block,
        divisors=(_GROUPS,),
        sizes=("in_channels", "out_channels", "block_out_channels", "cross_attention_dim", "time_embedding_dim"),
    ),
    "SD3Transformer2DModel": Table(
        {
            "sample_size": SIDE,
            "patch_size": Whole(1, 64),
            "in_channels": SIZE,
            "num_layers": COUNT,
            "attention_head_dim": HEADS,
            "num_attention_heads": HEADS,
            "joint_attention_dim": SIZE,
            "caption_projection_dim": SIZE,
            "pooled_projection_dim": SIZE,
            "out_channels": Either(SIZE, None),
            "pos_embed_max_size": Whole(1, 1024),
            "qk_norm": Either(str, None),
            "dual_attention_layers": Many(Whole(0, 1024), 0, 1024),
        },
        counts=("num_layers",),
        sizes=("in_channels", "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim"),
    ),
    "AutoencoderKL": Table(VAE.entries, VAE.counts, VAE.per_block, VAE.divisors, ("in_channels", "block_out_channels")),
    "CLIPTextModel": CLIP,
    "CLIPTextModelWithProjection": CLIP,
    "T5EncoderModel": Table(
        {
            "vocab_size": SIZE,
            "d_model": SIZE,
            "d_kv": SIZE,
            "d_ff": SIZE,
            "num_layers": COUNT,
            "num_heads": HEADS,
            "num_decoder_layers": Either(COUNT, None),
            "relative_attention_num_buckets": Whole(2, 1024),
            "relative_attention_max_distance": Whole(2, 1 << 16),
            "dropout_rate": Real(0, 1),
            "layer_norm_epsilon": EPSILON,
            "feed_forward_proj": str,
            "is_gated_act": bool,
        },
        counts=("num_layers",),
        sizes=("vocab_size", "d_model", "d_ff", "num_heads", "relative_attention_num_buckets"),
    ),
}
SCHEDULER = Table(
    {
        "num_train_timesteps": Whole(1, 100_000),
        "prediction_type": str,
        "timestep_spacing": str,
        "steps_offset": Whole(0, 100_000),
        "clip_sample": bool,
        "clip_sample_range": Real(1e-6, 1e6),
        "set_alpha_to_one": bool,
        "beta_start": Real(0, 1),
        "beta_end": Real(0, 1),
        "beta_schedule": str,
        "rescale_betas_zero_snr": bool,
        "shift": Real(1e-3, 1e3),
        "use_dynamic_shifting": bool,
    },
)


def read_config(path: Any, hint: str) -> dict[str, Any]:
    """A config as diffusers or transformers writes it, which may hold infinities; raises EdgeSdkError."""
    return read_json(path, hint, infinity=True)


def check_config(
    config: dict[str, Any], table: Table, tensors: int | None = None, sizes: Collection[int] | None = None
) -> None:
    """Check a config by its table.

    Args:
        tensors: how many there are in the weight files, if that is known.
        sizes: of the tensors there, if a library is to build the network.

    Raises:
        ValueError: one line that names the entry.
    """
    check(config, {name: Maybe(kind) for name, kind in table.entries.items()})
    blocks = len(config.get("block_out_channels", [0]))
    for name in table.per_block:
        if isinstance(value := config.get(name), list | tuple) and "block_out_channels" in config:
            _require(len(value) == blocks, f"{name} has {len(value)} values for {blocks} blocks")
    for divisor, name in table.divisors:
        if divisor in config and name in config:
            many = _values(config[divisor]) * (blocks if not isinstance(config[divisor], list | tuple) else 1)
            for each, value in zip(many, _values(config[name]), strict=False):
                _require(each is None or value % each == 0, f"{divisor} {each} does not divide {name} {value}")
    if tensors is not None:
        layers = blocks
        for name in table.counts:
            layers *= max(1, *_values(config.get(name, 1)), *_values(config.get(f"reverse_{name}") or 1))
        _require(
            layers <= tensors, f"{' and '.join(table.counts)} make {layers} layers; the weights are {tensors} tensors"
        )
    if sizes is not None:
        for name in table.sizes:
            for value in _values(config.get(name)):
                _require(value is None or value in sizes, f"{name} is {value}, which is no size of any of the weights")
        for name, value in _integers(config):
            _require(abs(value) <= LARGEST_INTEGER, f"{name} is {value}; at most {LARGEST_INTEGER} is accepted")


def known_entries(kind: type, config: dict[str, Any], table: Table) -> dict[str, Any]:
    """The entries of a config that a dataclass has, checked, lists as tuples.

    Raises:
        EdgeSdkError: an entry is not what the table accepts, or does not fit another one or its default.
    """
    entries = {f.name: config[f.name] for f in fields(kind) if f.name in config}
    whole = {**config, **{f.name: _listed(entries.get(f.name, f.default)) for f in fields(kind)}}
    try:
        check_config(whole, table)
    except ValueError as error:
        raise EdgeSdkError(str(error)) from error
    return {name: _frozen(value) for name, value in entries.items()}


def _listed(value: Any) -> Any:
    """Tuples, which Python has, as lists, which JSON has."""
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list | tuple) else value


def _values(value: Any) -> list[Any]:
    """A value, or all that are in a list and in the lists of it."""
    return [one for each in value for one in _values(each)] if isinstance(value, list | tuple) else [value]


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _integers(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int):
        yield name, value


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
