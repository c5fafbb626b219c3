"""Float weights to integer tensors by optimum-quanto. No other file imports quanto or sees its classes.

This file also knows the tensor names of quanto's own ``save_pretrained``. qint8 weights in such files are read
unchanged: the same integers, the same scales. Each qint4 group of quanto has a float scale and shift. Our group scales
are integer multiples of the row's scale, so that products can be summed in integers. Converting qint4 weights would
round them a second time, so they are refused.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

from edge_sdk.errors import EdgeSdkError, MissingExtraError

_WRAPPERS = "optimum.quanto.models"  # classes that wrap whole models of transformers and diffusers
INT4_GROUP = 128  # at most this many weights share an int4 scale
MULTIPLIERS = 8  # an int4 group's scale is the row's scale times 1, ..., 8: then (q - zero) * multiplier fits int8


def library() -> Any:
    """optimum-quanto, imported without its wrappers of whole models.

    The wrappers import transformers and diffusers, which takes 5 s of processor time and 214 MB, and nothing here uses
    them. They are imported when a program asks optimum-quanto for one by name.

    Raises:
        MissingExtraError: it is not installed.
    """
    if "optimum.quanto" in sys.modules:
        return importlib.import_module("optimum.quanto")  # waits for a thread that imports it
    sys.modules[_WRAPPERS] = ModuleType(_WRAPPERS)
    try:
        import optimum.quanto as quanto
    except ImportError as error:
        raise MissingExtraError("quantizing a model", "torch", ["optimum-quanto"]) from error
    finally:
        sys.modules.pop(_WRAPPERS, None)
    vars(quanto)["__getattr__"] = _wrapper
    return quanto


def _wrapper(name: str) -> Any:
    """What optimum-quanto would have under a name if it was imported whole."""
    if not name.startswith("__"):  # tools look for such names in every module
        wrappers = importlib.import_module(_WRAPPERS)
        if name == "models":
            return wrappers
        if hasattr(wrappers, name):
            return getattr(wrappers, name)
    raise AttributeError(f"module 'optimum.quanto' has no attribute {name!r}")


def int8_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric, per output channel: weight (N, K) float -> q (N, K) int8 and scale (N,) float32, w = scale * q."""
    quanto, weight = library(), weight.detach().float()
    if len(weight) == 1:  # quanto cannot quantize a single channel per channel; two equal ones give the same numbers
        q, scale = int8_weight(weight.expand(2, -1))
        return q[:1].contiguous(), scale[:1].contiguous()
    scale = quanto.AbsmaxOptimizer()(weight, quanto.qint8, axis=0).clamp_min(1e-12)
    quantized = quanto.quantize_weight(weight, quanto.qint8, axis=0, scale=scale, optimized=False)
    return quantized._data.contiguous(), scale.reshape(-1).contiguous()


def int4_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Affine, per group of consecutive weights of a row: weight (N, K) float -> integers.

    Every group's range includes zero, even if all weights of the group have the same sign.

    Returns:
        q (N, K) uint8 in 0..15; zero (N, G) int8 in 0..15; multiplier (N, G) int8 in 1..8; scale (N,) float32, with
        w = scale * multiplier * (q - zero).

    Raises:
        EdgeSdkError: K is odd, so the weights of a row do not fill whole bytes.
    """
    quanto, weight = library(), weight.detach().float()
    n, k = weight.shape
    if k % 2:
        raise EdgeSdkError(
            f"a layer with {k} inputs cannot have int4 weights, which need an even number; use --weights int8"
        )
    if n == 1:
        q, zero, multiplier, scale = int4_weight(weight.expand(2, -1))
        return q[:1], zero[:1], multiplier[:1], scale[:1]
    size = group_size(k)
    groups = weight.reshape(n, k // size, size)
    lowest, highest = groups.amin(dim=2).clamp_max(0), groups.amax(dim=2).clamp_min(0)
    own = ((highest - lowest) / 15).clamp_min(1e-12)  # (N, G), the scale that each group would choose
    scale = own.amax(dim=1) / MULTIPLIERS  # (N,)
    multiplier = torch.ceil(own / scale[:, None] - 1e-4).clamp(1, MULTIPLIERS)
    used = multiplier * scale[:, None]
    zero = torch.clamp(torch.round(-lowest / used), 0, 15)
    quantized = quanto.quantize_weight(
        weight,
        quanto.qint4,
        axis=0,
        scale=used.reshape(-1, 1),
        shift=zero.reshape(-1, 1).to(torch.uint8),
        group_size=size,
        optimized=False,
    )
    q = _unpacked(quantized._data._data, len(used.flatten())).reshape(n, k)
    return q.contiguous(), zero.to(torch.int8), multiplier.to(torch.int8), scale.contiguous()


def _unpacked(pairs: torch.Tensor, rows: int) -> torch.Tensor:
    """Unpack quanto's bytes of two rows each: the lower bits hold the first half of the rows.

    quanto's own unpacking is compiled on first use, and waits forever if an earlier build was killed.
    """
    return torch.cat([pairs & 15, pairs >> 4])[:rows]


def group_size(k: int) -> int:
    """The largest power of two up to 128 that divides ``k``. Then no group spans two taps of a 3 x 3 kernel, and every
    runtime with blocks can use our groups unchanged."""
    return min(k & -k, INT4_GROUP)


def saved_integers(header: dict[str, Any]) -> set[str]:
    """Names of the qint8 weights in a safetensors header by quanto: ``NAME._data`` and ``NAME._scale``.

    Raises:
        EdgeSdkError: the header has weights of another quanto type.
    """
    names = {key.removesuffix("._scale") for key in header if key.endswith(".weight._scale")}
    for name in names:
        if f"{name}._shift" in header or header.get(f"{name}._data", {}).get("dtype") != "I8":
            raise EdgeSdkError(
                f"{name} was saved by quanto in another type than qint8, which cannot be taken over without rounding "
                "it again; quantize the float model (edge-sdk quantize --weights int4) or save it as qint8"
            )
    return names
