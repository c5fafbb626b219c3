"""edge-sdk: on-device personalization of quantized diffusion models with forward passes only.

The names below are loaded when they are first used, so that importing the package loads no PyTorch. Importing it
switches off the telemetry of every library that is loaded later.
"""

import importlib
import os
from typing import TYPE_CHECKING

from edge_sdk._version import __version__
from edge_sdk.system import privacy

privacy.disable_telemetry()
privacy.leave_out_probe()

if TYPE_CHECKING:
    from edge_sdk.embedding import LearnedEmbedding, load_embedding
    from edge_sdk.errors import EdgeSdkError
    from edge_sdk.generation import generate
    from edge_sdk.integer_checkpoint import quantize
    from edge_sdk.learning import Learning
    from edge_sdk.personalizer import Personalizer
    from edge_sdk.run_folder import run_personalization as personalize

__all__ = [
    "EdgeSdkError",
    "LearnedEmbedding",
    "Learning",
    "Personalizer",
    "__version__",
    "generate",
    "load_embedding",
    "personalize",
    "quantize",
]

# PyTorch's OpenMP threads spin some 3 ms for one another by default, on a busy machine for nothing; here it is a
# thirtieth of that. The setting is read once, when PyTorch is loaded; what the user chose stays.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

_HOME = {
    "EdgeSdkError": "edge_sdk.errors:EdgeSdkError",
    "LearnedEmbedding": "edge_sdk.embedding:LearnedEmbedding",
    "Learning": "edge_sdk.learning:Learning",
    "Personalizer": "edge_sdk.personalizer:Personalizer",
    "generate": "edge_sdk.generation:generate",
    "load_embedding": "edge_sdk.embedding:load_embedding",
    "personalize": "edge_sdk.run_folder:run_personalization",
    "quantize": "edge_sdk.integer_checkpoint:quantize",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'edge_sdk' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
