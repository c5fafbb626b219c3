"""`IntLinear` and `IntConv2d`: drop-in layers for inference with integer weights."""

from collections.abc import Callable
from math import prod
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization import activations, difference, gpu, kernels, native, quanto

FILL_ELEMENTS = 1 << 20  # float weights quantized together
WEIGHTS, EXECUTIONS = ("int8", "int4"), ("integer", "fused")


class _IntLayer(nn.Module):
    """An integer weight matrix and how to multiply with it.

    Buffers:
        q: int8 (N, K), or for int4 uint8 (N, K / 2) with two weights per byte.
        scale: (N,) float32, per output channel.
        zero, multiplier: int4 only, (N, G) int8; weight = scale * multiplier * (q - zero).
        bias: (N,) float32 or None.

    Attributes:
        weights: "int8" or "int4".
        execution: "integer" or "fused"; may be changed at any time.
        activation_bits: 16 or 8, for "integer"; 16 means 14 in some convolutions, see `kernels.conv_levels`.
    """

    q: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    multiplier: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, rows: int, columns: int, weights: str, execution: str, bias: bool, activation_bits: int = 16
    ) -> None:
        super().__init__()
        self.weights, self.execution, self.activation_bits = weights, execution, activation_bits
        packed = weights == "int4"
        shape = (rows, columns // 2) if packed else (rows, columns)
        self.register_buffer("q", torch.empty(shape, dtype=torch.uint8 if packed else torch.int8))
        self.register_buffer("scale", torch.empty(rows))
        if packed:
            groups = columns // quanto.group_size(columns)
            self.register_buffer("zero", torch.empty((rows, groups), dtype=torch.int8))
            self.register_buffer("multiplier", torch.empty((rows, groups), dtype=torch.int8))
        self.register_buffer("bias", torch.empty(rows) if bias else None)

    @property
    def elements(self) -> int:
        """How many weights the layer has."""
        return self.q.numel() * (2 if self.weights == "int4" else 1)

    def fill(self, read: Callable[[int, int], torch.Tensor], bias: torch.Tensor | None) -> None:
        """Quantize into the buffers, some rows at a time.

        Args:
            read: returns rows start..stop of the float layer's weight, (stop - start, ...).
        """
        count = self.q.shape[0]
        step = max(1, FILL_ELEMENTS // prod(self.float_shape[1:]))
        for start in range(0, count, step):
            stop = min(start + step, count)
            rows = self.as_matrix(read(start, stop))
            if self.weights == "int8":
                self.q[start:stop], self.scale[start:stop] = quanto.int8_weight(rows)
            else:
                q, self.zero[start:stop], self.multiplier[start:stop], self.scale[start:stop] = quanto.int4_weight(rows)
                self.q[start:stop] = kernels.pack_int4(q)
        if bias is not None:
            self.bias = bias.detach().float().clone()

    def take(self, integers: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Fill an int8 layer with existing integers, in the float layer's shape, and scales (N,)."""
        self.q.copy_(self.as_matrix(integers))
        self.scale.copy_(scale)
        if bias is not None:
            self.bias = bias.detach().float().clone()

    @property
    def float_shape(self) -> tuple[int, ...]:
        """The shape of the float weight that this layer replaces."""
        raise NotImplementedError

    def as_matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """Rows of the float layer's weight as rows of the matrix (n, K)."""
        return weight.flatten(1)

    @property
    def matrix(self) -> kernels.Matrix:
        """The weights with their scales and the bias, in the form that the products take."""
        if self.weights == "int8":
            return kernels.Matrix(self.q, self.scale, self.bias)
        return kernels.Matrix(self.q, self.scale, self.bias, self.zero, self.multiplier)


def backend(device: torch.device) -> ModuleType:
    """The module of the compiled integer products for a CPU or a GPU if there are any, else PyTorch's."""
    if device.type == "cpu" and native.library():
        return native
    return gpu if gpu.is_available(device) else kernels


class IntLinear(_IntLayer):
    """y = x W^T + b for x (..., K) float, one activation scale per row; `fused` converts one weight row or more."""

    def __init__(self, in_features: int, out_features: int, bias: bool, weights: str, execution: str) -> None:
        super().__init__(out_features, in_features, weights, execution, bias)
        self.in_features, self.out_features = in_features, out_features

    @property
    def float_shape(self) -> tuple[int, ...]:
        return self.out_features, self.in_features

    @classmethod
    def from_float(cls, layer: nn.Linear, weights: str, execution: str) -> "IntLinear":
        made = cls.empty_like(layer, weights, execution)
        made.fill(lambda start, stop: layer.weight[start:stop], layer.bias)
        return made

    @classmethod
    def empty_like(cls, layer: nn.Linear, weights: str, execution: str) -> "IntLinear":
        """The same shape with empty buffers, to be filled from a file."""
        return cls(layer.in_features, layer.out_features, layer.bias is not None, weights, execution)

    def forward(
        self,
        x: torch.Tensor,
        norm: nn.LayerNorm | None = None,
        gated: bool = False,
        out: torch.Tensor | None = None,
        added: bool = False,
    ) -> torch.Tensor:
        """The output for x, after the optional operations on x; compiled products fuse these without a new tensor.

        Args:
            norm: applied to x first.
            gated: x (..., 2 K) is K numbers and K gates; the layer's input is the numbers times the GELU of the gates.
            out: (..., N) float32, contiguous, to write to.
            added: add the output to ``out``.
        """
        compiled = backend(x.device) is native
        if self.execution == "integer" and difference.is_active():
            y = x.new_empty((*x.shape[:-1], self.out_features), dtype=torch.float32) if out is None else out
            difference.linear((self,), x, norm, gated, (y,), added, compiled)
            return y
        if self.execution == "integer" and compiled:
            flat = x.flatten(0, -2).float().contiguous()
            y = activations.empty((len(flat), self.out_features)) if out is None else out.view(-1, self.out_features)
            native.linear(flat, self.matrix, self.activation_bits, y, norm, gated, added)
            return out if out is not None else y.view(*x.shape[:-1], self.out_features).to(x.dtype)
        x = x if norm is None else norm(x)
        if gated:
            value, gate = x.chunk(2, dim=-1)
            x = F.gelu(gate).mul_(value)
        flat = x.reshape(-1, self.in_features).float()
        if self.execution == "integer":
            y = x.new_empty((len(flat), self.out_features), dtype=torch.float32)
            self.multiply(flat.contiguous(), self.activation_bits, y)
        else:
            y = self._fused(flat)
        y = y.view(*x.shape[:-1], self.out_features).to(x.dtype)
        if out is None:
            return y
        return out.add_(y) if added else out.copy_(y)

    def multiply(self, x: torch.Tensor, bits: int, out: torch.Tensor, added: bool = False, bias: bool = True) -> None:
        """out (M, N) = x W^T + bias in integers for x (M, K) float32, contiguous; with ``added``, out += that."""
        matrix = self.matrix if bias else difference.without_bias(self.matrix)
        if backend(x.device) is native:
            native.linear(x, matrix, bits, out, added=added)
        else:
            backend(x.device).linear(x, matrix, bits, y := torch.empty_like(out) if added else out)
            out = out.add_(y) if added else out

    def _fused(self, x: torch.Tensor) -> torch.Tensor:
        step = kernels.fused_tile_rows(self.out_features, self.in_features)
        y = torch.cat([F.linear(x, tile.float()) for _, tile in self.matrix.tiles(step)], dim=1).mul_(self.scale)
        return y if self.bias is None else y.add_(self.bias)


class IntConv2d(_IntLayer):
    """2-D convolution for x (B, C, H, W) float; activations get one scale per sample.

    The weight matrix has a row per output channel and columns in the order (kh, kw, C / groups).
    """

    def __init__(self, layer: nn.Conv2d, weights: str, execution: str) -> None:
        kernel, inner = layer.kernel_size, layer.in_channels // layer.groups
        if layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise EdgeSdkError(
                f"a convolution with dilation {layer.dilation} and padding {layer.padding} ({layer.padding_mode}) "
                "cannot be run on integer weights; supported are dilation 1 and numeric zero padding"
            )
        super().__init__(layer.out_channels, kernel[0] * kernel[1] * inner, weights, execution, layer.bias is not None)
        self.in_channels, self.out_channels, self.groups = layer.in_channels, layer.out_channels, layer.groups
        self.kernel_size: tuple[int, int] = (kernel[0], kernel[1])
        self.stride: tuple[int, int] = (layer.stride[0], layer.stride[1])
        self.padding: tuple[int, int] = (int(layer.padding[0]), int(layer.padding[1]))

    @property
    def float_shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @classmethod
    def from_float(cls, layer: nn.Conv2d, weights: str, execution: str) -> "IntConv2d":
        made = cls(layer, weights, execution)
        made.fill(lambda start, stop: layer.weight[start:stop], layer.bias)
        return made

    def as_matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.permute(0, 2, 3, 1).flatten(1)

    @classmethod
    def empty_like(cls, layer: nn.Conv2d, weights: str, execution: str) -> "IntConv2d":
        """The same shape with empty buffers, to be filled from a file."""
        return cls(layer, weights, execution)

    def forward(
        self,
        x: torch.Tensor,
        skip: torch.Tensor | None = None,
        norm: nn.GroupNorm | None = None,
        activated: bool = False,
        offsets: torch.Tensor | None = None,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output for x (B, C, H, W), after the optional operations; compiled products fuse these without a tensor.

        Args:
            skip: channels that follow those of x.
            norm: applied to the channels of both.
            activated: SiLU follows the norm.
            offsets: (B, C) float32, added to every pixel before the norm.
            out: (B, N, Ho, Wo) float32, channels last, to add the output to.
        """
        if self.execution == "integer" and difference.is_active():
            return difference.convolution(self, x, skip, norm, activated, offsets, out)
        if self.compiles(x):
            return self._compiled(x, skip, norm, activated, offsets, out)
        x = x if skip is None else torch.cat([x, skip], dim=1)
        x = x if offsets is None else x + offsets[:, :, None, None]
        x = x if norm is None else norm(x)
        x = F.silu(x, inplace=norm is not None) if activated else x
        if self.execution == "integer":
            y = self.convolve((x.float().permute(0, 2, 3, 1),), self.activation_bits).to(x.dtype)
        else:
            y = self._fused(x.float()).to(x.dtype)
        return y if out is None else out.add_(y)

    @property
    def is_pointwise(self) -> bool:
        return (self.kernel_size, self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))

    def compiles(self, x: torch.Tensor) -> bool:
        """Whether `forward` is one compiled product, with all its optional operations."""
        return self.execution == "integer" and self.groups == 1 and backend(x.device) is native

    def _compiled(
        self,
        x: torch.Tensor,
        skip: torch.Tensor | None,
        norm: nn.GroupNorm | None,
        activated: bool,
        offsets: torch.Tensor | None,
        out: torch.Tensor | None,
    ) -> torch.Tensor:
        (kh, kw), (sh, sw), (ph, pw) = window = self.kernel_size, self.stride, self.padding
        ho, wo = (x.shape[2] + 2 * ph - kh) // sh + 1, (x.shape[3] + 2 * pw - kw) // sw + 1
        first, second = (None if part is None else part.float().permute(0, 2, 3, 1).contiguous() for part in (x, skip))
        assert first is not None
        by = None if norm is None else native.group_norm(norm, activated, first, second, offsets)
        y = activations.empty((len(x), ho, wo, self.out_channels)) if out is None else out.permute(0, 2, 3, 1)
        native.conv2d(first, self.matrix, self.activation_bits, y, *window, second, by, added=out is not None)
        return y.permute(0, 3, 1, 2).to(x.dtype) if out is None else out

    def _groups(self, channels: int) -> list[slice]:
        size = channels // self.groups
        return [slice(g * size, (g + 1) * size) for g in range(self.groups)]

    def convolve(self, parts: tuple[torch.Tensor, ...], bits: int, bias: bool = True) -> torch.Tensor:
        """Integer products of images (B, H, W, C) float32, their channels in one tensor or two -> (B, N, Ho, Wo)."""
        (kh, kw), (sh, sw), (ph, pw) = window = self.kernel_size, self.stride, self.padding
        x = parts[0]
        ho, wo = (x.shape[1] + 2 * ph - kh) // sh + 1, (x.shape[2] + 2 * pw - kw) // sw + 1
        y = activations.empty((len(x), ho, wo, self.out_channels), device=x.device)
        matrix = self.matrix if bias else difference.without_bias(self.matrix)
        if self.groups == 1 and backend(x.device) is native:
            skip = parts[1] if len(parts) > 1 else None
            native.conv2d(x.contiguous(), matrix, bits, y, *window, skip)
            return y.permute(0, 3, 1, 2)
        x = x if len(parts) == 1 else torch.cat(parts, dim=3)
        for inputs, outputs in zip(self._groups(self.in_channels), self._groups(self.out_channels), strict=True):
            part = x[..., inputs].contiguous()
            backend(x.device).conv2d(part, matrix.rows(outputs), bits, y[..., outputs], *window)
        return y.permute(0, 3, 1, 2)

    def _fused(self, x: torch.Tensor) -> torch.Tensor:
        step = kernels.fused_tile_rows(self.out_channels // self.groups, self.q.shape[1])
        y = torch.cat(
            [
                kernels.fused_conv(x[:, inputs], tile, self.kernel_size, self.stride, self.padding)
                for inputs, outputs in zip(self._groups(self.in_channels), self._groups(self.out_channels), strict=True)
                for _, tile in self.matrix.rows(outputs).tiles(step)
            ],
            dim=1,
        ).mul_(self.scale.view(-1, 1, 1))
        return y if self.bias is None else y.add_(self.bias.view(-1, 1, 1))


def runs_in_integers(layer: nn.Module) -> bool:
    """Whether a layer rounds its activations and multiplies integers."""
    return isinstance(layer, _IntLayer) and layer.execution == "integer"


def integer_layers(module: nn.Module) -> dict[str, _IntLayer]:
    """Every integer layer inside a module, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, _IntLayer)}


def quantize_module(module: nn.Module, weights: str, execution: str) -> nn.Module:
    """Replace every Linear and Conv2d inside ``module``, in place, one at a time; embeddings and norms stay float.

    Raises:
        EdgeSdkError: unknown ``weights`` or ``execution``, or the module holds integer layers already.
    """
    if weights not in WEIGHTS or execution not in EXECUTIONS:
        raise EdgeSdkError(
            f"weights {weights!r} with execution {execution!r} is not known; weights are {', '.join(WEIGHTS)}, "
            f"executions {', '.join(EXECUTIONS)}"
        )
    if integer_layers(module):
        raise EdgeSdkError("the model holds integer weights already; quantize a float model")
    swap_layers(module, lambda kind, layer: kind.from_float(layer, weights, execution))
    return module


def swap_layers(module: nn.Module, make) -> None:  # type: ignore[no-untyped-def]
    """Replace each Linear and Conv2d by ``make(IntLinear or IntConv2d, layer)``."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, make(IntLinear, child))
            elif isinstance(child, nn.Conv2d):
                setattr(parent, name, make(IntConv2d, child))
