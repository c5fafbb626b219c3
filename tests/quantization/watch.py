"""The guarantee, watched: while an integer layer runs, no float tensor of its weight's size may come to exist."""

from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from edge_sdk.quantization.layers import integer_layers


class WeightWatch(TorchDispatchMode):
    """A context in which every tensor that any operator creates is looked at.

    Every parametrized layer is watched: integer layers by their weight's number of elements, and float Linear and
    Conv2d layers are themselves a violation. Choose inputs whose own activations do not have as many elements.

        with WeightWatch(unet) as watch:
            unet(...)
        watch.violations  # [] if no float weight existed
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.violations: list[str] = []
        self.tensors_seen = 0
        self._running: list[tuple[str, int]] = []
        self._sizes = {name: layer.elements for name, layer in integer_layers(module).items()}
        self._hooks = []
        for name, child in module.named_modules():
            if name in self._sizes:
                self._hooks.append(child.register_forward_pre_hook(self._enter(name)))
                self._hooks.append(child.register_forward_hook(self._leave))
            elif isinstance(child, (nn.Linear, nn.Conv2d)):
                self.violations.append(f"{name} holds a float weight")

    def _enter(self, name: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, _args: Any) -> None:
            self._running.append((name, self._sizes[name]))

        return hook

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            self.tensors_seen += 1
            for name, size in self._running:  # layers of one input run together
                if tensor.is_floating_point() and tensor.numel() == size:
                    self.violations.append(f"{name}: {func} made a float tensor {tuple(tensor.shape)}")
        return out

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(kind, value, trace)
