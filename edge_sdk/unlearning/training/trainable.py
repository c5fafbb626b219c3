"""A frozen module, and the same module computed with other weights: trained ones, or adapters beside them.

The base weights are never changed, so the base model is there at any time, as a teacher and for measurements. Weights
are functions of what is trained, W = W0 + B A for adapters (LoRA, Hu et al., 2022), and come in *forms*: as they are
("none"), or rounded as an integer checkpoint of "int8" or "int4" will hold them, with gradients passed straight
through. Adapters inside rounded weights are what peft does not offer; the files written are peft's, see `patch.py`.

By default layers in residual branches are trained. All that a model does passes through the others (the first and the
last layer, shortcuts, changes of resolution): training them moves everything else and forgets hardly more, and rounding
them anew moves it again. That is our measurement.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization.quanto import group_size, int4_weight, int8_weight
from edge_sdk.zo.noise import LORA_A, normals

TARGETS = (nn.Linear, nn.Conv2d)  # what is rounded, and what gets adapters
SMALL = 1 << 13  # elements; layers below this get no adapters: there they would save nothing
BRANCH = re.compile(r"(?:^|\.)(?:resnets|attentions|transformer_blocks)\.(?!.*conv_shortcut)")  # diffusers' names


class Trainable:
    """What is trained of a module, and how the module runs with it.

    Args:
        module: stays as it is; eval mode, float32.
        which: the layers that are trained: the weights of those in residual "branches", or "all" with everything else
            that the module has.
        lora_rank: 0: weights are trained; else adapters of this rank on those layers.

    Attributes:
        layers: name -> linear layer or convolution, which are rounded.
        parameters: name -> leaf tensor; for adapters "LAYER.lora_A" (r, K...) and "LAYER.lora_B" (N, r).
    """

    def __init__(self, module: nn.Module, which: str = "branches", lora_rank: int = 0, seed: int = 0) -> None:
        self.module = module.eval().requires_grad_(False)
        self.lora_rank = lora_rank
        self.layers = layers_of(module)
        if lora_rank:
            trained = dict(_adapters(trained_layers(module, which, True), lora_rank, seed))
        else:
            trained = trained_weights(module, which)
        self.parameters = {name: value.detach().clone().requires_grad_(True) for name, value in trained.items()}
        if not self.parameters:
            raise EdgeSdkError("the model has no layer to train in this way; use --layers all, without --lora_rank")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module with what is trained in place, unrounded."""
        return self.through("none")(*args, **kwargs)

    def through(self, form: str) -> Callable[..., Any]:
        """The module with what is trained in place, in a form of its weights."""
        return lambda *args, **kwargs: functional_call(self.module, self._computed(form), args, kwargs)

    def frozen(self, form: str = "none") -> Callable[..., Any]:
        """The module with the weights as they are now, computed once; for measurements."""
        with torch.no_grad():
            weights = {name: value.detach() for name, value in self._computed(form).items()}
        return lambda *args, **kwargs: functional_call(self.module, weights, args, kwargs)

    def merged(self) -> dict[str, torch.Tensor]:
        """The weights that differ from the base model's, by name, float32 and not rounded."""
        with torch.no_grad():
            return {name: value.detach() for name, value in self._unrounded()}

    def _unrounded(self) -> Iterator[tuple[str, torch.Tensor]]:
        if not self.lora_rank:
            yield from self.parameters.items()
            return
        for name, layer in self.layers.items():
            if f"{name}.lora_A" in self.parameters:
                a, b = self.parameters[f"{name}.lora_A"], self.parameters[f"{name}.lora_B"]
                yield f"{name}.weight", layer.weight + (b @ a.flatten(1)).view_as(layer.weight)

    def _computed(self, form: str) -> dict[str, torch.Tensor]:
        weights = dict(self._unrounded())
        if form == "none":
            return weights
        for name, layer in self.layers.items():
            weight = weights.get(f"{name}.weight", layer.weight)
            weights[f"{name}.weight"] = weight + (rounded(weight.detach(), form) - weight.detach())
        return weights


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    """What is rounded, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, TARGETS) and getattr(layer, "groups", 1) == 1
    }


def trained_layers(module: nn.Module, which: str, as_adapters: bool) -> dict[str, nn.Module]:
    """Those of "all" layers, or of those in "branches", that are trained; adapters only where they save anything."""
    return {
        name: layer
        for name, layer in layers_of(module).items()
        if (which == "all" or BRANCH.search(name)) and (not as_adapters or layer.weight.numel() >= SMALL)
    }


def trained_weights(module: nn.Module, which: str) -> dict[str, torch.Tensor]:
    """What is trained without adapters, by name."""
    if which == "all":
        return dict(module.named_parameters())
    return {f"{name}.weight": layer.weight for name, layer in trained_layers(module, which, False).items()}


def in_form(module: nn.Module, form: str) -> Callable[..., Any]:
    """A module as it is, with its weights in a form; only rounded ones take memory."""
    if form == "none":
        return module
    weights = {f"{name}.weight": rounded(layer.weight.detach(), form) for name, layer in layers_of(module).items()}
    return lambda *args, **kwargs: functional_call(module, weights, args, kwargs)


def rounded(weight: torch.Tensor, as_weights: str) -> torch.Tensor:
    """A layer's weight (N, K) or (N, C, kh, kw) as an integer checkpoint of "int8" or "int4" would hold it.

    An odd number of inputs, as of a first layer on three colours, is always int8: two of int4 fill a byte.
    """
    matrix = weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)
    if as_weights == "int8" or matrix.shape[1] % 2:
        q, scale = int8_weight(matrix)
        out = q * scale[:, None]
    else:
        q, zero, multiplier, scale = int4_weight(matrix)
        size = (len(q), -1, group_size(q.shape[1]))
        steps = (q.view(size).float() - zero[:, :, None]) * multiplier[:, :, None]
        out = steps.flatten(1) * scale[:, None]
    if weight.dim() == 2:
        return out
    n, c, kh, kw = weight.shape
    return out.view(n, kh, kw, c).permute(0, 3, 1, 2).contiguous()


def _adapters(layers: dict[str, nn.Module], rank: int, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """A with small random numbers, B zero, so that nothing changes at first."""
    for index, (name, layer) in enumerate(layers.items()):
        weight = layer.weight
        shape = (rank, *weight.shape[1:])
        values = normals(seed, LORA_A.stream, LORA_A.at(index), shape) / weight[0].numel() ** 0.5
        yield f"{name}.lora_A", torch.from_numpy(values).to(weight.device)
        yield f"{name}.lora_B", torch.zeros(len(weight), rank, device=weight.device)
