"""Write the golden files that all twins of `edge_sdk` are checked with; README.md here says what each is for.

    python -m tests.golden.make_golden [NAME ...]

Without names everything but the bundle is written. ``bundle`` is random weights and the seed of PyTorch's generator: it
is made anew only on purpose, and then all the others after it.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.golden import arithmetic, bundle_runs, pictures, runs, text

HERE = Path(__file__).parent
BINARY: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(pictures.PHOTOS, pictures.write_photo),
    **dict.fromkeys(pictures.LEARNED, pictures.write_learned),
    **dict.fromkeys(runs.CHECKPOINTS, runs.write_checkpoint),
    bundle_runs.OPSET_FILE: bundle_runs.write_unknown_opset,
}
JSON: dict[str, Callable[[], dict[str, Any]]] = {
    "noise.json": arithmetic.noise,
    "draws.json": arithmetic.draws,
    "presets.json": arithmetic.presets,
    "subspace.json": arithmetic.subspace,
    "stopping.json": arithmetic.end_of_run,
    "trajectory.json": runs.trajectory,
    "checkpoint.json": runs.checkpoint,
    "photos.json": partial(pictures.photos, HERE),
    "ddim.json": pictures.sampling,
    "learned_embeds.json": pictures.learned,
    "tokens.json": text.tokens,
    "bundle_runs.json": bundle_runs.bundle_runs,
    "damaged.json": bundle_runs.damaged,
}


def dumps(value: Any, indent: str = "") -> str:
    """JSON with one entry a line; a list without lists or objects is one line."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        entries = [f"{inner}{json.dumps(key)}: {dumps(each, inner)}" for key, each in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        return "[\n" + ",\n".join(inner + dumps(each, inner) for each in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def main(names: list[str]) -> None:
    if "bundle" in names:
        bundle_runs.write_bundle(HERE / "bundle")
    for name, write in BINARY.items():
        if not names or name in names:
            write(HERE / name)
    for name, make in JSON.items():
        if not names or name in names:
            (HERE / name).write_text(dumps(make()) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
