"""Attention on integers is near the exact one, of the same bits on any number of threads, and only where it may be."""

import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from edge_sdk.diffusion.networks.unet_blocks import Attention
from edge_sdk.quantization import difference, integer_layers, native, quantize_module
from edge_sdk.quantization.attention import MIN_COARSE_KEYS, MIN_KEYS, attention, prepared

compiled = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


def tokens(batch: int, queries: int, keys: int, width: int, size: float = 1.5) -> tuple[torch.Tensor, ...]:
    """q, k and v, normal; logits have a standard deviation of size^2."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((queries, size), (keys, size), (keys, 1.0))
    return tuple(torch.randn(batch, rows, width, generator=generator) * by for rows, by in shapes)


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Softmax attention in float64."""
    q, k, v = (part.double().unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
    return (weights @ v).transpose(1, 2).flatten(2)


def looked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """The compiled attention."""
    out = torch.full_like(q, 7.0)
    native.attention(q, native.quantized_keys(k, v, heads), out)
    return out


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


SHAPES = [
    (1, 256, 256, 8, 40),
    (2, 70, 77, 3, 64),
    (1, 33, 300, 2, 80),
    (1, 130, 49, 1, 160),
    (2, 5, 48, 2, 7),
    (1, 17, 96, 1, 1),
    (1, 9, 130, 1, 512),
]


@compiled
@pytest.mark.parametrize(("batch", "queries", "keys", "heads", "d"), SHAPES, ids=str)
def test_it_is_near_the_exact_one(batch: int, queries: int, keys: int, heads: int, d: int) -> None:
    parts = tokens(batch, queries, keys, heads * d)
    assert error(looked(*parts, heads), exact(*parts, heads)) < max(2e-4, 3e-5 * d**0.5)


@compiled
def test_large_logits_do_not_overflow() -> None:
    q, k, v = tokens(1, 40, 200, 2 * 40)
    assert error(looked(30 * q, k, v, 2), exact(30 * q, k, v, 2)) < 4e-3  # of logits up to 250, rounded to 1e-5
    k[0, 150] = q[0, 3] = 100.0  # a row of equal numbers, and one key that all of that query's weight falls on
    found = looked(q, k, v, 2)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0, 3], v[0, 150], rtol=0, atol=2e-4)  # half a step of the values
    k[0, 150] = -100.0
    assert error(looked(q, k, v, 2), exact(q, k, v, 2)) < 2e-4


@compiled
def test_the_largest_sums_do_not_overflow() -> None:
    for d in (2, 40, 512):  # a row's norm lies in one number or in all; it points along the key or against it
        rows = torch.stack([torch.eye(d)[0], torch.full((d,), d**-0.5)])[None] * 3.0
        signs = torch.tensor([1.0, -1.0])[None, :, None]
        for q in (rows, -rows):
            v = torch.randn(1, 4, d, generator=torch.Generator().manual_seed(1))
            k = torch.cat([rows, rows * signs], dim=1)
            assert error(looked(q, k, v, 1), exact(q, k, v, 1)) < 2e-4


@compiled
def test_one_key_gives_its_value_and_equal_keys_their_mean() -> None:
    q, k, v = tokens(2, 6, 1, 24)
    torch.testing.assert_close(looked(q, k, v, 3), v.expand(2, 6, 24), rtol=1e-6, atol=0)
    same, v = k.expand(2, 100, 24).contiguous(), tokens(2, 1, 100, 24)[2]
    torch.testing.assert_close(looked(q, same, v, 3), v.mean(1, keepdim=True).expand(2, 6, 24), rtol=0, atol=3e-5)
    zero = torch.zeros_like(q)
    torch.testing.assert_close(looked(zero, same, v, 3), v.mean(1, keepdim=True).expand(2, 6, 24), rtol=0, atol=3e-5)


