"""One process of `arm64.py`: every integer layer of the embedded model on fixed inputs, then a few training steps."""

import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk import models, pocket
from edge_sdk.personalize import Personalizer
from edge_sdk.quantization import IntLinear, build, integer_layers, native
from edge_sdk.zo.noise import Stream, normals


@torch.inference_mode()
def layer_outputs(model: models.Model) -> dict[str, str]:
    """Name of an integer layer -> the hash of its weights and outputs for inputs from the portable generator."""
    out = {}
    for part in model.parts:
        for name, layer in integer_layers(model.load(part)).items():
            shape = (19, layer.in_features) if isinstance(layer, IntLinear) else (2, layer.in_channels, 7, 6)
            y = layer(torch.from_numpy(normals(0, Stream.NOISE, len(out), shape)))
            data = layer.q.numpy().tobytes() + layer.scale.numpy().tobytes() + y.contiguous().numpy().tobytes()
            out[f"{part}.{name}"] = hashlib.sha256(data).hexdigest()
    return out


def main(checkpoint: str, library: str, steps: int) -> dict[str, Any]:
    if library:
        build.install(Path(library), native.LIBRARY)
    model = models.open_model(checkpoint)
    record: dict[str, Any] = {
        "processor": platform.machine(),
        "compiled": native.library() is not None,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "layers": layer_outputs(model),
    }
    personalizer = Personalizer(model)
    run = personalizer.fit(pocket.PHOTOS, initializer_token="person", max_train_steps=steps, eval_draws=2)
    record["loss_before"] = personalizer.held_out_loss()
    record["losses"] = [step.loss for step in run]
    record["loss_after"] = personalizer.held_out_loss()
    record["token"] = personalizer.embedding.vectors.astype(float).ravel().tolist()
    record["start"] = personalizer.fitted().initial.astype(float).ravel().tolist()
    return record


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
