"""The compiled products are exact, and the package does without them where they cannot be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from edge_sdk.quantization import kernels, native
from edge_sdk.quantization.kernels import Matrix

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
BACKENDS = pytest.mark.parametrize("backend", [native, kernels], ids=["compiled", "PyTorch"])


def integers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Floats that 16-bit activations hold exactly: integers up to 32,500, one of which is the largest."""
    x = torch.randint(-32_500, 32_501, shape, generator=torch.Generator().manual_seed(seed)).float()
    x.view(shape[0], -1)[:, 0] = 32_500
    return x


def weights(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(1), dtype=torch.int8)


def test_they_are_used_where_there_is_a_compiler() -> None:
    assert native.library() is not None


LINEAR = [(1, 1, 1), (5, 33, 7), (6, 16, 2), (7, 17, 3), (130, 320, 65), (3, 5_000, 9), (2, 11_520, 4)]


@BACKENDS
@pytest.mark.parametrize(("m", "k", "n"), LINEAR, ids=str)
def test_a_linear_product_is_exact(m: int, k: int, n: int, backend: object) -> None:
    x, q, out = integers(m, k), weights(n, k), torch.full((m, n + 2), 7.0)
    backend.linear(x, Matrix(q, torch.ones(n)), 16, out[:, 1 : n + 1])  # type: ignore[attr-defined]
    expected = (x.long() @ q.long().t()).double()
    assert (out[:, [0, -1]] == 7).all()  # what lies beside the columns is left alone
    torch.testing.assert_close(out[:, 1:-1].double(), expected, rtol=2e-7, atol=0 if backend is native else 2**24)


@pytest.mark.parametrize(
    ("k", "groups", "n"), [(2, 1, 1), (30, 3, 17), (54, 6, 20), (640, 5, 33), (1_152, 9, 16)], ids=str
)
def test_int4_weights_are_unpacked_inside_the_product(k: int, groups: int, n: int) -> None:
    generator = torch.Generator().manual_seed(2)
    q = torch.randint(0, 16, (n, k), generator=generator, dtype=torch.uint8)
    zero, multiplier = (torch.randint(low, high, (n, groups), generator=generator, dtype=torch.int8)
                        for low, high in ((0, 16), (1, 9)))  # fmt: skip
    matrix = Matrix(kernels.pack_int4(q), torch.ones(n), None, zero, multiplier)
    whole = (q.view(n, groups, -1).long() - zero[:, :, None]) * multiplier[:, :, None]
    x, out = integers(7, k), torch.empty(7, n)
    native.linear(x, matrix, 16, out)
    assert torch.equal(out.double(), (x.double() @ whole.view(n, k).double().t()).float().double())
    image = integers(1, 6, 5, k // 2)  # a kernel of 2 x 1 or 1 x 2: pieces of k / 2 or k
    for kernel in ((2, 1), (1, 2)):
        out = torch.empty(1, 7 - kernel[0], 6 - kernel[1], n)
        native.conv2d(image, matrix, 16, out, kernel, (1, 1), (0, 0))
        weight = whole.view(n, *kernel, k // 2).permute(0, 3, 1, 2).double()
        expected = F.conv2d(image.permute(0, 3, 1, 2).double(), weight).permute(0, 2, 3, 1)
        assert torch.equal(out, expected.float())


def test_the_largest_sums_do_not_overflow() -> None:
    x, q, out = torch.full((6, 20_000), 32_500.0), torch.full((4, 20_000), -128, dtype=torch.int8), torch.empty(6, 4)
    native.linear(x, Matrix(q, torch.ones(4)), 16, out)
    assert (out.double() == torch.tensor(-32_500.0 * 128 * 20_000).double()).all()


CONVS = [(3, 5, (3, 3), (1, 1), (1, 1), (6, 7)), (17, 4, (1, 1), (1, 1), (0, 0), (5, 5)),
         (8, 3, (3, 3), (2, 2), (1, 1), (9, 8)), (40, 6, (3, 1), (1, 2), (0, 2), (70, 6)),
         (2, 2, (5, 3), (3, 1), (2, 0), (11, 9))]  # fmt: skip


@BACKENDS
@pytest.mark.parametrize(("c", "n", "kernel", "stride", "padding", "size"), CONVS, ids=str)
def test_a_convolution_is_that_of_the_integers(c, n, kernel, stride, padding, size, backend) -> None:  # type: ignore[no-untyped-def]
    x, q, bias = integers(2, *size, c), weights(n, *kernel, c), torch.arange(float(n))
    scale = torch.linspace(0.5, 2, n)
    expected = F.conv2d(
        x.permute(0, 3, 1, 2).double(), q.permute(0, 3, 1, 2).double(), None, stride, padding
    ) * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)
    out = torch.empty(expected.permute(0, 2, 3, 1).shape)
    backend.conv2d(x, Matrix(q.flatten(1), scale, bias), 16, out, kernel, stride, padding)
    error = (out.permute(0, 3, 1, 2) - expected).abs().max()
    assert error <= 2e-7 * expected.abs().max() * (1 if backend is native else 50)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_number_that_is_not_finite_is_not_lost(bad: float) -> None:
    x, out = integers(3, 40), torch.empty(3, 5)
    x[1, 33] = bad
    native.linear(x, Matrix(weights(5, 40), torch.ones(5)), 16, out)
    assert torch.isfinite(out[[0, 2]]).all() and out[1].isnan().all()
    image, out = integers(2, 4, 4, 3), torch.empty(2, 2, 2, 5)
    image[1, 3, 3, 2] = bad
    native.conv2d(image, Matrix(weights(5, 27), torch.ones(5)), 16, out, (3, 3), (1, 1), (0, 0))
    assert torch.isfinite(out[0]).all() and out[1].isnan().all()


PROGRAM = "import torch; from edge_sdk.quantization import layers; print(layers.backend(torch.device('cpu')).__name__)"


@pytest.mark.parametrize(
    "change", [{"EDGE_SDK_NATIVE": "0"}, {"CXX": "/bin/false"}, {"XDG_CACHE_HOME": "/proc/no"}], ids=str
)
def test_without_them_pytorch_computes(change: dict[str, str], tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | change
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == "edge_sdk.quantization.kernels\n" and not list(tmp_path.rglob("*.so"))
