"""What is said of a runtime that is not here."""

from typing import Any

from edge_sdk.export import verify


def test_core_ml_names_where_it_runs_and_no_folder() -> None:
    bundle: Any = None  # which is not looked at
    assert str(verify.coreml(bundle, [])) == "Core ML: not here (runs on Apple devices only)"
