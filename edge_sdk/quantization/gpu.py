"""Which integer products a GPU runs: those of `triton_kernels.py`, if Triton is installed and computes exactly."""

import functools
import logging

import torch

from edge_sdk.quantization import kernels


@functools.cache
def is_available(device: torch.device) -> bool:
    """Whether Triton's products work on a device; each process compares a small layer with exact integers once."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (7, 5):
        return False
    try:
        return is_right(device)
    except Exception as error:  # whatever Triton needs and does not find: a compiler, a driver
        logging.getLogger(__name__).warning("integer products have no GPU kernels, so a run is slower: %s", error)
        return False


def linear(x: torch.Tensor, matrix: kernels.Matrix, bits: int, out: torch.Tensor) -> None:
    """The same as `kernels.linear`."""
    _multiply(
        x[:, None, None], matrix, kernels.LEVELS[bits], out[:, None, None], out.stride(0), ((1, 1), (1, 1), (0, 0))
    )


def conv2d(
    x: torch.Tensor,
    matrix: kernels.Matrix,
    bits: int,
    out: torch.Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """The same as `kernels.conv2d`."""
    levels = kernels.conv_levels(bits, kernel, stride, x.shape[3])
    _multiply(x, matrix, levels, out, out.stride(2), (kernel, stride, padding))


def _multiply(
    x: torch.Tensor,
    matrix: kernels.Matrix,
    levels: float,
    out: torch.Tensor,
    pitch: int,
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    from edge_sdk.quantization import triton_kernels

    x = x.contiguous()
    step = torch.linalg.vector_norm(x.flatten(1), torch.inf, dim=1).clamp_min_(1e-12).div_(levels)
    parts = triton_kernels.round_parts(x, step, levels > kernels.LEVELS[8])
    triton_kernels.product(parts, step, matrix.tensors(), out, pitch, window)


def is_right(device: torch.device) -> bool:
    """Whether a convolution and a linear layer, with int8 and int4 weights, give the results of `kernels.py`."""
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator, dtype=torch.int8)

    c, n, window = 48, 70, ((3, 3), (2, 1), (1, 1))
    x = torch.randn(2, 9, 8, c, generator=generator)
    scale, bias = torch.rand(n, generator=generator), torch.rand(n, generator=generator)
    packed = integers(0, 127, n, 9 * c // 2).view(torch.uint8)
    matrices = (
        kernels.Matrix(integers(-128, 127, n, 9 * c), scale, bias),
        kernels.Matrix(packed, scale, None, integers(0, 16, n, 9), integers(1, 8, n, 9)),
    )
    for matrix in matrices:
        there = kernels.Matrix(*(None if t is None else t.to(device) for t in _in_order(matrix)))
        for bits in kernels.LEVELS:
            y, z = x.new_empty((2, 5, 8, n)), x.new_empty((2, n))
            rows = x.flatten(1)[:, : 9 * c].contiguous()
            kernels.conv2d(x, matrix, bits, y, *window)
            kernels.linear(rows, matrix, bits, z)
            on_device = [t.new_empty(t.shape, device=device) for t in (y, z)]
            conv2d(x.to(device), there, bits, on_device[0], *window)
            linear(rows.to(device), there, bits, on_device[1])
            if not all(
                torch.allclose(a, b.cpu(), rtol=1e-5, atol=1e-3) for a, b in zip((y, z), on_device, strict=True)
            ):
                return False
    return True


def _in_order(matrix: kernels.Matrix) -> tuple[torch.Tensor | None, ...]:
    return matrix.q, matrix.scale, matrix.bias, matrix.zero, matrix.multiplier
