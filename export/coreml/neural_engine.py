"""The operations of `edge_sdk.export.ops` as Apple's Neural Engine takes them best: float16, channels first.

The layouts are those of Apple's published work ("Deploying Transformers on the Apple Neural Engine", 2022, and
ml-stable-diffusion): a sequence lies as (B, C, 1, S), a matrix product is a 1 x 1 convolution, every head of attention
is a product of its own (``einsum`` of the two forms that Core ML has), and long queries are taken in chunks. Nothing
has a size that is not known.

Everything computes in float16 but what meets an input or an output in float32: the noised latents, the residual and
the loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sdk.export.coreml.ops import MASKED, MilOps, mb, types
from edge_sdk.export.coreml.scratch import Scratch
from edge_sdk.export.ops import Value
from edge_sdk.export.weights import Weights

CHUNK = 512  # queries of one head at a time, so that scores are at most (B, T, 1, CHUNK)
PRODUCT = "nchw,nwhu->nchu"  # a form of einsum that Core ML has as one operation


@dataclass(frozen=True)
class Sequences:
    """Sequences that lie as (B, C, 1, S).

    Attributes:
        as_tokens: they stand for tokens (B, S, C); else for (B, C, S), so transposing moves nothing.
    """

    laid: Value
    as_tokens: bool = True


class NeuralEngineOps(MilOps):
    """A function in the layouts above; see `MilOps`. Values are MIL variables or `Sequences`."""

    def __init__(self, weights: Callable[[str], Weights], scratch: Scratch) -> None:
        super().__init__(weights, scratch, "float16")

    def _taken(self, x: Value) -> Value:
        return x

    def _result(self, x: Value) -> Value:
        return super()._result(self._plain(x))

    # layouts
    def _laid(self, x: Value) -> Value:
        """Tokens as they lie, (B, C, 1, S) float16."""
        if isinstance(x, Sequences):
            return x.laid
        if (x, "laid") not in self._known:
            columns = mb.transpose(x=self._cast(x, "fp16"), perm=[0, 2, 1])
            self._known[x, "laid"] = mb.expand_dims(x=columns, axes=[2])
        return self._known[x, "laid"]

    def _plain(self, x: Value) -> Value:
        """Tokens as (B, S, C), and whatever else as it is."""
        if not isinstance(x, Sequences):
            return x
        rows, channels, _, length = x.laid.shape
        flat = mb.reshape(x=x.laid, shape=[rows, channels, length])
        return mb.transpose(x=flat, perm=[0, 2, 1]) if x.as_tokens else flat

    def _each(self, operation: Callable[..., Value], *values: Value) -> Value:
        """An operation on every element: on sequences as they lie, else in float32 if one of the values is."""
        if any(isinstance(x, Sequences) for x in values):
            return Sequences(operation(*(self._laid(x) for x in values)))
        wide = any(types.builtin_to_string(x.dtype) == "fp32" for x in values)
        return operation(*(self._cast(x, "fp32" if wide else "fp16") for x in values))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if isinstance(x, Sequences):  # (B, C, S) to a picture
            return super().reshape(x.laid, (0, 0, *shape[2:]))
        if tuple(shape) == (0, 0, -1) and len(x.shape) == 4:
            return Sequences(mb.reshape(x=x, shape=[*x.shape[:2], 1, -1]), as_tokens=False)
        return super().reshape(x, shape)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        if isinstance(x, Sequences) and tuple(order) == (0, 2, 1):
            return Sequences(x.laid, not x.as_tokens)
        return super().transpose(x, order)

    # weights
    def constant(self, array: np.ndarray) -> Value:
        return self._const(array, "fp32")

    def weight(self, name: str) -> Value:
        """A float tensor (S, C) of the part, as tokens."""
        get = self._weights(self._part).tensor
        return Sequences(self._stored(f"{name}.laid", lambda: self._const(get(name).T[None, :, None], "fp16")))

    def token_embedding(self, ids: Value, learned: Value | None) -> Value:
        known = super().token_embedding(ids, None if learned is None else self._cast(learned, "fp16"))
        return Sequences(self._laid(known))

    def linear(self, x: Value, layer: str) -> Value:
        if isinstance(x, Sequences) or len(x.shape) == 3:
            return Sequences(self._product(self._laid(x), layer))
        made = self._product(mb.reshape(x=self._cast(x, "fp16"), shape=[*x.shape, 1, 1]), layer)
        return mb.reshape(x=made, shape=made.shape[:2])

    def _product(self, x: Value, layer: str) -> Value:
        return self.conv(x, layer, (1, 1), pads=(0, 0, 0, 0))

    def layer_norm(self, x: Value, layer: str, eps: float) -> Value:
        gamma, beta = (self._of_channels(f"{layer}.{name}", (-1,)) for name in ("weight", "bias"))
        return Sequences(mb.layer_norm(x=self._laid(x), axes=[1], gamma=gamma, beta=beta, epsilon=np.float16(eps)))

    def group_norm(self, x: Value, layer: str, size: tuple[int, int], groups: int, eps: float) -> Value:
        rows, channels = x.shape[:2]
        grouped = mb.reshape(x=x, shape=[rows, groups, channels // groups, -1])
        normed = mb.reshape(x=mb.instance_norm(x=grouped, epsilon=np.float16(eps)), shape=x.shape)
        gamma, beta = (self._of_channels(f"{layer}.{name}", (1, -1, 1, 1)) for name in ("weight", "bias"))
        return mb.add(x=mb.mul(x=normed, y=gamma), y=beta)

    def _of_channels(self, name: str, shape: tuple[int, ...]) -> Value:
        get = self._weights(self._part).tensor
        return self._stored(f"{name}.{len(shape)}", lambda: self._const(get(name).reshape(shape), "fp16"))

    # without weights
    def add(self, x: Value, y: Value) -> Value:
        return self._each(super().add, x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self._each(super().sub, x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self._each(super().mul, x, y)

    def silu(self, x: Value) -> Value:
        return self._each(super().silu, x)

    def gelu(self, x: Value) -> Value:
        return self._each(super().gelu, x)

    def quick_gelu(self, x: Value) -> Value:
        return self._each(lambda x: mb.mul(x=x, y=mb.sigmoid(x=mb.mul(x=x, y=np.float16(1.702)))), x)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        if isinstance(values[0], Sequences) and axis == 2:
            return Sequences(super().concat([self._laid(x) for x in values], 1))
        return self._each(lambda *alike: super(NeuralEngineOps, self).concat(alike, axis), *values)

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
        if isinstance(x, Sequences) and axis == 2:
            return [Sequences(part) for part in super().split(x.laid, sizes, 1)]
        return super().split(x, sizes, axis)

    def attention(self, q: Value, k: Value, v: Value, heads: int, causal: bool = False) -> Value:
        """One head after the other, softmax over the keys as channels (B, T, 1, S)."""
        query, key, value = (self._laid(x) for x in (q, k, v))
        length = query.shape[3]
        scale = np.float16((query.shape[1] // heads) ** -0.5)
        keys = _parts(mb.transpose(x=key, perm=[0, 3, 2, 1]), heads, 3)  # (B, T, 1, C / heads) each
        masks = self._masks(length) if causal else [None] * -(-length // CHUNK)
        attended = []
        for of_query, of_key, of_value in zip(_parts(query, heads, 1), keys, _parts(value, heads, 1), strict=True):
            chunks = []
            for chunk, mask in zip(_chunks(of_query), masks, strict=True):
                scores = mb.mul(x=mb.einsum(values=(of_key, chunk), equation=PRODUCT), y=scale)
                shares = mb.softmax(x=scores if mask is None else mb.add(x=scores, y=mask), axis=1)
                chunks.append(mb.einsum(values=(of_value, shares), equation=PRODUCT))
            attended.append(_joined(chunks, 3))
        return Sequences(_joined(attended, 1))

    def _masks(self, length: int) -> list[Value]:
        """What is added to scores (B, T, 1, S) of keys after the query, a chunk of queries each."""
        later = np.tril(np.full((length, length), MASKED, np.float32), -1)[None, :, None]
        return [self._mask(f"mask.{length}.{i}", later[..., i : i + CHUNK]) for i in range(0, length, CHUNK)]

    def _mask(self, name: str, values: np.ndarray) -> Value:
        return self._stored(name, lambda: self._const(values, "fp16"))

    def first_of(self, ids: Value, wanted: int, x: Value) -> Value:
        return super().first_of(ids, wanted, self._plain(x))


def _parts(x: Value, count: int, axis: int) -> list[Value]:
    return [x] if count == 1 else list(mb.split(x=x, num_splits=count, axis=axis))


def _chunks(x: Value) -> list[Value]:
    length = x.shape[3]
    if length <= CHUNK:
        return [x]
    return list(mb.split(x=x, split_sizes=[min(CHUNK, length - start) for start in range(0, length, CHUNK)], axis=3))


def _joined(parts: list[Any], axis: int) -> Value:
    return parts[0] if len(parts) == 1 else mb.concat(values=parts, axis=axis)
