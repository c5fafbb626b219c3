"""How far integer execution is from float on the trained embedded model: layer by layer, and in the loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_sdk import pocket
from edge_sdk.config import PersonalizeConfig
from edge_sdk.images import load_photos
from edge_sdk.personalizer import Prepared, prepare
from edge_sdk.quantization import integer_layers
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.zo import evaluate, held_out_draws

DRAWS = 64  # of the loss, over all timesteps
LAYER_DRAWS = 8  # of the layers' inputs


def prepared(weights: str, execution: str = "integer") -> Prepared:
    """The embedded model as an objective of its bundled photos."""
    model = open_model("pocket", weights, execution)
    return prepare(model, load_photos(pocket.PHOTOS, model.resolution(), True), PersonalizeConfig())


def modules(made: Prepared) -> dict[str, nn.Module]:
    """The parts that run in a forward pass."""
    return {"unet": made.objective.unet, "text_encoder": made.objective.text.model}


def layers(made: Prepared) -> dict[str, Any]:
    """Every integer layer by the name of its part and its own."""
    return {f"{part}.{name}": layer for part, m in modules(made).items() for name, layer in integer_layers(m).items()}


def layer_errors(made: Prepared, reference: Prepared) -> dict[str, float]:
    """Relative error (Frobenius norms) of every integer layer, on the inputs that it has inside the float model."""
    own, squares, handles = layers(made), dict[str, np.ndarray](), []

    def compare(name: str) -> Callable[..., None]:
        def hook(_layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            gap = own[name](inputs[0]) - output
            sums = np.array([gap.double().pow(2).sum(), output.double().pow(2).sum()])
            squares[name] = squares.get(name, 0) + sums

        return hook

    for part, module in modules(reference).items():
        for name, layer in module.named_modules():
            if f"{part}.{name}" in own:
                handles.append(layer.register_forward_hook(compare(f"{part}.{name}")))
    draws = held_out_draws(reference.objective, 0, LAYER_DRAWS, (0, 1000))
    evaluate(reference.objective, reference.initial, draws, LAYER_DRAWS)
    for handle in handles:
        handle.remove()
    assert set(squares) == set(own), "a layer did not run"
    return {name: float(np.sqrt(gap / whole)) for name, (gap, whole) in squares.items()}


def loss_difference(made: Prepared, reference: Prepared, token: np.ndarray) -> float:
    """Relative difference of the mean loss of a token (K, D), signed."""
    draws = held_out_draws(reference.objective, 0, DRAWS, (0, 1000))
    loss, wanted = (float(evaluate(p.objective, token, draws, 16).mean()) for p in (made, reference))
    return loss / wanted - 1
