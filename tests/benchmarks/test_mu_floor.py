"""The variants of the benchmark of mu take their activation scales as they say."""

import pytest
import torch

from benchmarks.quality.mu_floor import scales
from edge_sdk.quantization import IntLinear


@pytest.mark.parametrize(
    ("kind", "largest"), [("pair", [[4.0], [2.0], [4.0], [2.0]]), ("sample", [[3.0], [3.0], [4.0], [4.0]])]
)
def test_scales_are_shared_as_a_variant_says(kind: str, largest: list[list[float]]) -> None:
    layer = IntLinear.from_float(torch.nn.Linear(2, 2, bias=False), "int8", "integer")
    layer.q.copy_(torch.eye(2))
    layer.scale.fill_(1.0)
    layer.activation_bits = 8
    x = torch.tensor([[3.0, 0.4], [1.0, 0.7], [4.0, 0.9], [2.0, 0.3]])  # two tokens of one side, then of the other
    step = torch.tensor(largest) / 127
    with scales(kind):
        shared = layer(x)
    torch.testing.assert_close(shared, (x / step).round() * step)
    assert not torch.equal(shared, layer(x))  # a scale for every row again
