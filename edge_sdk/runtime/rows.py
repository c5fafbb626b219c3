"""Calls of a fixed number of rows, as graphs for one processor take them."""

from collections.abc import Callable

import numpy as np

from edge_sdk.errors import EdgeSdkError

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], list[np.ndarray]]
LEARNED = "learned"  # the one input that is not a row each


def rows_of_ids(ids: np.ndarray, first: np.ndarray, vectors: int) -> np.ndarray:
    """Ids (B, T) of which row b names the vectors from b K on.

    Args:
        first: (T,) the first id that stands for a vector, at each place.
        vectors: K.
    """
    return np.where(ids >= first, ids + np.arange(len(ids))[:, None] * vectors, ids)


def in_calls(run: Run, inputs: Arrays, shapes: dict[str, list[int]]) -> list[np.ndarray]:
    """Run a graph of fixed sizes on any number of rows.

    The last call is filled with copies of the last row, whose results are dropped; ``learned`` is filled with zeros.

    Args:
        run: the graph, one call.
        inputs: by name, B rows each but ``learned``.
        shapes: that the graph takes, by name.

    Raises:
        EdgeSdkError: there are more vectors than ``learned`` holds.
    """
    named = [name for name in inputs if name != LEARNED]
    rows, count = shapes[named[0]][0], len(inputs[named[0]])
    fixed = {LEARNED: _filled(inputs[LEARNED], shapes[LEARNED])} if LEARNED in inputs else {}
    calls = []
    for first in range(0, count, rows):
        chosen = np.minimum(np.arange(first, first + rows), count - 1)
        calls.append(run({name: inputs[name][chosen] for name in named} | fixed))
    return [np.concatenate(each)[:count] for each in zip(*calls, strict=True)]


def _filled(learned: np.ndarray, shape: list[int]) -> np.ndarray:
    if len(learned) > shape[0]:
        raise EdgeSdkError(
            f"a call has {len(learned)} vectors, and the bundle's graphs hold {shape[0]}; use fewer words, or export a "
            "bundle with a larger --num_vectors"
        )
    out = np.zeros(shape, np.float32)
    out[: len(learned)] = learned
    return out
