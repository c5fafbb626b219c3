"""Integer weights that are never turned back into float ones: made by optimum-quanto, executed by our layers.

Which execution a layer has: `integer` with 16-bit activations, every one (14 in the 3x3 convolutions that Winograd's
transform serves). Measured on the trained embedded model (benchmarks/quality/mu_floor.py), the floor that this puts
under mu is 0.0017 of the vocabulary's standard deviation at the initializer and 0.013 at a learned token, and the
preset `fast` perturbs by 0.4 of it. With 8 bits the floors are 0.26 and 1.06 of it; fused linears (0.13), fused
convolutions, fused first and last layers, and scales shared by both sides of a difference do not bring it down to where
the small differences late in a run need it. `fused` has the floor of float activations, and is for what is finer still.

`difference.py` has a third way: 16 bits for a step's token, and 8 for what its other rows differ by from it. Their
error is 3 % of each difference at any mu (benchmarks/quality/differences.py).
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
