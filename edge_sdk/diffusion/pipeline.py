"""What ``model_index.json`` says of a model: the class of its pipeline and those of its components.

diffusers loads a component as the class that the index names, whatever the component's own config says. Classes of
other libraries, such as code that lies in the folder, are never loaded: there the component's config alone counts.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError, one_line

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers", "onnxruntime")
# Pipelines that draw from a prompt, or from a prompt and a picture, with the same components and nothing beside them.
STABLE_DIFFUSION = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionKDiffusionPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "LatentConsistencyModelPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
)
STABLE_DIFFUSION_XL = (
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLKDiffusionPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableDiffusionXLPAGImg2ImgPipeline",
)
_LEAST_SIDE = 64  # latents a side of Stable Diffusion
_VERSION = re.compile(r"(\d+)\.(\d+)")


def check_pipeline(
    folder: Path, index: dict[str, Any], accepted: Collection[str], supported: str, verdict: str = "is not supported"
) -> None:
    """Check the class of a pipeline; an index that names none, or one of its own code (a list), is accepted.

    Args:
        supported: what is supported, in words.
        verdict: on other classes.

    Raises:
        EdgeSdkError: it is another one, which is named.
    """
    kind = index.get("_class_name")
    if not (kind is None or isinstance(kind, list) or kind in accepted):
        raise EdgeSdkError(f"{folder / INDEX} is of a {one_line(kind, 80)}, which {verdict}; supported are {supported}")


def component_class(index: dict[str, Any], name: str) -> str | None:
    """The class of diffusers or transformers that the index names of a component; None if it does not name one."""
    entry = index.get(name)
    if isinstance(entry, list) and len(entry) == 2 and entry[0] in LIBRARIES and entry[1] is not None:
        return str(entry[1])
    return None


def check_component(folder: Path, index: dict[str, Any], name: str, wanted: str, supported: str) -> None:
    """Raises EdgeSdkError if the index says that a component is absent or of another class than ``wanted``."""
    kind = component_class(index, name)
    if kind not in (None, wanted):
        raise EdgeSdkError(f"{folder / name} is a {one_line(kind, 80)}; supported is {wanted} ({supported})")
    if index.get(name, "absent") in (None, [None, None]):
        raise EdgeSdkError(
            f"{folder} has no {name}, by its {INDEX}; supported are whole diffusers folders of {supported}"
        )


def corrected_unet(config: dict[str, Any]) -> dict[str, Any]:
    """The config of Stable Diffusion's denoiser (1.x, 2.x), corrected as diffusers' pipeline does on loading it.

    Files of versions before 0.9 had a ``sample_size`` of 32, which nothing read.
    """
    side, version = config.get("sample_size"), _VERSION.match(str(config.get("_diffusers_version", "")))
    is_old = version is not None and (int(version[1]), int(version[2])) < (0, 9)
    if is_old and isinstance(side, int) and side < _LEAST_SIDE:
        return config | {"sample_size": _LEAST_SIDE}
    return config


def square_side(sides: Any) -> int | None:
    """The ``sample_size`` of a config, a number or a pair of equal ones; None if it is neither."""
    if isinstance(sides, list | tuple) and len(sides) == 2 and sides[0] == sides[1]:
        sides = sides[0]
    return sides if isinstance(sides, int) and not isinstance(sides, bool) else None
