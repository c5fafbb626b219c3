"""Tensors of ``golden.json``: numpy only, see ``export/README.md``."""

from typing import Any

import numpy as np

from edge_sdk.zo.noise import Stream, normals


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
