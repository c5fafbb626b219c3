"""The networks of Stable Diffusion 1.x, 2.x and XL, written once in the operations of `ops.py`.

The modules of `edge_sdk.diffusion` compute the same; a test compares the two for every family. Layers have the names
of diffusers' and transformers' checkpoints.
"""

import math
from collections.abc import Sequence

import numpy as np

from edge_sdk.diffusion.networks.clip import ClipConfig
from edge_sdk.diffusion.networks.unet_config import BlockConfig, UNetConfig
from edge_sdk.diffusion.networks.vae import VaeConfig
from edge_sdk.export.ops import Ops, Value

Size = tuple[int, int]


def text_encoder(
    ops: Ops, config: ClipConfig, ids: Value, learned: Value | None, skip_last: bool = False, end: int | None = None
) -> tuple[Value, Value | None]:
    """Hidden states (B, T, D) and, where ``end`` is the id of the end of text, the projected state of that token.

    See `edge_sdk.diffusion.networks.clip.ClipText`: with ``skip_last`` the states before the last layer, without the
    final norm.
    """
    x = ops.add(ops.token_embedding(ids, learned), ops.weight("embeddings.position_embedding.weight"))
    count = config.num_hidden_layers
    for i in range(count - 1 if skip_last else count):
        x = _clip_layer(ops, config, x, f"encoder.layers.{i}")
    hidden = x if skip_last else ops.layer_norm(x, "final_layer_norm", config.layer_norm_eps)
    if end is None:
        return hidden, None
    last = _clip_layer(ops, config, x, f"encoder.layers.{count - 1}")
    last = ops.first_of(ids, end, ops.layer_norm(last, "final_layer_norm", config.layer_norm_eps))
    return hidden, ops.linear(last, "text_projection")


def _clip_layer(ops: Ops, config: ClipConfig, x: Value, name: str) -> Value:
    normed = ops.layer_norm(x, f"{name}.layer_norm1", config.layer_norm_eps)
    q, k, v = (ops.linear(normed, f"{name}.self_attn.{part}_proj") for part in "qkv")
    attended = ops.attention(q, k, v, config.num_attention_heads, causal=True)
    x = ops.add(x, ops.linear(attended, f"{name}.self_attn.out_proj"))
    hidden = ops.linear(ops.layer_norm(x, f"{name}.layer_norm2", config.layer_norm_eps), f"{name}.mlp.fc1")
    hidden = ops.quick_gelu(hidden) if config.hidden_act == "quick_gelu" else ops.gelu(hidden)
    return ops.add(x, ops.linear(hidden, f"{name}.mlp.fc2"))


