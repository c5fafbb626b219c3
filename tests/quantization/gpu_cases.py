"""Layers by the GPU's kernels in Triton's interpreter, beside `kernels.py`; prints each case's largest difference.

Run with ``TRITON_INTERPRET=1``. Numbers are whole and scales are powers of two, so that sums must be equal.
"""

import json

import torch

from edge_sdk.quantization import gpu, kernels

CONVOLUTIONS = {
    "3x3": (64, 33, (3, 3), (1, 1), (1, 1), (6, 7)),
    "four channels": (4, 40, (3, 3), (1, 1), (1, 1), (5, 5)),
    "stride 2": (96, 8, (3, 3), (2, 2), (1, 1), (9, 8)),
    "1x1": (70, 65, (1, 1), (1, 1), (0, 0), (4, 5)),
    "uneven": (36, 6, (3, 1), (1, 2), (0, 2), (7, 6)),
}
LINEAR = {"one row": (1, 320, 5), "few rows": (16, 40, 70), "many rows": (70, 64, 130), "one column": (3, 1, 4)}


def matrix(n: int, k: int, int4: bool, generator: torch.Generator) -> kernels.Matrix:
    """Weights whose scales are powers of two."""
    scale = torch.exp2(torch.randint(-3, 3, (n,), generator=generator).float())
    bias = torch.randint(-9, 9, (n,), generator=generator).float()
    if not int4:
        return kernels.Matrix(torch.randint(-128, 128, (n, k), generator=generator, dtype=torch.int8), scale, bias)
    zero, multiplier = (torch.randint(1, 8, (n, 2), generator=generator, dtype=torch.int8) for _ in range(2))
    packed = torch.randint(0, 256, (n, k // 2), generator=generator, dtype=torch.uint8)
    return kernels.Matrix(packed, scale, None, zero, multiplier)


def whole(shape: tuple[int, ...], levels: float, generator: torch.Generator) -> torch.Tensor:
    """Integers whose largest of each row or image is ``levels``, so that they are rounded by a scale of 1."""
    x = torch.randint(-int(levels), int(levels) + 1, shape, generator=generator).float()
    x.view(shape[0], -1)[:, 0] = levels
    return x


def main() -> None:
    generator, differences = torch.Generator().manual_seed(0), {}
    for bits in kernels.LEVELS:
        for int4 in (False, True):
            form = f"{bits} bits, {'int4' if int4 else 'int8'}"
            for name, (c, n, kernel, stride, padding, size) in CONVOLUTIONS.items():
                weights = matrix(n, kernel[0] * kernel[1] * c, int4, generator)
                x = whole((2, *size, c), kernels.conv_levels(bits, kernel, stride, c), generator)
                ho, wo = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
                room, expected = torch.full((2, ho, wo, n + 3), 7.0), torch.empty(2, ho, wo, n)
                kernels.conv2d(x, weights, bits, expected, kernel, stride, padding)
                gpu.conv2d(x, weights, bits, room[..., :n], kernel, stride, padding)
                differences[f"{name}, {form}"] = distance(room, expected)
            for name, (m, k, n) in LINEAR.items():
                if int4 and k % 4:
                    continue
                weights, x = matrix(n, k, int4, generator), whole((m, k), kernels.LEVELS[bits], generator)
                room, expected = torch.full((m, n + 3), 7.0), torch.empty(m, n)
                kernels.linear(x, weights, bits, expected)
                gpu.linear(x, weights, bits, room[:, :n])
                differences[f"{name}, {form}"] = distance(room, expected)
    differences["checked at the start"] = 0.0 if gpu.is_right(torch.device("cpu")) else 1.0
    print(json.dumps(differences))


def distance(room: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference; what lies beside the outputs must be untouched."""
    n = expected.shape[-1]
    assert (room[..., n:] == 7).all()
    return float((room[..., :n] - expected).abs().max())


if __name__ == "__main__":
    main()
