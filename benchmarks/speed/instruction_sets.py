"""The compiled integer products on several instruction sets, bit for bit against integer arithmetic in numpy.

The sources are built once an instruction set, together with a small program that runs them on the same inputs. Builds
for another processor run under emulation. Nothing is timed.
"""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from edge_sdk.quantization.kernels import LEVELS, WINOGRAD_LEVELS
from edge_sdk.quantization.native import FLAGS, LARGE_TILE_LEVELS, SOURCES

PROGRAM = Path(__file__).with_suffix(".cpp")
ARM_PACKAGES = "qemu-user-static g++-aarch64-linux-gnu libc6-dev-arm64-cross"  # Debian's names
BESIDE, UNTOUCHED, ATTENTION = 3, 7.0, 3  # as in the program
SHORT, SHORT_OF_BYTES = 512, 65_536  # terms of a sum that is short, as in integer.h


@dataclass(frozen=True)
class InstructionSet:
    """How one build is made and run; ``needs`` is the flag of /proc/cpuinfo without which it cannot run here."""

    name: str
    machine: str
    march: str
    lanes: tuple[int, int]  # products a step, of 16-bit and of 8-bit activations
    needs: str = ""

    @property
    def is_native(self) -> bool:
        return platform.machine() == self.machine

    @property
    def compiler(self) -> str | None:
        return shutil.which("c++" if self.is_native else f"{self.machine}-linux-gnu-g++")

    @property
    def emulator(self) -> str | None:
        return shutil.which(f"qemu-{self.machine}-static") or shutil.which(f"qemu-{self.machine}")

    def missing(self) -> str | None:
        """Why it cannot be built or run here, or None."""
        if self.compiler is None or not (self.is_native or self.emulator):
            packages = "g++" if self.is_native else ARM_PACKAGES
            return f"{self.name} needs a compiler and, elsewhere, an emulator: apt-get install {packages}"
        if self.is_native and self.needs not in Path("/proc/cpuinfo").read_text():
            return f"this processor has no {self.needs}"
        return None

    def build(self, folder: Path) -> list[str]:
        """Compile with the package's own flags; returns the command that runs the program.

        Raises:
            subprocess.CalledProcessError: it does not compile.
        """
        path = folder / self.name.replace(" ", "-")
        self.compile([PROGRAM, *SOURCES], path, "-static", f"-I{SOURCES[0].parent}")
        return [str(path)] if self.is_native else [str(self.emulator), str(path)]

    def compile(self, sources: Sequence[Path], output: Path, *more: str) -> None:
        """Run the compiler; raises subprocess.CalledProcessError with what it said if it fails."""
        flags = [flag for flag in FLAGS if not flag.startswith("-march")]
        command = [str(self.compiler), *flags, f"-march={self.march}", *more, *map(str, sources), "-o", str(output)]
        subprocess.run(command, check=True, capture_output=True, text=True)


ARM = InstructionSet("Arm64 NEON", "aarch64", "armv8-a", (8, 8))
INSTRUCTION_SETS = (
    InstructionSet("x86-64 without SIMD", "x86_64", "x86-64", (1, 1)),
    InstructionSet("x86-64 AVX2", "x86_64", "haswell", (16, 16), "avx2"),
    InstructionSet("x86-64 AVX-512", "x86_64", "skylake-avx512", (32, 32), "avx512bw"),
    InstructionSet("x86-64 AVX-512 VNNI", "x86_64", "cascadelake", (32, 64), "avx512_vnni"),
    ARM,
    InstructionSet("Arm64 NEON with dot products", "aarch64", "armv8.2-a+dotprod", (8, 32)),
)


