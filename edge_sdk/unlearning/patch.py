"""What a run leaves: a patch (adapters in peft's form, or differences of weights) and the whole repaired model."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import write_json
from edge_sdk.model_files import weight_files
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.tensor_files import save_tensors
from edge_sdk.unlearning.trainable import Trainable

DELTA = "delta.safetensors"
REQUESTS = "unlearned.json"  # of a repaired model: the records of all its requests, the oldest first
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
COPIED = (".json", ".txt", ".safetensors", ".model", ".md")


def write_patch(folder: Path, trainable: Trainable) -> None:
    """Write what was trained into a new folder; it holds no base weight.

    Adapters are files that peft's ``PeftModel.from_pretrained`` reads; all weights are differences, NAME -> float32.
    """
    folder.mkdir(parents=True)
    if not trainable.lora_rank:
        base = dict(trainable.module.named_parameters())
        delta = {name: (value - base[name]).cpu().contiguous() for name, value in trainable.merged().items()}
        save_tensors(delta, folder / DELTA)
        return
    tensors = {}
    for key, value in trainable.parameters.items():
        layer, _, matrix = key.rpartition(".")
        value = value.detach().cpu()
        if matrix == "lora_B" and trainable.parameters[f"{layer}.lora_A"].dim() == 4:
            value = value[:, :, None, None]  # peft has two convolutions, the second of 1 x 1
        tensors[f"base_model.model.{layer}.{matrix}.weight"] = value.contiguous()
    save_tensors(tensors, folder / ADAPTER)
    layers = sorted({key.rpartition(".")[0] for key in trainable.parameters})
    rank = trainable.lora_rank
    write_json(folder / ADAPTER_CONFIG, {
        "peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none",
        "target_modules": layers, "inference_mode": True,
    })  # fmt: skip


def patched_weights(patch: Path, base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a patched model, those that differ, from a patch's folder and the base's weights by name.

    Raises:
        EdgeSdkError: the patch is damaged or of another model.
    """
    try:
        if (patch / DELTA).exists():
            return {name: base[name] + value for name, value in load_file(patch / DELTA).items()}
        tensors = load_file(patch / ADAPTER)
        config = json.loads((patch / ADAPTER_CONFIG).read_text())
        out = {}
        for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
            layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            a, b = tensors[key], tensors[key.replace("lora_A", "lora_B")]
            weight = base[f"{layer}.weight"]
            change = (b.flatten(1) @ a.flatten(1)) * (config["lora_alpha"] / config["r"])
            out[f"{layer}.weight"] = weight + change.view_as(weight)
        return out
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise EdgeSdkError(f"{patch} is not a patch of this model ({' '.join(str(error).split())[:200]})") from error


def write_model(folder: Path, denoiser: Denoiser, changed: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """The whole model with changed weights in place, in a new folder of the base's layout; other parts are copied."""
    source, part = denoiser.folder, denoiser.place.part
    replaced = {path.resolve() for path in weight_files(source / part)}
    for path in sorted(path for path in source.rglob("*") if path.is_file() and path.suffix in COPIED):
        relative = path.relative_to(source)
        if path.resolve() in replaced or any(name.startswith(".") for name in relative.parts):
            continue
        if relative.parent == Path(part) and path.name.endswith(".safetensors.index.json"):
            continue  # of shards, which become one file
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / relative)
    state = {name: changed.get(name, value).cpu().contiguous() for name, value in denoiser.module.state_dict().items()}
    save_tensors(state, folder / part / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    write_json(folder / REQUESTS, record)


def requests_of(folder: Path) -> list[dict[str, Any]]:
    """The records of the requests that a model has been through, the oldest first; none of a model that has not."""
    try:
        found = json.loads((folder / REQUESTS).read_text())["requests"]
        return [entry for entry in found if bytes.fromhex(entry["salt"]) and isinstance(entry["targets"], list)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
