"""Integer weights that are never turned back into float weights: made by optimum-quanto, executed by our layers.

By default every layer has the execution `integer` with 16-bit activations (14 bits in the 3x3 convolutions that use
Winograd's transform). Floors of mu on the trained embedded model (benchmarks/quality/mu_floor.py), in units of the
vocabulary's standard deviation; the preset `fast` perturbs by 0.4:

- 16 bits: 0.0017 at the initializer and 0.013 at a learned token.
- 8 bits: 0.26 and 1.06. Fused linears (0.13), fused convolutions, fused first and last layers, and scales shared by
  both sides of a difference do not lower the floor enough for the small differences late in a run.
- `fused`: the floor of float activations, for even finer differences.

`difference.py` has a third way: 16 bits for a step's token, and 8 bits for the differences of the other rows from it.
Its error is 3 % of each difference at any mu (benchmarks/quality/differences.py).
"""

from edge_sdk.quantization.checkpoint import (
    integer_form,
    load_component,
    quantized,
    read_checked_header,
    save_component,
    shapes_only,
)
from edge_sdk.quantization.layers import IntConv2d, IntLinear, integer_layers, quantize_module

__all__ = [
    "IntConv2d",
    "IntLinear",
    "integer_form",
    "integer_layers",
    "load_component",
    "quantize_module",
    "quantized",
    "read_checked_header",
    "save_component",
    "shapes_only",
]
