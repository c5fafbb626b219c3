"""The example notebook runs from its first cell to its last, and shows what it showed when it was written."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_sdk.learning import Learning

NOTEBOOK = Path(__file__).parents[1] / "edge_sdk/examples/personalize.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line if that is an expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return eval(compile(last, str(NOTEBOOK), "eval"), names) if last else None


def test_every_cell_runs_and_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    shown = [(run_cell("".join(cell["source"]), names), cell["outputs"][-1].get("data", {})) for cell in cells]
    learning = names["learning"]
    losses = [learning.held_out_losses[step] for step in sorted(learning.held_out_losses)]
    assert losses[-1] < 0.4 * losses[0] and losses == sorted(losses, reverse=True)
    for value, stored in shown:
        assert ("image/png" in stored) == isinstance(value, Image.Image)
        assert ("text/html" in stored) == isinstance(value, Learning)
    (text,) = ("".join(stored["text/plain"]) for _, stored in shown if "text/html" in stored)
    assert [float(x) for x in re.findall(r"0\.\d+", text)][1:] == pytest.approx(losses, rel=0.02)


def test_it_names_no_place_on_a_machine() -> None:
    text = NOTEBOOK.read_text()
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|Users)/|stderr", text) and len(text) < 100_000
