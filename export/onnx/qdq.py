"""The operations of `export.ops` for a processor of integers, in operators that Qualcomm's provider has.

A layer is a convolution with int8 weights, symmetric, a scale for each output channel, and an int32 bias. The provider
takes such scales for convolutions only. A linear layer is one of 1 x 1 over its tokens.
"""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.onnx.rounding import LEVELS, RoundedOps, step_of
from edge_sdk.export.ops import Value
from edge_sdk.export.weights import TABLE

MASKED = 12.0  # so far below the least score a probability is less than half a step
MOST_SCORES = 1 << 23  # of a row's attention at once; where there are more, each head is by itself
EMBEDDING = "embedding"  # the place of words and learned vectors


class QdqOps(RoundedOps):
    """One graph in the making, see `RoundedOps`."""

    # operations with weights
    def linear(self, x: Value, layer: str) -> Value:
        *outer, k = self.shape(x)
        n = len(self._weights(self._part).layer(layer).matrix)
        x = self.transpose(self.reshape(x, (outer[0], 1, -1, k)), (0, 3, 1, 2))  # (B, K, 1, S)
        y = self._layer(x, layer, stride=1, pads=(0, 0, 0, 0))
        return self.reshape(self.transpose(y, (0, 2, 3, 1)), (*outer, n))

    def conv(
        self, x: Value, layer: str, size: tuple[int, int], stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1)
    ) -> Value:
        return self._layer(x, layer, stride, pads)

    def _layer(self, x: Value, layer: str, stride: int, pads: Sequence[int]) -> Value:
        weights, key = self._weights(self._part).layer(layer), f"{self._part}.{layer}"
        if weights.bits != 8 or weights.scale is None:
            raise EdgeSdkError(f"{key} has weights of {weights.bits} bits; the target qnn takes --weights int8 only")
        x = self._integers(x)
        w = self._stored(f"{key}.w", lambda: weights.as_picture(weights.matrix))
        inputs = [x, self._unpack(w, self._given(f"{key}.scale", weights.scale), f"{key}.kernel", axis=0)]
        if weights.bias is not None:
            inputs.append(self._bias(key, x, weights.bias, weights.scale))
        return self._node("Conv", inputs, kernel_shape=weights.kernel, strides=[stride] * 2, pads=list(pads))

    def _bias(self, key: str, x: Value, bias: np.ndarray, scales: np.ndarray) -> Value:
        if x not in self._steps:
            return self._given(f"{key}.bias", bias)
        scale = (self._steps[x][0] * scales).astype(np.float32)
        scale = np.maximum(scale, np.abs(bias) / np.float32(2**30)).astype(np.float32)  # of a row of zeros
        integers = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
        stored, steps = self._given(f"{key}.bias.i32", integers), self._given(f"{key}.bias.scale", scale)
        return self._unpack(stored, steps, f"{key}.bias.float", axis=0)

    def layer_norm(self, x: Value, layer: str, eps: float) -> Value:
        weight, bias = (self.weight(f"{layer}.{name}") for name in ("weight", "bias"))
        ones = self._exact(np.ones(self.shape(weight), np.uint8))
        return self.add(self.mul(self._node("LayerNormalization", [x, ones], axis=-1, epsilon=eps), weight), bias)

    def group_norm(self, x: Value, layer: str, size: tuple[int, int], groups: int, eps: float) -> Value:
        shape, kinds = self.shape(x), (np.ones(groups, np.uint8), np.zeros(groups, np.int32))
        flat = self.reshape(x, (shape[0], groups, -1))
        x = self._node("InstanceNormalization", [flat, *(self._exact(each) for each in kinds)], epsilon=eps)
        weight, bias = (self._column(f"{layer}.{name}") for name in ("weight", "bias"))
        return self.add(self.mul(self.reshape(x, shape), weight), bias)

    def token_embedding(self, ids: Value, learned: Value | None) -> Value:
        table = self._stored(f"{self._part}.{TABLE}", lambda: self._weights(self._part).table())
        zero, first = (self._plain(np.array(one, np.int64)) for one in (0, self.shape(table)[0]))
        is_new = self._add("GreaterOrEqual", [ids, first])
        known = self._add("Gather", [table, self._add("Where", [is_new, zero, ids])])
        known = self._rounded(self._add("Cast", [known], to=TensorProto.FLOAT), EMBEDDING)
        if learned is None:
            return known
        new = self._add("Gather", [learned, self._add("Where", [is_new, self._add("Sub", [ids, first]), zero])])
        is_new = self._add("Unsqueeze", [is_new, self._axes(-1)])
        return self._like(self._add("Where", [is_new, self._like(new, learned), known]), known)

    def rows_of(self, table: np.ndarray, index: Value) -> Value:
        return self._node("Gather", [self._fixed(f"table.{table.ndim}.{float(table.sum()):.9g}", table), index])

    # operations without weights
    def silu(self, x: Value) -> Value:
        return self.mul(x, self._node("Sigmoid", [x]))

    def quick_gelu(self, x: Value) -> Value:
        return self.mul(x, self._node("Sigmoid", [self.mul(x, self.constant(np.array(1.702, np.float32)))]))

    def clip(self, x: Value, low: float, high: float) -> Value:
        return self._node("Clip", [x, *(self._plain(np.array(limit, np.float32)) for limit in (low, high))])

    def upsample(self, x: Value, size: tuple[int, int], to: tuple[int, int]) -> Value:
        scales = self._plain(np.array([1, 1, to[0] / size[0], to[1] / size[1]], np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self._node("Resize", [x, "", scales], mode="nearest", **how)

    def attention(self, q: Value, k: Value, v: Value, heads: int, causal: bool = False) -> Value:
        """With all scores (B, H, S, T): the provider has no fused attention."""
        (_, s, width), t = self.shape(q), self.shape(k)[1]
        q = self.mul(q, self.constant(np.array((width // heads) ** -0.5, np.float32)))
        orders = ((q, (0, 2, 1, 3)), (k, (0, 2, 3, 1)), (v, (0, 2, 1, 3)))
        q, k, v = (self.transpose(self.reshape(x, (0, 0, heads, -1)), order) for x, order in orders)
        k, v = self._narrow(k), self._narrow(v)
        if heads == 1 or heads * s * t <= MOST_SCORES:
            out = self._attend(q, k, v, causal)
        else:
            each = zip(*(self.split(x, [1] * heads, 1) for x in (q, k, v)), strict=True)
            out = self.concat([self._attend(q, k, v, causal) for q, k, v in each], 1)
        return self.reshape(self.transpose(out, (0, 2, 1, 3)), (0, 0, -1))

    def _attend(self, q: Value, k: Value, v: Value, causal: bool) -> Value:
        scores = self._node("MatMul", [q, k])
        if causal:
            scores = self._masked(scores)
        return self._node("MatMul", [self._node("Softmax", [scores], axis=-1), v])

    def _masked(self, scores: Value) -> Value:
        """Scores of what comes later, far below all others."""
        later = self._plain(np.triu(np.ones(self.shape(scores)[-2:], bool), 1))
        if self._ranges is None:
            return self._add("Where", [later, self._plain(np.array(-1e9, np.float32)), scores])
        low, high = self._ranges[f"{self._part}.{self._count}"]  # of the scores
        masked = self._add("Where", [later, self.constant(np.array(low - MASKED, np.float32)), scores])
        bounds = (low - MASKED, high)
        return self._halved(masked, bounds) if self._is_half("") else self._written(masked, step_of(bounds))

    def _narrow(self, x: Value) -> Value:
        """Keys and values in the recipe's bits."""
        if self._recipe.keys == 16 or x not in self._steps:
            return x
        scale, zero = self._steps[x]
        low = -zero * float(scale)
        return self._written(x, step_of((low, low + LEVELS * float(scale)), 255), np.uint8)

    def first_of(self, ids: Value, wanted: int, x: Value) -> Value:
        raise EdgeSdkError("the target qnn is for models with one text encoder; export SDXL without --target")
