"""What configs of diffusers and transformers may say, entry by entry.

Every entry of a class is here. It is computed as it says, or accepted at its neutral value only, or has no effect on
what is computed here (`ANY`). The values of entries that a config leaves out are diffusers' own, see `DEFAULTS`.
"""

from dataclasses import dataclass
from typing import Any

from edge_sdk.system.schema import Either, Many, Real, Whole

MOST_BLOCKS = 16
ANY = object  # no effect, such as what only training or another sampler reads
SIZE, COUNT, HEADS, GROUPS = Whole(1, 1 << 20), Whole(1, 1024), Whole(1, 1024), Whole(1, 1024)
EPSILON, SIDE = Real(0, 1), Whole(1, 4096)
PREDICTIONS = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
MOST_TIMESTEPS = 100_000
OFF, SILU = Either((False,), None), ("silu", "swish")
_SWITCH = Either(bool, None)
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
        is_open: other entries are left alone. Configs of transformers hold whatever attribute an object had.
    """

    entries: dict[str, Any]
    counts: tuple[str, ...] = ()
    per_block: tuple[str, ...] = ()
    divisors: tuple[tuple[str, str], ...] = ()
    sizes: tuple[str, ...] = ()
    is_open: bool = False


_BLOCKS = ("block_out_channels", "down_block_types", "up_block_types")
_GROUPS = ("norm_num_groups", "block_out_channels")
# Of diffusers' UNet2DConditionModel and AutoencoderKL, and of transformers' CLIPTextConfig.
DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "latent_channels": 4,
    "cross_attention_dim": 1280,
    "hidden_size": 512,
}
# Entries that other programs write into configs: of averaged weights (diffusers' EMAModel), of transformers, and names
# of code to load, which is never loaded.
FOREIGN = frozenset(
    {
        "architectures",
        "attn_implementation",
        "auto_map",
        "custom_pipeline",
        "decay",
        "dtype",
        "inv_gamma",
        "min_decay",
        "model_type",
        "optimization_step",
        "power",
        "quantization_config",  # see `check_config`
        "torch_dtype",
        "transformers_version",
        "trust_remote_code",
        "update_after_step",
        "use_ema_warmup",
    }
)

# diffusers' classes as the library itself builds them, which is more various than what this package builds.
_UNET_2D_CONDITION = {
    "sample_size": _SIDES,
    "in_channels": SIZE,
    "out_channels": SIZE,
    "center_input_sample": _SWITCH,
    "flip_sin_to_cos": bool,
    "freq_shift": Whole(0, 1),
    "down_block_types": _NAMES,
    "mid_block_type": Either(str, None),
    "up_block_types": _NAMES,
    "only_cross_attention": Either(bool, Many(bool, 1, MOST_BLOCKS)),
    "block_out_channels": _CHANNELS,
    "layers_per_block": Either(COUNT, Many(COUNT, 1, MOST_BLOCKS)),
    "downsample_padding": Whole(0, 1),
    "mid_block_scale_factor": Real(1e-3, 1e3),
    "dropout": Real(0, 1),
    "act_fn": str,
    "norm_num_groups": Either(GROUPS, None),
    "norm_eps": EPSILON,
    "cross_attention_dim": Either(SIZE, Many(SIZE, 1, MOST_BLOCKS)),
    "transformer_layers_per_block": Either(_DEPTH, _DEPTHS),
    "reverse_transformer_layers_per_block": Either(_DEPTHS, None),
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "attention_head_dim": Either(HEADS, Many(HEADS, 1, MOST_BLOCKS)),
    "num_attention_heads": Either(HEADS, Many(HEADS, 1, MOST_BLOCKS), None),
    "dual_cross_attention": _SWITCH,
    "use_linear_projection": bool,
    "class_embed_type": None,
    "addition_embed_type": Either(str, None),
    "addition_time_embed_dim": Either(SIZE, None),
    "num_class_embeds": None,
    "upcast_attention": _SWITCH,
    "resnet_time_scale_shift": str,
    "resnet_skip_time_act": _SWITCH,
    "resnet_out_scale_factor": Real(1e-3, 1e3),
    "time_embedding_type": str,
    "time_embedding_dim": Either(SIZE, None),
    "time_embedding_act_fn": Either(str, None),
    "timestep_post_act": Either(str, None),
    "time_cond_proj_dim": None,
    "conv_in_kernel": Whole(1, 15),
    "conv_out_kernel": Whole(1, 15),
    "projection_class_embeddings_input_dim": Either(SIZE, None),
    "attention_type": ("default",),
    "class_embeddings_concat": _SWITCH,
    "mid_block_only_cross_attention": _SWITCH,
    "cross_attention_norm": Either(str, None),
    "addition_embed_type_num_heads": ANY,
}
_AUTOENCODER_KL = {
    "in_channels": (3,),
    "out_channels": (3,),
    "down_block_types": _NAMES,
    "up_block_types": _NAMES,
    "block_out_channels": _CHANNELS,
    "layers_per_block": COUNT,
    "act_fn": str,
    "latent_channels": SIZE,
    "norm_num_groups": GROUPS,
    "sample_size": ANY,
    "scaling_factor": Real(1e-6, 1e6),
    "shift_factor": Either(Real(-1e6, 1e6), None),
    "latents_mean": Either(Many((0,)), None),  # of every channel, another scale than `scaling_factor`
    "latents_std": Either(Many((1,)), None),
    "force_upcast": ANY,
    "use_quant_conv": bool,
    "use_post_quant_conv": bool,
    "mid_block_add_attention": bool,
}

# The networks that this package builds itself.
UNET = Table(
    _UNET_2D_CONDITION
    | {
        "center_input_sample": OFF,
        "flip_sin_to_cos": (True,),
        "freq_shift": (0,),
        "down_block_types": Many(("DownBlock2D", "CrossAttnDownBlock2D"), 1, MOST_BLOCKS),
        "mid_block_type": Either(("UNetMidBlock2DCrossAttn", "UNetMidBlock2D"), None),
        "up_block_types": Many(("UpBlock2D", "CrossAttnUpBlock2D"), 1, MOST_BLOCKS),
        "downsample_padding": (1,),
        "mid_block_scale_factor": (1,),
        "act_fn": SILU,
        "norm_num_groups": GROUPS,
        "num_attention_heads": None,
        "dual_cross_attention": OFF,
        "addition_embed_type": Either(("text_time",), None),
        "resnet_time_scale_shift": ("default",),
        "resnet_skip_time_act": OFF,
        "resnet_out_scale_factor": (1,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "conv_in_kernel": Either((3,), Many((3,), 2, 2)),
        "conv_out_kernel": Either((3,), Many((3,), 2, 2)),
        "class_embeddings_concat": ANY,  # there is no class
        "mid_block_only_cross_attention": ANY,  # of another middle block only
        "cross_attention_norm": None,
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
    _AUTOENCODER_KL
    | {
        "down_block_types": Many(("DownEncoderBlock2D",), 1, MOST_BLOCKS),
        "up_block_types": Many(("UpDecoderBlock2D",), 1, MOST_BLOCKS),
        "act_fn": SILU,
    },
    counts=("layers_per_block",),
    per_block=_BLOCKS,
    divisors=(_GROUPS,),
)
CLIP = Table(
    {
        "model_type": ("clip_text_model", "clip"),
        "vocab_size": SIZE,
        "hidden_size": SIZE,
        "intermediate_size": SIZE,
        "num_hidden_layers": COUNT,
        "num_attention_heads": HEADS,
        "max_position_embeddings": Whole(3, 4096),
        "layer_norm_eps": EPSILON,
        "hidden_act": ("quick_gelu", "gelu"),
        "projection_dim": SIZE,
    },
    counts=("num_hidden_layers",),
    divisors=(("num_attention_heads", "hidden_size"),),
    sizes=("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"),
    is_open=True,
)
TABLES = {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": CLIP}

# The networks that a library builds, by the library's name of the class.
LIBRARY_TABLES = {
    "UNet2DModel": Table(
        {
            "sample_size": _SIDES,
            "in_channels": SIZE,
            "out_channels": SIZE,
            "center_input_sample": _SWITCH,
            "time_embedding_type": ("positional", "learned"),
            "time_embedding_dim": Either(SIZE, None),
            "freq_shift": Whole(0, 1),
            "flip_sin_to_cos": bool,
            "down_block_types": _NAMES,
            "mid_block_type": Either(str, None),
            "up_block_types": _NAMES,
            "block_out_channels": _CHANNELS,
            "layers_per_block": COUNT,
            "mid_block_scale_factor": Real(1e-3, 1e3),
            "downsample_padding": Whole(0, 1),
            "downsample_type": str,
            "upsample_type": str,
            "dropout": Real(0, 1),
            "act_fn": str,
            "attention_head_dim": Either(HEADS, None),
            "norm_num_groups": GROUPS,
            "attn_norm_num_groups": Either(GROUPS, None),
            "norm_eps": EPSILON,
            "resnet_time_scale_shift": str,
            "add_attention": bool,
            "class_embed_type": None,
            "num_class_embeds": None,
            "num_train_timesteps": Either(Whole(1, MOST_TIMESTEPS), None),
        },
        counts=("layers_per_block",),
        per_block=_BLOCKS,
        divisors=(_GROUPS,),
        sizes=("in_channels", "out_channels", "block_out_channels", "time_embedding_dim"),
    ),
    "UNet2DConditionModel": Table(
        _UNET_2D_CONDITION,
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
    "AutoencoderKL": Table(
        _AUTOENCODER_KL, VAE.counts, VAE.per_block, VAE.divisors, ("in_channels", "block_out_channels")
    ),
    "CLIPTextModel": CLIP,
    "CLIPTextModelWithProjection": CLIP,
    "T5EncoderModel": Table(
        {
            "model_type": ("t5",),
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
        is_open=True,
    ),
}
