"""Portable randomness: Philox4x32-10 bits, uniforms, integers and normals, which any language can compute.

``tests/golden/twins.json`` lists the twins in other languages and the golden files that check them.

Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) is a function of a key and a counter;
there is no state to save. Here, all words being unsigned 32-bit:

- key      = (seed mod 2**32, seed >> 32)
- counter  = (block mod 2**32, block >> 32, step, stream)

A block gives four words. The words of one (seed, stream, step) form one sequence: word ``4 * block + k`` is word k of
that block. From words to numbers:

- uniform  u = (word + 0.5) / 2**32, float64, never 0 or 1. One word each.
- integer  in [0, n): floor(word * n / 2**32), computed in 64 bits. One word each. Its bias is below n / 2**32.
- normals  come in pairs by Box-Muller from the words 2i and 2i + 1, in float64:
  r = sqrt(-2 ln u[2i]), a = 2 pi u[2i+1]; normal 2i = r cos a, normal 2i + 1 = r sin a; each rounded to float32 once.

So number i of a sequence depends only on (seed, stream, step, i): longer requests begin with the shorter ones.

The table `NUMBERS` says which purpose uses which steps of which stream. Within a command no two purposes share any.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


class Stream(IntEnum):
    """The last word of a counter: sequences of different streams are unrelated. `NUMBERS` lists their purposes."""

    PERTURBATION = 0
    NOISE = 1
    TIMESTEP = 2
    IMAGE = 3
    AUGMENTATION = 4


@dataclass(frozen=True)
class Numbers:
    """Steps of a stream that are reserved for one purpose, within a command."""

    command: str  # a seed belongs to one run of one command
    stream: Stream
    first: int
    count: int
    purpose: str

    def at(self, index: int) -> int:
        """The step of this index; raises ValueError outside of the range."""
        if not 0 <= index < self.count:
            raise ValueError(f"number {index} of {self.purpose} is outside of [0, {self.count})")
        return self.first + index


_P, _N, _T, _I, _A = Stream
_STEPS = 2**31  # most steps of a run: step k takes number k; numbers from here on are for everything else
HELD_OUT = Numbers("personalize", _N, _STEPS, 1, "noise of the held-out draws")
FLOOR = Numbers("personalize", _N, _STEPS + 1, 2, "latents and word that the floor of mu is measured with")
NEIGHBOURS = Numbers("unlearn", _I, _STEPS, 2**30, "which neighbour of a target step k retains")
EDIT_NOISES = Numbers("unlearn", _A, _STEPS, 2**30, "noise of edit j of target i, at i 2^16 + j")
LORA_A = Numbers("unlearn", _A, _STEPS + 2**30, 2**20, "first values of layer k's lora_A")
MEASUREMENTS = Numbers("unlearn", _N, 2**32 - 4096, 3968, "noise of measurements, and of relearning")
INPUT_MOMENTS = Numbers("unlearn", _N, 2**32 - 128, 1, "noise of the draws that inputs of layers are measured on")
PROBE = Numbers("unlearn", _N, 2**32 - 1, 1, "noise that targets must come back from")
NUMBERS = (
    Numbers("personalize", _P, 0, _STEPS, "directions of step k"),
    Numbers("personalize", _P, _STEPS, 1, "directions that the floor of mu is measured along"),
    Numbers("personalize", _N, 0, _STEPS, "diffusion and posterior noise of step k's draws"),
    Numbers("personalize", _T, 0, _STEPS, "timesteps of step k's draws"),
    Numbers("personalize", _I, 0, _STEPS, "images and prompts of step k's draws"),
    HELD_OUT,
    FLOOR,
    *(replace(HELD_OUT, stream=stream, purpose="the same draws") for stream in (_T, _I)),
    Numbers("generate", _N, 0, _STEPS, "noise that picture k starts from"),
    Numbers("export", _N, 0, 16, "inputs of a bundle's golden vectors"),
    Numbers("demo", _A, 0, 1, "noise of the faces that the embedded model forgets and keeps"),
    Numbers("unlearn", _N, 0, _STEPS, "noise of step k's draws, 2k of targets and 2k + 1 of retained pictures"),
    Numbers("unlearn", _T, 0, _STEPS, "their timesteps"),
    Numbers("unlearn", _I, 0, _STEPS, "their images"),
    Numbers("unlearn", _A, 0, _STEPS, "their places on the way to a surrogate"),
    NEIGHBOURS,
    EDIT_NOISES,
    LORA_A,
    *(replace(MEASUREMENTS, stream=stream) for stream in (_N, _T, _I, _A)),
    *(replace(INPUT_MOMENTS, stream=stream) for stream in (_N, _T, _I, _A)),
    PROBE,
)


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds of Philox on counters (n, 4) uint32 with one key of two words; returns (n, 4) uint32."""
    c0, c1, c2, c3 = counter.astype(np.uint64).T
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def words(seed: int, stream: int, step: int, count: int, start: int = 0) -> np.ndarray:
    """Words ``start`` to ``start + count`` of a sequence, (count,) uint32.

    Raises:
        ValueError: seed outside [0, 2**64) or step outside [0, 2**32).
    """
    if not 0 <= seed < 2**64 or not 0 <= step < 2**32:
        raise ValueError(f"seed {seed} must be in [0, 2**64) and step {step} in [0, 2**32)")
    first = start // 4
    block = np.arange(first, -(-(start + count) // 4), dtype=np.uint64)
    counter = np.empty((len(block), 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2], counter[:, 3] = block & _LOW, block >> _SHIFT, step, int(stream)
    flat = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)
    return flat[start - 4 * first :][:count]


def uniforms(seed: int, stream: int, step: int, count: int, start: int = 0) -> np.ndarray:
    """(count,) float64 in (0, 1)."""
    return (words(seed, stream, step, count, start) + 0.5) / 2.0**32


def integers(seed: int, stream: int, step: int, count: int, n: int, start: int = 0) -> np.ndarray:
    """(count,) int64 in [0, n), for 1 <= n <= 2**32."""
    wide = words(seed, stream, step, count, start).astype(np.uint64)
    return ((wide * np.uint64(n)) >> _SHIFT).astype(np.int64)


def normals(seed: int, stream: int, step: int, shape: tuple[int, ...], start: int = 0) -> np.ndarray:
    """Standard normals of the given shape in C order, float32, from number ``start`` of the sequence on."""
    count = int(np.prod(shape))
    first = start - start % 2
    u = uniforms(seed, stream, step, count + (start - first) + 1, first)
    u = u[: len(u) - len(u) % 2].reshape(-1, 2)
    radius, angle = np.sqrt(-2.0 * np.log(u[:, 0])), 2.0 * np.pi * u[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    return pairs[start - first :][:count].astype(np.float32).reshape(shape)
