"""Integer weights that are never turned back into float ones: made by optimum-quanto, executed by our layers."""

from edge_sdk.quantization.artifact import integer_form, load_component, quantized, save_component, shapes_only
from edge_sdk.quantization.layers import IntConv2d, IntLinear, integer_layers, quantize_module
from edge_sdk.quantization.watch import WeightWatch

__all__ = [
    "IntConv2d",
    "IntLinear",
    "WeightWatch",
    "integer_form",
    "integer_layers",
    "load_component",
    "quantize_module",
    "quantized",
    "save_component",
    "shapes_only",
]