@compiled
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_number_that_is_not_finite_is_not_lost(bad: float) -> None:
    for which in range(3):
        parts = tokens(2, 5, 60, 2 * 8)
        parts[which][1, 4, 9] = bad  # in the second head of the second sample
        found = looked(*parts, 2)
        assert torch.isfinite(found[0]).all() and torch.isfinite(found[1, :, :8]).all()
        touched = found[1, 4, 8:] if which == 0 else found[1, :, 8:] if which == 1 else found[1, :, 9]
        assert not torch.isfinite(touched).any()


BITS = """
import hashlib, torch
from edge_sdk.quantization import native, threads
threads.PRODUCTS = 1
from tests.quantization.test_attention import looked, tokens
assert native.library() is not None
print(hashlib.sha256(looked(*tokens(2, 300, 500, 120), 3).numpy().tobytes()).hexdigest())
"""


@compiled
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        done = subprocess.run([sys.executable, "-c", BITS], capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


class Sizes(TorchDispatchMode):
    """The most elements of any tensor that an operator makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [
            part for part in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(part, torch.Tensor)
        ]
        self.largest = max([self.largest, *(part.numel() for part in tensors)])
        return out


def attending(execution: str | None) -> tuple[Attention, torch.Tensor]:
    """The attention of a denoiser, 2 heads of 8 channels, and what it looks at."""
    torch.manual_seed(0)
    layer = Attention(16, 16, 2)
    if execution:
        quantize_module(layer, "int8", execution)
    return layer, torch.randn(1, 200, 16)


@pytest.mark.parametrize("execution", [None, "fused", "integer"], ids=str)
@torch.no_grad()
def test_no_tensor_has_the_size_of_the_scores(execution: str | None) -> None:
    layer, x = attending(execution)
    with Sizes() as sizes:
        layer(torch.nn.LayerNorm(16), x)
    assert 0 < sizes.largest < x.shape[1] ** 2


@compiled
@pytest.mark.parametrize(
    ("execution", "keys", "used"),
    [("integer", MIN_KEYS, True), ("integer", MIN_KEYS - 1, False), ("fused", MIN_KEYS, False), (None, 200, False)],
    ids=["integer", "few keys", "fused", "float"],
)
@torch.no_grad()
def test_only_integer_execution_rounds_queries_and_keys(
    execution: str | None, keys: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], native.attention
    monkeypatch.setattr(native, "attention", lambda *args: (calls.append(args), real(*args)))
    layer, x = attending(execution)
    found = layer(torch.nn.LayerNorm(16), x[:, :keys])
    assert len(calls) == used
    monkeypatch.setattr(native, "library", lambda: None)  # the same without a compiler
    expected = layer(torch.nn.LayerNorm(16), x[:, :keys])
    assert len(calls) == used and error(found, expected.double()) < 1e-3


def test_without_rounding_it_is_pytorchs_and_has_gradients() -> None:
    q, k, v = (part.requires_grad_() for part in tokens(1, 20, MIN_KEYS, 16))
    split = [part.unflatten(2, (2, 8)).transpose(1, 2) for part in (q, k, v)]
    expected = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    for rounded in (False, True):  # where a gradient is due, nothing is rounded
        found = attention(q, prepared(k, v, 2, rounded), 2)
        assert torch.equal(found, expected)
        found.sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in (q, k, v))


@compiled
@pytest.mark.parametrize("bits", [16, 8])
@torch.inference_mode()
def test_keys_of_a_text_are_rounded_where_the_layers_are_coarse_anyway(bits: int) -> None:
    layer = quantize_module(Attention(64, 32, 4), "int8", "integer")
    for each in integer_layers(layer).values():
        each.activation_bits = bits
    text = torch.randn(2, 77, 32)
    assert isinstance(layer._keys(text), native.Keys) is (bits == 8)  # type: ignore[operator]
    assert not isinstance(layer._keys(text[:, : MIN_COARSE_KEYS - 1]), native.Keys)  # type: ignore[operator]
    tape = difference.Tape()
    with tape.recording():
        assert isinstance(layer._keys(text[:1]), native.Keys)  # type: ignore[operator]
