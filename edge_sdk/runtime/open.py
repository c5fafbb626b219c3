"""A model folder or a bundle, opened by the runtime that it is for."""

from pathlib import Path
from typing import Any

from edge_sdk.config import refuse_beside_bundle
from edge_sdk.runtime.base import Runtime


def open_runtime(model: str | None, bundle: str | Path | None, **settings: Any) -> Runtime:
    """A model (by default the embedded one) for PyTorch, or a bundle for ONNX Runtime.

    Args:
        settings: of `edge_sdk.runtime.pytorch.model.open_model`; None is the default.

    Raises:
        EdgeSdkError: it cannot be opened, or a model or settings are given beside a bundle, which has its own.
    """
    if bundle is None:
        from edge_sdk.runtime.pytorch.model import open_model

        return open_model(model or "pocket", **{name: value for name, value in settings.items() if value is not None})
    refuse_beside_bundle(pretrained_model_name_or_path=model, **settings)
    from edge_sdk.runtime.onnx.model import open_bundle

    return open_bundle(bundle)
