"""How a network rounds on this machine, as a text: if two runs have the same text, one floor of mu holds for both."""

import platform
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from edge_sdk.quantization import gpu, native
from edge_sdk.quantization.kernels import LEVELS, WINOGRAD_LEVELS, has_int8_dot
from edge_sdk.quantization.layers import integer_layers


def arithmetic(modules: Iterable[nn.Module], device: torch.device) -> str:
    """Execution and activation bits of all integer layers, levels of activations, and the library for the products.

    Args:
        modules: networks. device: where they are.
    """
    layers = Counter(
        f"{type(layer).__name__} {layer.execution} {layer.activation_bits}"
        for module in modules
        for layer in integer_layers(module).values()
    )
    if device.type == "cuda":
        kernels = f"{torch.cuda.get_device_name(device)} {torch.version.cuda} {gpu.is_available(device)}"
    else:
        compiled = native.LIBRARY.prefix() if native.library() else f"no library, {has_int8_dot(device)}"
        kernels = f"{platform.machine()} {compiled}"
    levels = sorted(LEVELS.items()), WINOGRAD_LEVELS
    return f"{sorted(layers.items())} {levels} torch {torch.__version__} {kernels}"
