"""What a run leaves: a patch (adapters in peft's form, or differences of weights) and the whole repaired model."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from edge_sdk.diffusion.pipeline import INDEX
from edge_sdk.diffusion.weight_files import chosen_file, is_index, weight_files
from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.system.files import SHIPPED, write_json
from edge_sdk.system.json import read_json
from edge_sdk.system.schema import Many, Maybe, check
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.place import read_index
from edge_sdk.unlearning.tensor_files import save_tensors
from edge_sdk.unlearning.training.trainable import Trainable

DELTA = "delta.safetensors"
REQUESTS = "unlearned.json"  # of a repaired model: the records of all its requests, the oldest first
_REQUESTS = {"requests": Many({"salt": str, "targets": Many(str, 1), "config": Maybe({"prompt": Maybe(str)})})}
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
COPIED = (".json", ".txt", ".model", ".md")  # beside the weights of other parts


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
    write_json(
        folder / ADAPTER_CONFIG,
        {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": layers,
            "inference_mode": True,
        },
        SHIPPED,
    )


def write_model(folder: Path, denoiser: Denoiser, changed: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """The whole model with changed weights in place, in a new folder of the base's layout; other parts are copied.

    Of weights only those that are loaded: other variants of a denoiser, or the whole model in one file, would still
    know the targets.
    """
    source, part = denoiser.folder, denoiser.place.part
    for path in copied(source, part):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    state = {name: changed.get(name, value).cpu().contiguous() for name, value in denoiser.module.state_dict().items()}
    save_tensors(state, folder / part / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    write_json(folder / REQUESTS, record, SHIPPED)


def copied(source: Path, part: str) -> list[Path]:
    """What a repaired model has of the base as it is, relative to its folder; ``part`` is the denoiser's own.

    Raises:
        EdgeSdkError: a part's weights cannot be used.
    """
    parts = _parts(source, part)
    beside = [*source.iterdir(), *(path for folder in parts for path in folder.rglob("*"))]
    files = [path for path in beside if path.suffix in COPIED and not is_index(path.name)]
    for folder in parts:
        if folder != source / part and any(folder.glob("*.safetensors")):
            files += {*weight_files(folder), chosen_file(folder)}
    relative = (path.relative_to(source) for path in files if path.is_file())
    return sorted(path for path in relative if not any(name.startswith(".") for name in path.parts))


def _parts(source: Path, part: str) -> list[Path]:
    """The folders of a model's parts: those that its index names, or all where it has none.

    Raises:
        EdgeSdkError: the index is damaged.
    """
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not (source / INDEX).exists():
        return folders
    entries = read_index(source).items()
    named = {name for name, entry in entries if isinstance(entry, list) and any(entry)}
    return [path for path in folders if path.name in named | {part}]


def requests_of(folder: Path) -> list[dict[str, Any]]:
    """The records of the requests that a model has been through, the oldest first; none of a model that has not.

    Raises:
        EdgeSdkError: they are there, but damaged: nothing is known of what must stay forgotten.
    """
    path = folder / REQUESTS
    if not path.exists():
        return []
    try:
        record = read_json(path, "take it again")
        check(record, _REQUESTS)
        requests: list[dict[str, Any]] = record["requests"]
        for number, request in enumerate(requests):
            if not all(_HEX.fullmatch(text) for text in (request["salt"], *request["targets"])):
                raise ValueError(f"requests.{number} has a salt or a target that is no hash")
        return requests
    except (EdgeSdkError, ValueError) as error:
        raise EdgeSdkError(
            f"{path}, the record of what this model has forgotten, is damaged ({one_line(error, 120)}); "
            "take the folder again as unlearn wrote it"
        ) from error
