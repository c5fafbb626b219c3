"""A loaded diffusers pipeline as a model: its parts are written into a private folder and quantized from there."""

import re
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.runtime.pytorch.model import Model, open_model

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae", "tokenizer", "tokenizer_2", "scheduler")


def open_pipeline(pipe: object, **settings: Any) -> Model:
    """A Stable Diffusion 1.x, 2.x or XL pipeline as it is in memory, with words that it has learned already.

    The folder is as large as the pipeline's weights and goes with the model. The pipeline is not needed afterwards.

    Args:
        settings: of `edge_sdk.runtime.pytorch.model.open_model`.

    Raises:
        EdgeSdkError: it is no such pipeline, holds adapters, or there is no room for it.
    """
    parts: dict[str, Any] = {name: getattr(pipe, name, None) for name in PARTS}
    parts = {name: part for name, part in parts.items() if part is not None}
    if not {"text_encoder", "unet", "vae", "tokenizer", "scheduler"} <= parts.keys() or not hasattr(pipe, "config"):
        raise EdgeSdkError(
            f"the pipeline is a {type(pipe).__name__}; give a StableDiffusionPipeline or StableDiffusionXLPipeline of "
            "diffusers"
        )
    if adapted := [name for name, part in parts.items() if getattr(part, "peft_config", None)]:
        raise EdgeSdkError(
            f"the pipeline's {adapted[0]} holds adapters such as LoRA; call fuse_lora() and unload_lora_weights() first"
        )
    place = Path(tempfile.mkdtemp(prefix="edge-sdk-"))
    try:
        folder = place / _name(pipe)
        pipe.save_config(folder)  # type: ignore[attr-defined]
        for name, part in parts.items():
            part.save_pretrained(folder / name)
        model = open_model(str(folder), **settings)
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, EdgeSdkError) or not isinstance(error, Exception):
            raise
        raise EdgeSdkError(f"the pipeline cannot be written to {place.parent}: {one_line(error, 300)}") from error
    return replace(model, owned=_Owned(place))


class _Owned:
    """A folder that goes with this object, at the latest when the process ends."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def _name(pipe: Any) -> str:
    """What the pipeline was loaded from, without the place."""
    last = re.split(r"[/\\]", str(getattr(pipe, "name_or_path", "")).rstrip("/\\"))[-1]
    return last if re.fullmatch(r"[\w][\w.-]*", last, re.ASCII) else "pipeline"