@dataclass(frozen=True)
class Case:
    """One product: x (B, H, W, C) float32, q (N, kh, kw, C) int8, scale (N,) float32, bias the same or (P, N).

    With biases (P, N), row or pixel m has those of m mod P.
    ``kind`` is 1 for a linear layer, 0 for a convolution, and for one by Winograd's transform the side of its tiles.
    """

    name: str
    x: np.ndarray
    q: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    kind: int
    levels: float
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def encoded(self) -> bytes:
        """What the program reads."""
        n, *kernel, _ = self.q.shape
        period = len(self.bias) if self.bias.ndim == 2 else 0
        head = [self.kind, self.levels, n, *self.x.shape, *kernel, *self.stride, *self.padding, period]
        arrays = (np.array(head, np.int64), self.x, self.q, self.scale, self.bias)
        return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)

    @cached_property
    def expected(self) -> np.ndarray:
        """The outputs (pixels, N + BESIDE) float32: exact integer sums, scaled in float32 where they are short.

        Longer ones are scaled in float64 and rounded once.
        """
        n, kh, kw, c = self.q.shape
        rows = self.x.reshape(-1, 1, 1, c) if self.kind == 1 else self.x
        most = np.maximum(np.abs(rows).max(axis=(1, 2, 3), keepdims=True), np.float32(1e-12))
        step = most / np.float32(self.levels)
        (ph, pw), (sh, sw) = self.padding, self.stride
        levels = np.pad(np.rint(rows * (np.float32(1) / step)).astype(np.int64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(levels, (kh, kw), (1, 2))[:, ::sh, ::sw]
        sums = np.tensordot(windows, self.q.astype(np.int64), ((4, 5, 3), (1, 2, 3)))
        bias = np.resize(self.bias, sums.shape)  # repeats it
        if kh * kw * c <= (SHORT if self.levels > LEVELS[8] else SHORT_OF_BYTES):
            y = sums.astype(np.float32) * (step * self.scale) + bias
        else:
            y = (sums * step.astype(np.float64) * self.scale.astype(np.float64) + bias).astype(np.float32)
        return np.pad(y.reshape(-1, n), ((0, 0), (0, BESIDE)), constant_values=UNTOUCHED)


LINEAR = [(1, 1, 1), (5, 33, 7), (6, 16, 2), (7, 17, 3), (70, 320, 65), (3, 5_000, 9), (2, 11_520, 4), (9, 8, 130)]
CONVOLUTIONS = [
    (3, 5, (3, 3), (1, 1), (1, 1), (6, 7)),
    (17, 4, (1, 1), (1, 1), (0, 0), (5, 5)),
    (8, 3, (3, 3), (2, 2), (1, 1), (9, 8)),
    (40, 6, (3, 1), (1, 2), (0, 2), (70, 6)),
    (2, 2, (5, 3), (3, 1), (2, 0), (11, 9)),
    (160, 33, (3, 3), (1, 1), (1, 1), (8, 8)),
]
WINOGRAD = [(3, 5, (1, 1), (6, 7)), (7, 33, (0, 0), (5, 8)), (240, 18, (1, 1), (8, 9)), (113, 3, (2, 1), (4, 3))]
OWN_LINEAR = [(6, 33, 7), (70, 320, 65), (4, 5_000, 34)]  # where rows have biases of their own
VALUES = ("numbers", "integers", "extremes")


@cache
def cases() -> tuple[Case, ...]:
    """Every shape with 16-bit and 8-bit activations, and three kinds of values.

    Numbers are normal ones; integers have a scale of exactly 1, so that the sums themselves are compared; extremes are
    the largest magnitudes throughout, where sums are largest. Winograd's tiles have as many levels as they may have.
    """
    rng, out = np.random.default_rng(0), []
    for levels in LEVELS.values():
        for values in VALUES:
            for m, k, n in LINEAR:
                x, rest = _filled(rng, values, levels, (1, m, 1, k), (n, 1, 1, k))
                out.append(Case(f"linear {m}x{k}x{n} {values} {levels:g} levels", x, *rest, 1, levels))
            for c, n, kernel, stride, padding, size in CONVOLUTIONS:
                x, rest = _filled(rng, values, levels, (2, *size, c), (n, *kernel, c))
                name = f"convolution {c}->{n} {kernel} stride {stride} padding {padding} of {size} {values} {levels:g}"
                out.append(Case(name, x, *rest, 0, levels, stride, padding))
    for side, levels in ((2, WINOGRAD_LEVELS), (4, float(LARGE_TILE_LEVELS))):
        for values in VALUES:
            for c, n, padding, size in WINOGRAD:
                x, rest = _filled(rng, values, levels, (2, *size, c), (n, 3, 3, c))
                name = f"tiles of {side}, {c}->{n} padding {padding} of {size} {values}"
                out.append(Case(name, x, *rest, side, levels, padding=padding))
    for values in ("numbers", "extremes"):
        for m, k, n in OWN_LINEAR:
            for levels in LEVELS.values():
                x, rest = _filled(rng, values, levels, (1, m, 1, k), (n, 1, 1, k), m // 2)
                out.append(Case(f"biases of rows {m}x{k}x{n} {values} {levels:g}", x, *rest, 1, levels))
        for kind, levels in ((0, LEVELS[8]), (4, LEVELS[8])):  # Winograd: where sums are short
            for c, n, padding, size in WINOGRAD:
                pixels = (size[0] + 2 * padding[0] - 2) * (size[1] + 2 * padding[1] - 2)
                x, rest = _filled(rng, values, levels, (2, *size, c), (n, 3, 3, c), pixels)
                name = f"biases of pixels, {kind}, {c}->{n} padding {padding} of {size} {values}"
                out.append(Case(name, x, *rest, kind, float(levels), padding=padding))
    return tuple(out)


def _filled(
    rng: np.random.Generator,
    values: str,
    most: float,
    x_shape: tuple[int, ...],
    q_shape: tuple[int, ...],
    period: int = 0,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    n = q_shape[0]
    if values == "numbers":
        x, scale, bias = rng.normal(size=x_shape), rng.uniform(1e-3, 1, n), rng.normal(size=n)
    else:
        x, scale, bias = rng.integers(-most, most, x_shape, endpoint=True), np.ones(n), np.zeros(n)
        x[..., 0] = most  # the largest of its row or sample
    q = rng.integers(-128, 128, q_shape, dtype=np.int8)
    if values == "extremes":
        x, q = np.full(x_shape, most), np.full(q_shape, -128, np.int8)
        q[1::2] = 127
    if period:
        bias = rng.normal(size=(period, n))
    return x.astype(np.float32), (q, scale.astype(np.float32), bias.astype(np.float32))


def differing(command: Sequence[str], chosen: Sequence[Case]) -> dict[str, int]:
    """Name of a case -> how many of its outputs are not the expected bits; nothing for cases that agree."""
    given = b"".join(case.encoded() for case in chosen)
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True)
    found, at, wrong = np.frombuffer(done.stdout, np.uint32), 0, {}
    for case in chosen:
        expected = case.expected.view(np.uint32).ravel()
        bad = int((found[at : at + expected.size] != expected).sum())
        at += expected.size
        if bad:
            wrong[case.name] = bad
    return wrong


def attended(command: Sequence[str], q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    """What a build's attention makes of q (B, S, heads * d), k and v (B, T, heads * d) float32."""
    head = np.array([ATTENTION, *q.shape[:2], k.shape[1], heads, q.shape[2] // heads, *[0] * 8], np.int64)
    given = b"".join(array.tobytes() for array in (head, q, k, v))
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(q.shape)


def lanes(command: Sequence[str]) -> tuple[int, int]:
    """How many products a step a build makes, of 16-bit and of 8-bit activations, by its own word."""
    said = subprocess.run([*command, "lanes"], capture_output=True, text=True, check=True).stdout
    words, octets = map(int, said.split())
    return words, octets
