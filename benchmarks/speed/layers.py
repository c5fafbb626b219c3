"""Single layers of a denoiser, integer beside float: time and error on the inputs that they have in the model."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.lib.models import timed
from benchmarks.lib.report import markdown, spread


def measure(
    unet: nn.Module,
    ours: dict[str, nn.Module],
    inputs: tuple[torch.Tensor, ...],
    count: int,
    rounds: int,
    device: str,
    set_heap: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Time the ``count`` shapes of layers that have most multiplications.

    Args:
        unet: the float denoiser of diffusers.
        ours: case -> a denoiser with integer layers of the same names.
        rounds: repeats, in which float and ours take turns; one more is left out.
        set_heap: called with the case's name before each time is taken.
    """
    shapes = most_used(unet, inputs)
    work = sum(shape["multiplications"] * shape["count"] for shape in shapes)
    rows = []
    for shape in shapes[:count]:
        x, layer = shape["input"], unet.get_submodule(shape["name"])
        runs: dict[str, Callable[[], torch.Tensor]] = {"float32": _float(layer, x)}
        runs |= {name: _bound(model.get_submodule(shape["name"]), x) for name, model in ours.items()}
        times: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        for _ in range(rounds + 1):
            for name, run in runs.items():
                set_heap(name)
                times[name].append(timed(run, device))
        wanted = runs["float32"]()
        row = {key: shape[key] for key in ("layer", "name", "count", "multiplications")}
        row["share"] = shape["multiplications"] * shape["count"] / work
        row["cases"] = {
            name: {
                **{f"{key}_ms": spread([1e3 * t[key] for t in taken[1:]]) for key in ("wall", "cpu")},
                "relative_error": relative_error(runs[name](), wanted),
            }
            for name, taken in times.items()
        }
        rows.append(row)
    return rows


def most_used(unet: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[dict[str, Any]]:
    """The distinct shapes of linear layers and convolutions, most multiplications in the model first.

    Each with the name and the input of the first layer that has it.
    """
    found: dict[str, dict[str, Any]] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            label, x = _label(layer, arguments[0]), arguments[0]
            if label not in found:
                each = layer.weight.numel() * output.numel() // layer.weight.shape[0]  # type: ignore[union-attr, operator]
                found[label] = {"layer": label, "name": name, "count": 0, "multiplications": each, "input": x}
            found[label]["count"] += 1

        return hook

    hooks = [
        module.register_forward_hook(look(name))
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    unet(*inputs)
    for hook in hooks:
        hook.remove()
    return sorted(found.values(), key=lambda shape: -shape["multiplications"] * shape["count"])


def _label(layer: nn.Module, x: torch.Tensor) -> str:
    if isinstance(layer, nn.Conv2d):
        stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
        sizes = f"{layer.in_channels} to {layer.out_channels} at {x.shape[2]}x{x.shape[3]}"
        return f"convolution {layer.kernel_size[0]}x{layer.kernel_size[1]}, {sizes}{stride}"
    return f"linear, {x.numel() // x.shape[-1]} rows, {layer.in_features} to {layer.out_features}"


def _float(layer: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """PyTorch's function on the weight, channels last for a convolution."""
    weight, bias = layer.weight, layer.bias
    if not isinstance(layer, nn.Conv2d):
        return lambda: F.linear(x, weight, bias)  # type: ignore[arg-type]
    last = weight.contiguous(memory_format=torch.channels_last)  # type: ignore[operator]
    image = x.contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(image, last, bias, layer.stride, layer.padding)  # type: ignore[arg-type]


def _bound(layer: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    image = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    return lambda: layer(image)


def relative_error(value: torch.Tensor, wanted: torch.Tensor) -> float:
    """Euclidean norm of the difference over that of ``wanted``."""
    return float((value.float() - wanted).norm() / wanted.norm())


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: milliseconds, times those of float32, relative error."""
    names = [name for name in rows[0]["cases"] if name != "float32"]
    head = ["layer", "in the model", "of its multiplications", "float32, ms", *names]
    lines = []
    for row in rows:
        base = row["cases"]["float32"]["wall_ms"]["median"]
        cells = [f"{base:.1f}"]
        for name in names:
            case = row["cases"][name]
            ms = case["wall_ms"]["median"]
            cells.append(f"{ms:.1f} ({ms / base:.2f}x), error {100 * case['relative_error']:.2g} %")
        lines.append([row["layer"], f"{row['count']}x", f"{100 * row['share']:.0f} %", *cells])
    return markdown(head, lines)
