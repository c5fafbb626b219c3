"""A bundle and the same weights in PyTorch."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk import Personalizer

Pairs = Callable[[str, str], tuple[Personalizer, Personalizer]]


@pytest.fixture
def pair_of(bundle_of: Callable[[str, str], Path]) -> Pairs:
    """A bundle in ONNX Runtime and the model that it was made of in PyTorch, by family and weights."""

    def made(family: str, weights: str) -> tuple[Personalizer, Personalizer]:
        bundle = bundle_of(family, weights)
        model = "pocket" if family == "pocket" else str(bundle.parent / family)
        return Personalizer.from_bundle(bundle), Personalizer.from_pretrained(model, weights, "fused")

    return made