def unet(
    ops: Ops,
    config: UNetConfig,
    sample: Value,
    size: Size,
    time: Value,
    context: Value,
    added: tuple[Value, Value] | None = None,
) -> Value:
    """What the model predicts (B, C, *size).

    Args:
        time: (B, C0) sinusoids of the timestep, see `sinusoids`.
        context: (B, T, D) text states.
        added: SDXL only, pooled text (B, P) and sizes (B, 6).
    """
    emb = _time_embedding(ops, "time_embedding", time)
    if added is not None:
        pooled, sizes = added
        features = ops.reshape(_sinusoids_of(ops, sizes, config.addition_time_embed_dim or 0), (0, -1))
        emb = ops.add(emb, _time_embedding(ops, "add_embedding", ops.concat([pooled, features], 1)))
    emb = ops.silu(emb)

    def resnet(name: str, x: Value, at: Size, shortcut: bool) -> Value:
        return _resnet(ops, name, x, at, config.norm_num_groups, config.norm_eps, shortcut, emb)

    def attend(name: str, x: Value, at: Size, block: BlockConfig, depth: int | None) -> Value:
        return x if depth is None else _transformer(ops, config, name, x, at, context, block, depth)

    x, before = ops.conv(sample, "conv_in", size), config.block_out_channels[0]
    skips, at, sizes_at, levels = [x], size, [size], len(config.down_blocks)
    for i, block in enumerate(config.down_blocks):
        name = f"down_blocks.{i}"
        for j, depth in enumerate(block.depths):
            x = resnet(f"{name}.resnets.{j}", x, at, before != block.channels)
            x = attend(f"{name}.attentions.{j}", x, at, block, depth)
            before = block.channels
            skips.append(x)
        if i < levels - 1:
            x = ops.conv(x, f"{name}.downsamplers.0.conv", at, stride=2)
            at = ((at[0] + 1) // 2, (at[1] + 1) // 2)
            sizes_at.append(at)
            skips.append(x)
    if (middle := config.mid_block) is not None:
        for j, depth in enumerate(middle.depths):
            x = resnet(f"mid_block.resnets.{j}", x, at, False)
            x = attend(f"mid_block.attentions.{j}", x, at, middle, depth)
    for i, block in enumerate(config.up_blocks):
        name = f"up_blocks.{i}"
        for j, depth in enumerate(block.depths):
            x = resnet(f"{name}.resnets.{j}", ops.concat([x, skips.pop()], 1), at, True)
            x = attend(f"{name}.attentions.{j}", x, at, block, depth)
        if i < levels - 1:
            x = ops.upsample(x, at, sizes_at[levels - 2 - i])
            at = sizes_at[levels - 2 - i]
            x = ops.conv(x, f"{name}.upsamplers.0.conv", at)
    x = ops.silu(ops.group_norm(x, "conv_norm_out", at, config.norm_num_groups, config.norm_eps))
    return ops.conv(x, "conv_out", at)


def _time_embedding(ops: Ops, name: str, x: Value) -> Value:
    return ops.linear(ops.silu(ops.linear(x, f"{name}.linear_1")), f"{name}.linear_2")


def _resnet(
    ops: Ops, name: str, x: Value, size: Size, groups: int, eps: float, shortcut: bool, emb: Value | None = None
) -> Value:
    hidden = ops.silu(ops.group_norm(x, f"{name}.norm1", size, groups, eps))
    hidden = ops.conv(hidden, f"{name}.conv1", size)
    if emb is not None:
        hidden = ops.add(hidden, ops.reshape(ops.linear(emb, f"{name}.time_emb_proj"), (0, -1, 1, 1)))
    hidden = ops.silu(ops.group_norm(hidden, f"{name}.norm2", size, groups, eps))
    hidden = ops.conv(hidden, f"{name}.conv2", size)
    return ops.add(hidden, ops.conv(x, f"{name}.conv_shortcut", size, pads=(0, 0, 0, 0)) if shortcut else x)


def _tokens(ops: Ops, x: Value) -> Value:
    """(B, C, h, w) -> (B, h w, C)."""
    return ops.transpose(ops.reshape(x, (0, 0, -1)), (0, 2, 1))


def _picture(ops: Ops, x: Value, size: Size) -> Value:
    """(B, h w, C) -> (B, C, h, w)."""
    return ops.reshape(ops.transpose(x, (0, 2, 1)), (0, 0, *size))


def _transformer(
    ops: Ops, config: UNetConfig, name: str, x: Value, size: Size, context: Value, block: BlockConfig, depth: int
) -> Value:
    normed = ops.group_norm(x, f"{name}.norm", size, config.norm_num_groups, 1e-6)
    hidden = ops.linear(_tokens(ops, normed), f"{name}.proj_in")  # a 1 x 1 convolution is the same product
    for i in range(depth):
        hidden = _transformer_block(ops, f"{name}.transformer_blocks.{i}", hidden, context, block)
    return ops.add(_picture(ops, ops.linear(hidden, f"{name}.proj_out"), size), x)


def _transformer_block(ops: Ops, name: str, x: Value, context: Value, block: BlockConfig) -> Value:
    for k, seen in (("1", context if block.only_cross else None), ("2", context)):
        normed = ops.layer_norm(x, f"{name}.norm{k}", 1e-5)
        x = ops.add(_attention(ops, f"{name}.attn{k}", normed, normed if seen is None else seen, block.heads), x)
    gated = ops.linear(ops.layer_norm(x, f"{name}.norm3", 1e-5), f"{name}.ff.net.0.proj")
    value, gate = ops.split(gated, [-1, -1], 2)
    return ops.add(ops.linear(ops.mul(value, ops.gelu(gate)), f"{name}.ff.net.2"), x)


def _attention(ops: Ops, name: str, x: Value, seen: Value, heads: int) -> Value:
    q, k, v = ops.linear(x, f"{name}.to_q"), ops.linear(seen, f"{name}.to_k"), ops.linear(seen, f"{name}.to_v")
    return ops.linear(ops.attention(q, k, v, heads), f"{name}.to_out.0")


def vae_encoder(ops: Ops, config: VaeConfig, pixels: Value, size: Size) -> tuple[Value, Value]:
    """Pictures (B, 3, *size) in [-1, 1] -> mean and standard deviation of their latents, scaled as the denoiser's."""
    channels = config.block_out_channels
    x, before, at = ops.conv(pixels, "encoder.conv_in", size), channels[0], size
    for i, outer in enumerate(channels):
        for j in range(config.layers_per_block):
            x = _vae_resnet(ops, config, f"encoder.down_blocks.{i}.resnets.{j}", x, at, before != outer)
            before = outer
        if i < len(channels) - 1:
            x = ops.conv(x, f"encoder.down_blocks.{i}.downsamplers.0.conv", at, stride=2, pads=(0, 0, 1, 1))
            at = (at[0] // 2, at[1] // 2)
    x = _vae_middle(ops, config, "encoder.mid_block", x, at)
    x = ops.silu(ops.group_norm(x, "encoder.conv_norm_out", at, config.norm_num_groups, 1e-6))
    x = ops.conv(x, "encoder.conv_out", at)
    if config.use_quant_conv:
        x = ops.conv(x, "quant_conv", at, pads=(0, 0, 0, 0))
    mean, log_variance = ops.split(x, [config.latent_channels] * 2, 1)
    std = ops.exp(ops.mul(ops.clip(log_variance, -30.0, 20.0), _number(ops, 0.5)))
    scale = _number(ops, config.scaling_factor)
    if config.shift_factor:
        mean = ops.sub(mean, _number(ops, config.shift_factor))
    return ops.mul(mean, scale), ops.mul(std, scale)


def vae_decoder(ops: Ops, config: VaeConfig, latents: Value, size: Size) -> Value:
    """Latents (B, C, *size) of the denoiser -> pictures (B, 3, H, W) in about [-1, 1]."""
    channels = config.block_out_channels[::-1]
    x = ops.mul(latents, _number(ops, 1 / config.scaling_factor))
    if config.shift_factor:
        x = ops.add(x, _number(ops, config.shift_factor))
    if config.use_post_quant_conv:
        x = ops.conv(x, "post_quant_conv", size, pads=(0, 0, 0, 0))
    x, before, at = ops.conv(x, "decoder.conv_in", size), channels[0], size
    x = _vae_middle(ops, config, "decoder.mid_block", x, at)
    for i, outer in enumerate(channels):
        for j in range(config.layers_per_block + 1):
            x = _vae_resnet(ops, config, f"decoder.up_blocks.{i}.resnets.{j}", x, at, before != outer)
            before = outer
        if i < len(channels) - 1:
            to = (2 * at[0], 2 * at[1])
            x, at = ops.upsample(x, at, to), to
            x = ops.conv(x, f"decoder.up_blocks.{i}.upsamplers.0.conv", at)
    x = ops.silu(ops.group_norm(x, "decoder.conv_norm_out", at, config.norm_num_groups, 1e-6))
    return ops.conv(x, "decoder.conv_out", at)


def _vae_resnet(ops: Ops, config: VaeConfig, name: str, x: Value, size: Size, shortcut: bool) -> Value:
    return _resnet(ops, name, x, size, config.norm_num_groups, 1e-6, shortcut)


def _vae_middle(ops: Ops, config: VaeConfig, name: str, x: Value, size: Size) -> Value:
    x = _vae_resnet(ops, config, f"{name}.resnets.0", x, size, False)
    if config.mid_block_add_attention:
        normed = _tokens(ops, ops.group_norm(x, f"{name}.attentions.0.group_norm", size, config.norm_num_groups, 1e-6))
        x = ops.add(_picture(ops, _attention(ops, f"{name}.attentions.0", normed, normed, 1), size), x)
    return _vae_resnet(ops, config, f"{name}.resnets.1", x, size, False)


def sinusoids(values: np.ndarray, size: int) -> np.ndarray:
    """values (N,) -> (N, size) float32, see `edge_sdk.diffusion.networks.timesteps.sinusoids`."""
    angles = values.astype(np.float32)[:, None] * _frequencies(size)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _frequencies(size: int) -> np.ndarray:
    return np.exp(np.float32(-math.log(10000) / (size // 2)) * np.arange(size // 2, dtype=np.float32))


def _sinusoids_of(ops: Ops, values: Value, size: int) -> Value:
    """values (B, N) of the graph -> (B, N, size)."""
    angles = ops.mul(ops.reshape(values, (0, -1, 1)), ops.constant(_frequencies(size)[None, None]))
    return ops.concat([ops.cos(angles), ops.sin(angles)], 2)


def _number(ops: Ops, value: float | Sequence[float]) -> Value:
    return ops.constant(np.asarray(value, np.float32))
