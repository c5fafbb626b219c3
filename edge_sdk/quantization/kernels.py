"""The arithmetic of integer layers. No function here makes a float tensor of a weight's size.

`integer`: activations become 16-bit integers, split into a high and a low byte. One int8 x int8 -> int32 product
multiplies both bytes with the int8 weights. 8-bit activations are the fast, coarse option. Convolutions that can use
Winograd's transform have activations of 14 bits instead of 16 (`conv_levels`).
`fused`: activations stay float32; the weight is converted a few rows at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

LEVELS = {16: 32500.0, 8: 127.0}  # largest integer an activation is scaled to; 32500 keeps the high byte within +-127
WINOGRAD_LEVELS = 8191.0  # the transform of `winograd.cpp` makes activations up to 4 times larger, which fits 16 bits
WINOGRAD_CHANNELS = 64  # with fewer channels, the transform costs more time than it saves
FUSED_TILES = 4  # a fused layer converts at most a quarter of its rows at once
FUSED_ELEMENTS = 1 << 20  # and at most this many weights
INT4_ELEMENTS = 1 << 22  # weights unpacked to int8 at once
COLUMN_BYTES = 4 << 20  # of im2col columns at once
EXACT_TERMS = 1024  # 1024 * 128 * 128 = 2^24, up to which float32 holds every integer
CUDA_ROWS, CUDA_ALIGNMENT = 32, 16  # CUDA's int8 product: least number of rows; the other sizes are multiples of 16


def has_int8_dot(device: torch.device) -> bool:
    """Whether PyTorch's int8 product is exact and fast on a device: AVX512-VNNI, or int8 tensor cores (from Turing)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 5)
    return device.type == "cpu" and torch.cpu._is_vnni_supported()


