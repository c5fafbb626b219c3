"""Cases of ``golden.json`` and their tensors: numpy only, see ``export/README.md``."""

from math import prod
from typing import Any

import numpy as np

from edge_sdk.system.schema import Many, Maybe, Real, Whole, check
from edge_sdk.zo.noise import Stream, normals

_SHAPE = Many(Whole(1, 1 << 24), 0, 8)
_NORMALS = {"seed": Whole(0, 2**64 - 1), "stream": tuple(map(int, Stream)), "step": Whole(0, 2**32 - 1)}
_NUMBERS = {"float32": Many(Real()), "int32": Many(Whole(-(2**31), 2**31 - 1)), "int64": Many(Whole(-(2**53), 2**53))}
_INPUT = {
    "shape": _SHAPE,
    "dtype": tuple(_NUMBERS),
    "normals": Maybe(_NORMALS),
    "scale": Maybe(Real()),
    "offset": Maybe(Real()),
    "clip": Maybe(Many(Real(), 2, 2)),
}
_OUTPUT = {"shape": _SHAPE, "values": Many(Real(), 1), "stride": Maybe(Whole(1, 1 << 24))}
_CASE = {"graph": str, "inputs": {str: _INPUT}, "outputs": {str: _OUTPUT}, "bounds": {str: Real(1e-12, 1)}}
LEAST_ELEMENTS = 1 << 22  # that a tensor may have whatever the size of pictures


def check_case(case: Any, graphs: dict[str, Any], resolution: int) -> None:
    """Check a case by the graphs of a manifest, before memory is taken for its tensors.

    Args:
        resolution: of the bundle's pictures, by which the size of tensors is bounded.

    Raises:
        ValueError: one line that names the entry.
    """
    check(case, _CASE)
    if case["graph"] not in graphs:
        raise ValueError(f"graph is {case['graph']!a:.60}; the bundle has {', '.join(sorted(graphs))}")
    graph, most = graphs[case["graph"]], max(LEAST_ELEMENTS, 4 * resolution**2)
    for kind in ("inputs", "outputs"):
        if unknown := set(case[kind]) ^ set(graph[kind]):
            raise ValueError(f"{kind} and those of the graph differ in {min(unknown)!a:.60}")
        for name, tensor in case[kind].items():
            where, shape, declared = f"{kind}.{name}", tensor["shape"], graph[kind][name]["shape"]
            if len(shape) != len(declared) or any(
                isinstance(size, int) and size != own for own, size in zip(shape, declared, strict=True)
            ):
                raise ValueError(f"{where}.shape is {shape}, and the graph's is {declared}")
            if prod(shape) > most:
                raise ValueError(f"{where}.shape is {shape}, of more than {most} values")
            _check_values(tensor, where, kind == "inputs")


def _check_values(tensor: dict[str, Any], where: str, is_input: bool) -> None:
    """The values of an input may end early; those of an output are every so many-th."""
    size = prod(tensor["shape"])
    if not is_input:
        due = -(-size // tensor.get("stride", 1))
        if len(tensor["values"]) != due:
            raise ValueError(f"{where}.values are {len(tensor['values'])}; its shape and stride make {due}")
    elif "normals" not in tensor:
        check(tensor, {"values": _NUMBERS[tensor["dtype"]]}, where)
        if len(tensor["values"]) > size:
            raise ValueError(f"{where}.values are {len(tensor['values'])}; its shape has {size}")
    elif tensor["dtype"] != "float32":
        raise ValueError(f"{where}.dtype is {tensor['dtype']}; normals are float32")


def listed(array: np.ndarray, count: int | None = None) -> dict[str, Any]:
    """An array as a tensor of ``golden.json``, at most about ``count`` values of it."""
    stride = 1 if count is None else max(1, -(-array.size // count))
    tensor = {"shape": list(array.shape), "dtype": str(array.dtype)}
    return tensor | {"values": array.reshape(-1)[::stride].tolist()} | ({"stride": stride} if stride > 1 else {})


def value_of(tensor: dict[str, Any]) -> np.ndarray:
    """An input of ``golden.json`` as an array; values that are left out at its end are zeros."""
    if "values" in tensor:
        array = np.zeros(tensor["shape"], tensor["dtype"])
        array.reshape(-1)[: len(tensor["values"])] = tensor["values"]
        return array
    source = tensor["normals"]
    array = normals(source["seed"], Stream(source["stream"]), source["step"], tuple(tensor["shape"]))
    array = array * np.float32(tensor.get("scale", 1)) + np.float32(tensor.get("offset", 0))
    return np.clip(array, *tensor["clip"]) if "clip" in tensor else array


def worst_difference(case: dict[str, Any], found: dict[str, np.ndarray]) -> float:
    """max |found - wanted| / max |wanted| over the outputs of a case; NaN and infinity are infinitely wrong."""
    worst = 0.0
    for name, tensor in case["outputs"].items():
        wanted = np.array(tensor["values"], np.float64)
        got = np.asarray(found[name], np.float64)
        if list(got.shape) != tensor["shape"]:
            return float("inf")
        difference = np.abs(got.reshape(-1)[:: tensor.get("stride", 1)] - wanted).max()
        worst = max(worst, float(difference / max(np.abs(wanted).max(), 1e-30)))
        if not np.isfinite(got).all():
            return float("inf")
    return worst
