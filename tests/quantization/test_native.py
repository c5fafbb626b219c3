"""The compiled products are exact, and the package does without them where they cannot be had."""

import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from edge_sdk.quantization import kernels, native
from edge_sdk.quantization.kernels import Matrix

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
BACKENDS = pytest.mark.parametrize("backend", [native, kernels], ids=["compiled", "PyTorch"])


@pytest.fixture(autouse=True)
def large_tiles_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 4 x 4 on images of every size here, so that small tensors are tests of them."""
    monkeypatch.setattr(native, "LARGE_TILE_PIXELS", 64)


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
    torch.testing.assert_close(out[:, 1:-1].double(), expected, rtol=2e-7, atol=0 if backend is native else 2**10)


@pytest.mark.parametrize(
    ("k", "groups", "n"), [(2, 1, 1), (30, 3, 17), (54, 6, 20), (640, 5, 33), (1_152, 9, 16)], ids=str
)
def test_int4_weights_are_unpacked_inside_the_product(k: int, groups: int, n: int) -> None:
    generator = torch.Generator().manual_seed(2)
    q = torch.randint(0, 16, (n, k), generator=generator, dtype=torch.uint8)
    zero, multiplier = (
        torch.randint(low, high, (n, groups), generator=generator, dtype=torch.int8) for low, high in ((0, 16), (1, 9))
    )
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


CONVS = [
    (3, 5, (3, 3), (1, 1), (1, 1), (6, 7)),
    (17, 4, (1, 1), (1, 1), (0, 0), (5, 5)),
    (8, 3, (3, 3), (2, 2), (1, 1), (9, 8)),
    (40, 6, (3, 1), (1, 2), (0, 2), (70, 6)),
    (2, 2, (5, 3), (3, 1), (2, 0), (11, 9)),
]


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


# channels, outputs, height and width; a band and a block of channels ends inside the larger ones
WINOGRAD = [(64, 5, 8, 8), (65, 17, 9, 11), (130, 33, 7, 10), (320, 3, 16, 5), (113, 16, 64, 3), (1_024, 4, 20, 40)]


@BACKENDS
@pytest.mark.parametrize("bits", [16, 8], ids=lambda bits: f"{bits}bits")
@pytest.mark.parametrize(("c", "n", "h", "w"), WINOGRAD, ids=str)
def test_winograds_transform_gives_the_sums_of_the_integers(
    c: int, n: int, h: int, w: int, bits: int, backend: object
) -> None:
    levels = int(kernels.conv_levels(bits, (3, 3), (1, 1), c))
    assert native.winograd_tile((3, 3), (1, 1), c, h * w, levels) == (2 if bits == 16 else 4)
    x = torch.randint(-levels, levels + 1, (2, h, w, c), generator=torch.Generator().manual_seed(3)).float()
    x[:, 0, 0, 0] = levels
    q, out = weights(n, 3, 3, c), torch.full((2, h, w, n + 2), 7.0)
    matrix = Matrix(q.flatten(1), torch.linspace(0.5, 2, n), torch.arange(float(n)))
    backend.conv2d(x, matrix, bits, out[..., 1 : n + 1], (3, 3), (1, 1), (1, 1))  # type: ignore[attr-defined]
    sums = F.conv2d(x.permute(0, 3, 1, 2).double(), q.permute(0, 3, 1, 2).double(), padding=1).permute(0, 2, 3, 1)
    expected = (sums * matrix.scale.double() + matrix.bias.double()).float()  # type: ignore[union-attr]
    assert (out[..., [0, -1]] == 7).all()  # what lies beside the channels is left alone
    if backend is native:
        assert torch.equal(out[..., 1:-1], expected)
    else:
        assert (out[..., 1:-1] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 0)], ids=str)
@pytest.mark.parametrize(("bits", "levels"), [(16, 8_191.0), (8, 127.0), (8, 327.0)], ids=str)
def test_winograds_largest_sums_do_not_overflow(
    bits: int, levels: float, padding: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels.LEVELS, bits, levels)
    q = torch.full((4, 3, 3, 700), -128, dtype=torch.int8)
    q[1] = 127
    q[2, 1], q[3, :, 1] = 127, 127  # signs that the transforms add up
    sign = torch.ones(9, 10, 1)
    sign[::2, 1::2] = sign[1::2, ::2] = -1
    for image in (torch.ones(9, 10, 1), sign, sign[:, :1].expand(9, 10, 1)):
        x = (image * levels).expand(1, 9, 10, 700).contiguous()
        double, weight = x.permute(0, 3, 1, 2).double(), q.permute(0, 3, 1, 2).double()
        expected = F.conv2d(double, weight, padding=padding).permute(0, 2, 3, 1)
        out = torch.empty(expected.shape)
        native.conv2d(x, Matrix(q.flatten(1), torch.ones(4)), bits, out, (3, 3), (1, 1), padding)
        assert torch.equal(out, expected.float())


def test_winograds_transform_of_int4_weights_gives_the_bits_of_the_direct_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(4)
    q = torch.randint(0, 256, (20, 9 * 144 // 2), generator=generator, dtype=torch.uint8)
    zero, multiplier = (
        torch.randint(low, high, (20, 9), generator=generator, dtype=torch.int8) for low, high in ((0, 16), (1, 9))
    )
    matrix = Matrix(q, torch.rand(20, generator=generator), None, zero, multiplier)
    x = torch.randn(2, 9, 13, 144, generator=generator)
    for bits in (16, 8):
        outs = [torch.empty(2, 9, 13, 20) for _ in range(2)]
        native.conv2d(x, matrix, bits, outs[0], (3, 3), (1, 1), (1, 1))
        with monkeypatch.context() as patch:
            patch.setattr(native, "winograd_tile", lambda *_: None)
            native.conv2d(x, matrix, bits, outs[1], (3, 3), (1, 1), (1, 1))
        assert torch.equal(*outs)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, outs = torch.Generator().manual_seed(5), []
    images = [torch.randn(*shape, 96, generator=generator) for shape in ((1, 30, 31), (7, 4, 4), (9, 8, 8))]
    q = weights(70, 9 * 96)
    for count in (1, 2, 5):
        monkeypatch.setattr(native, "threads_for", lambda products, count=count: count)
        for x, bits in product(images, (16, 8)):
            outs.append(torch.empty(*x.shape[:3], 70))
            native.conv2d(x, Matrix(q, torch.ones(70)), bits, outs[-1], (3, 3), (1, 1), (1, 1))
    assert all(torch.equal(outs[i], outs[i % 6]) for i in range(18))


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (5, 9)], ids=str)
@pytest.mark.parametrize("bits", [16, 8], ids=str)
def test_an_image_does_not_depend_on_its_batch(bits: int, size: tuple[int, int]) -> None:
    """Small images share a band: seven of them are in several bands, the last one not full."""
    x = (
        torch.randn(7, *size, 320, generator=torch.Generator().manual_seed(6))
        * torch.arange(1, 8.0)[:, None, None, None]
    )
    matrix, together = Matrix(weights(20, 9 * 320), torch.ones(20)), torch.empty(7, *size, 20)
    native.conv2d(x, matrix, bits, together, (3, 3), (1, 1), (1, 1))
    for image, out in zip(x, together, strict=True):
        alone = torch.empty(1, *size, 20)
        native.conv2d(image[None], matrix, bits, alone, (3, 3), (1, 1), (1, 1))
        assert torch.equal(alone[0], out)


def test_winograds_transform_is_for_what_it_makes_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.winograd_tile((3, 3), (1, 1), 64, 64, 8_191.0) == 2
    for kernel, stride, channels, pixels in (
        ((3, 3), (2, 2), 64, 64),
        ((1, 1), (1, 1), 64, 64),
        ((3, 3), (1, 1), 63, 64),
        ((3, 3), (1, 1), 64, 63),
    ):
        assert native.winograd_tile(kernel, stride, channels, pixels, 8_191.0) is None
    monkeypatch.undo()  # of what these tests set
    assert native.winograd_tile((3, 3), (1, 1), 64, 12 * 12, 127.0) == 4
    assert native.winograd_tile((3, 3), (1, 1), 64, 12 * 12 - 1, 127.0) is None
    levels = [kernels.conv_levels(16, (3, 3), stride, c) for stride, c in (((1, 1), 64), ((2, 2), 64), ((1, 1), 63))]
    assert levels == [8_191, 32_500, 32_500] and kernels.conv_levels(8, (3, 3), (1, 1), 64) == 127


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
    image, out = integers(2, 8, 8, 64), torch.empty(2, 8, 8, 5)
    image[1, 3, 3, 2] = bad
    native.conv2d(image, Matrix(weights(5, 9 * 64), torch.ones(5)), 16, out, (3, 3), (1, 1), (1, 1))
    assert torch.isfinite(out[0]).all() and out[1].isnan().all()


PROGRAM = "import torch; from edge_sdk.quantization import layers; print(layers.backend(torch.device('cpu')).__name__)"


@pytest.mark.parametrize(
    "change",
    [
        {"EDGE_SDK_NATIVE": "0"},
        {"CXX": "/bin/false"},
        {"XDG_CACHE_HOME": "/proc/no"},
        {"XDG_CACHE_HOME": "", "HOME": "/proc/no"},
    ],
    ids=str,
)
def test_without_them_pytorch_computes(change: dict[str, str], tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | change
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    if "EDGE_SDK_NATIVE" in change:  # as wanted; else a build that fails is said
        assert done.stderr == ""
    else:
        assert done.stderr.count("\n") == 1 and "not compiled, so a run is slower" in done.stderr
    assert done.stdout == "edge_sdk.quantization.kernels\n" and not list(tmp_path.rglob("*.so"))