@dataclass(frozen=True)
class Matrix:
    """The weight matrix of a layer, or some of its rows: W = scale * q, or for int4 scale * multiplier * (q - zero).

    Attributes:
        q: (N, K) int8, or for int4 (N, K / 2) uint8 with two weights per byte, the even one in the low nibble.
        scale, bias: (N,) float32; bias may be None. Compiled products also accept (P, N) biases: row or pixel m takes
            bias m mod P.
        zero, multiplier: int4 only, (N, G) int8.
    """

    q: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None = None
    zero: torch.Tensor | None = None
    multiplier: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.q.shape[0], self.q.shape[1] * (1 if self.zero is None else 2)

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.q, self.zero, self.multiplier, self.scale, self.bias

    def rows(self, part: slice) -> "Matrix":
        """Some rows, as views without a copy."""
        q, zero, multiplier, scale, bias = (None if tensor is None else tensor[part] for tensor in self.tensors())
        assert q is not None and scale is not None
        return Matrix(q, scale, bias, zero, multiplier)

    def int8(self) -> torch.Tensor:
        """(N, K) int8 with W = scale * int8; for int4 this unpacks."""
        if self.zero is None or self.multiplier is None:
            return self.q
        return unpack_int4(self.q, self.zero, self.multiplier)

    def tiles(self, step: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """The weights as int8, ``step`` rows at a time, as (which rows, int8 rows)."""
        return ((part, self.rows(part).int8()) for part in _slices(len(self.q), step))


def suits_winograd(kernel: tuple[int, int], stride: tuple[int, int], channels: int) -> bool:
    """Whether a convolution may use Winograd's transform; this also decides how finely its activations are rounded."""
    return kernel == (3, 3) and stride == (1, 1) and channels >= WINOGRAD_CHANNELS


def conv_levels(bits: int, kernel: tuple[int, int], stride: tuple[int, int], channels: int) -> float:
    """The largest integer of a convolution's activations, the same in every backend and for images of every size."""
    return min(LEVELS[bits], WINOGRAD_LEVELS) if suits_winograd(kernel, stride, channels) else LEVELS[bits]


def split_rows(x: torch.Tensor, levels: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Dynamic quantization, one scale per row: x (R, ...) float32; the largest number becomes ``levels``.

    Returns:
        parts: (2, R, ...) int8, high and low byte, x ~ scale * (256 * high + low); up to 127 levels (1, R, ...).
        scale: (R, 1, ...) float32.
    """
    axes = tuple(range(1, x.dim()))
    largest = torch.maximum(x.amax(axes, keepdim=True), x.amin(axes, keepdim=True).neg_()).clamp_min_(1e-12)
    scale = largest / levels
    value = torch.div(x, scale).round_()
    if levels <= LEVELS[8]:
        return value.to(torch.int8)[None], scale
    high = (value + 128).mul_(1 / 256).floor_()  # the low byte is from -128 to 127
    parts = torch.empty((2, *x.shape), dtype=torch.int8, device=x.device)
    parts[0] = high
    parts[1] = value.sub_(high, alpha=256)
    return parts, scale


def combine(products: torch.Tensor, parts: int) -> torch.Tensor:
    """int32 products (parts * M, N) -> (M, N) float32, 256 * high + low."""
    if parts == 1:
        return products.float()
    high, low = products.chunk(2)
    return high.float().mul_(256).add_(low)


def linear(x: torch.Tensor, matrix: Matrix, bits: int, out: torch.Tensor) -> None:
    """out = x W^T + bias for x (M, K) float32 into out (M, N); one activation scale per row of x."""
    parts, step = split_rows(x, LEVELS[bits])
    for rows, tile in matrix.tiles(integer_tile_rows(matrix)):
        y = combine(integer_matmul(parts.flatten(0, 1), tile), len(parts))
        torch.mul(y.mul_(step), matrix.scale[rows], out=out[:, rows])
    if matrix.bias is not None:
        out += matrix.bias


def conv2d(
    x: torch.Tensor,
    matrix: Matrix,
    bits: int,
    out: torch.Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """Convolution of x (B, H, W, C) with (N, kh * kw * C) weights into out (B, Ho, Wo, N); one scale per sample."""
    levels = conv_levels(bits, kernel, stride, x.shape[3])
    parts, step = split_rows(x.permute(0, 3, 1, 2), levels)  # (P, B, C, H, W), (B, 1, 1, 1)
    image = pad_nhwc(parts, padding)  # (P * B, H', W', C)
    _, ho, wo, _ = out.shape
    lines = max(1, min(ho, COLUMN_BYTES // (len(image) * wo * matrix.shape[1])))
    for channels, tile in matrix.tiles(integer_tile_rows(matrix)):
        for rows in _slices(ho, lines):
            y = combine(integer_matmul(columns_of(image, kernel, stride, rows), tile), len(parts))
            y = y.view(len(x), -1, wo, len(tile)).mul_(step)
            torch.mul(y, matrix.scale[channels], out=out[:, rows, :, channels])
    if matrix.bias is not None:
        out += matrix.bias


def integer_tile_rows(matrix: Matrix) -> int:
    """How many rows an integer product takes at once: all rows of int8 weights, some if they must be unpacked."""
    rows, columns = matrix.shape
    return rows if matrix.zero is None else max(1, INT4_ELEMENTS // columns)


def integer_matmul(columns: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(M, K) int8 times (N, K) int8 -> (M, N) int32, exact and therefore the same on every processor."""
    if not has_int8_dot(columns.device) or (columns.device.type == "cpu" and weight.shape[1] == 1):
        return tiled_matmul(columns, weight)  # PyTorch 2.13 does not write the product of one column by one row
    return padded_matmul(columns, weight) if columns.is_cuda else torch._int_mm(columns, weight.t())


def padded_matmul(columns: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same integers within the limits of CUDA's product: operands are padded with zeros, which add nothing.

    The second operand is the transpose of row-major weights, the only layout that every GPU accepts.
    """
    m, n = len(columns), len(weight)
    product = torch._int_mm(_filled_up(columns, CUDA_ROWS, 1), _filled_up(weight, 1, CUDA_ALIGNMENT).t())
    return product[:m, :n]


def _filled_up(matrix: torch.Tensor, least: int, rows: int) -> torch.Tensor:
    """Pad a matrix with zeros: to at least ``least`` rows, a multiple of ``rows``, and aligned columns."""
    below, beside = max(least - len(matrix), -len(matrix) % rows), -matrix.shape[1] % CUDA_ALIGNMENT
    return F.pad(matrix, (0, beside, 0, below)) if below or beside else matrix


def tiled_matmul(columns: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same integers on float32 units, for processors without int8 dot products.

    There PyTorch's int8 product is a plain loop, and oneDNN's saturates. Float32 holds integers up to 2^24 exactly, and
    so a sum of 1,024 products of two bytes. Weights are converted a few rows at a time, and longer sums are int32.
    """
    step = fused_tile_rows(len(weight), weight.shape[1])
    pieces = [(part, columns[:, part].float()) for part in _slices(weight.shape[1], EXACT_TERMS)]
    out = torch.empty((len(columns), len(weight)), dtype=torch.int32, device=columns.device)
    for rows in _slices(len(weight), step):
        for i, (part, floats) in enumerate(pieces):
            product = floats @ weight[rows, part].float().t()
            if i == 0:
                out[:, rows] = product
            else:
                out[:, rows] += product.to(torch.int32)
    return out


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def unpack_int4(packed: torch.Tensor, zero: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    """packed (n, K / 2) uint8, zero and multiplier (n, G) int8 -> multiplier * (q - zero), (n, K) int8."""
    n, groups = zero.shape
    q = torch.stack([packed & 15, packed >> 4], dim=2).view(torch.int8).view(n, groups, -1)
    return ((q - zero[:, :, None]) * multiplier[:, :, None]).view(n, -1)


def pack_int4(q: torch.Tensor) -> torch.Tensor:
    """(N, K) uint8 in 0..15, K even -> (N, K / 2), even columns in the low nibbles."""
    return q[:, 0::2] | (q[:, 1::2] << 4)


def fused_tile_rows(rows: int, columns: int) -> int:
    """How many rows of a weight a fused layer converts at once."""
    return max(1, min(rows // FUSED_TILES, FUSED_ELEMENTS // columns))


def pad_nhwc(parts: torch.Tensor, padding: tuple[int, int]) -> torch.Tensor:
    """(P, B, C, H, W) int8 -> (P * B, H + 2p, W + 2q, C) int8 with zeros around, contiguous."""
    ph, pw = padding
    _, _, c, h, w = parts.shape
    nhwc = parts.flatten(0, 1).permute(0, 2, 3, 1)
    if not (ph or pw):
        return nhwc.contiguous()
    out = nhwc.new_zeros((len(nhwc), h + 2 * ph, w + 2 * pw, c))
    out[:, ph : ph + h, pw : pw + w] = nhwc
    return out


def columns_of(image: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], rows: slice) -> torch.Tensor:
    """im2col of a padded NHWC image (B, H, W, C) for some output rows: (B * rows * Wo, kh * kw * C), C fastest."""
    kh, kw = kernel
    b, _, w, c = image.shape
    wo = (w - kw) // stride[1] + 1
    n, top = rows.stop - rows.start, image[:, rows.start * stride[0] :]
    sb, sh, sw, sc = top.stride()
    view = top.as_strided((b, n, wo, kh, kw, c), (sb, sh * stride[0], sw * stride[1], sh, sw, sc))
    return view.reshape(b * n * wo, kh * kw * c)


def fused_conv(x: torch.Tensor, tile: torch.Tensor, kernel: tuple[int, int], stride, padding) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Convolution with some int8 output channels (n, kh * kw * C), converted for this call only."""
    weight = tile.view(len(tile), *kernel, -1).permute(0, 3, 1, 2).float()
    return F.conv2d(x, weight, None, stride, padding)
