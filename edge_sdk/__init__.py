"""edge-sdk: on-device personalization of quantized diffusion models with forward passes only.

The names below are loaded when they are first used, so that importing the package loads no PyTorch. Importing it
switches off the telemetry of every library that is loaded later.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from edge_sdk import privacy

privacy.disable_telemetry()
privacy.leave_out_probe()

__version__ = "0.1.0"
__all__ = ["EdgeSdkError", "Personalizer", "__version__", "generate", "load_embedding", "personalize", "quantize"]

# PyTorch's OpenMP threads spin some 3 ms for one another by default, on a busy machine for nothing; here it is a
# thirtieth of that. The setting is read once, when PyTorch is loaded; what the user chose stays.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

_HOME = {
    "EdgeSdkError": "edge_sdk.errors",
    "Personalizer": "edge_sdk.personalize",
    "load_embedding": "edge_sdk.embedding",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")


def personalize(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Learn a token from photos and leave a run folder: `edge_sdk.run_folder.run_personalization`."""
    return importlib.import_module("edge_sdk.run_folder").run_personalization(*args, **kwargs)


def generate(*args: Any, **kwargs: Any) -> Any:
    """Draw pictures from a prompt and learned embeddings: `edge_sdk.generate.generate`."""
    return importlib.import_module("edge_sdk.generate").generate(*args, **kwargs)


def quantize(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Write an integer checkpoint: `edge_sdk.quantize.quantize`."""
    return importlib.import_module("edge_sdk.quantize").quantize(*args, **kwargs)


class _Package(ModuleType):
    """Keeps the three functions when a submodule of the same name is imported, which would otherwise replace them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in ("personalize", "generate", "quantize"):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
