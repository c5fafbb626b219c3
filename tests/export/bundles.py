"""Models for export tests: the tiny ones of every family, and one that predicts a flow."""

import json
from dataclasses import replace
from pathlib import Path

from edge_sdk.integer_checkpoint import quantize
from edge_sdk.runtime.pytorch.model import Model, open_model
from tests import tiny_models

FAMILIES = (*tiny_models.FAMILIES, "flow")


def build(folder: Path, family: str) -> Path:
    """A float model folder."""
    tiny_models.build(folder, "sd1" if family == "flow" else family)
    if family == "flow":
        config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def source(folder: Path, family: str) -> str:
    """A float model by name or path, built in a folder when it is first asked for."""
    if family == "pocket":
        return "pocket"
    return str(folder / family if (folder / family).exists() else build(folder / family, family))


def opened(folder: Path, family: str, weights: str) -> Model:
    """A model in PyTorch. Integer weights are quantized into the folder and streamed; activations stay float."""
    if weights == "none":
        return open_model(source(folder, family), "none")
    checkpoint = folder / f"{family}-{weights}"
    quantize(source(folder, family), checkpoint, weights)
    return replace(open_model(str(checkpoint), weights, "fused"), residency="streamed")
