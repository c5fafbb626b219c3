"""Where a model is, by the name that the user gave: a folder, or a single file with a folder of configs beside it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.single_file import SingleFile, is_single_file, open_single_file
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system import privacy


@dataclass(frozen=True)
class Location:
    """A checked model.

    Attributes:
        folder: configs, tokenizers and the schedule, and the weights unless they are in a single file.
        stored: the weights ("int8" or "int4") of an integer checkpoint, None for a float model.
        single_file: what holds the weights, if the folder does not.
    """

    folder: Path
    stored: str | None = None
    single_file: SingleFile | None = None


def locate(name: str, prediction_type: str | None = None, instead: Path | None = None) -> Location:
    """Find and check a model; the network is used for a hub id only.

    Args:
        prediction_type: see `edge_sdk.runtime.pytorch.model.open_model`.
        instead: the folder to take in place of the one of this name.

    Raises:
        EdgeSdkError: no such model, or it is damaged or not supported; or a folder's prediction type is given.
    """
    privacy.stay_offline()
    if is_single_file(name):
        return _locate_single_file(name, prediction_type)
    folder = model_files.find(name) if instead is None else instead
    if prediction_type is not None:
        raise EdgeSdkError(
            f"prediction_type is given, and {name} has it in its scheduler_config.json; leave it out, it is for a "
            "single-file checkpoint (.safetensors)"
        )
    return Location(folder, model_files.check(folder))


def _locate_single_file(name: str, prediction_type: str | None) -> Location:
    """Messages name the file, not the folder of its configs."""
    single_file = open_single_file(name, prediction_type)
    try:
        model_files.check(single_file.folder, single_file.path)
    except EdgeSdkError as error:
        raise EdgeSdkError(str(error).replace(str(single_file.folder), str(single_file.path))) from error
    return Location(single_file.folder, None, single_file)


def weights_fingerprint(folder: Path, single_file: SingleFile | None) -> str:
    """The identity of a model's weights, see `edge_sdk.diffusion.folder.weights_fingerprint`."""
    return model_files.weights_fingerprint(folder) if single_file is None else model_files.fingerprint(single_file.path)


def fingerprint(folder: Path, single_file: SingleFile | None) -> str:
    """The identity of a model, see `edge_sdk.diffusion.folder.fingerprint`."""
    configs = model_files.fingerprint(folder)
    if single_file is None:
        return configs
    return hashlib.sha256(f"{configs} {model_files.fingerprint(single_file.path)}".encode()).hexdigest()
