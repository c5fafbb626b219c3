"""``run.json`` of another client, held to Python's of the same run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import __version__
from edge_sdk.run_folder import run_personalization

MEASURED = {"seconds", "peak_rss_mb", "peak_anon_mb", "loss_initial", "loss_final", "versions"}


def python_record(photos: Path, folder: Path, bundle: Path, **options: Any) -> dict[str, Any]:
    """The record of Python's run on a bundle, as it lies in the run's folder."""
    run_personalization(photos, folder, bundle=bundle, preview=False, **options)
    return json.loads((folder / "run.json").read_text())


def assert_is_pythons(record: Mapping[str, Any], python: Mapping[str, Any], other: Iterable[str] = ()) -> None:
    """The same entries in the same order, and the same values of all that is neither measured nor named in ``other``.

    An entry that is null was not measured. ``other`` names entries, or settings of ``config``.
    """
    other = {*MEASURED, *other}
    assert list(record) == list(python)
    for name in ("config", "zo", "forwards_of"):
        assert list(record[name]) == list(python[name]), name
        same = [key for key in python[name] if name not in other and key not in other]
        assert {key: record[name][key] for key in same} == {key: python[name][key] for key in same}
    for name in python:
        if name not in {*other, "config", "zo", "forwards_of"}:
            near = pytest.approx(python[name], rel=1e-5) if isinstance(python[name], float) else python[name]
            assert record[name] == near, name
    assert record["versions"]["edge-sdk"] == __version__
    assert record["forwards"] == sum(record["forwards_of"].values())
