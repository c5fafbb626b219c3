"""Two versions take turns, and ratios are those of the same round."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import versions


def test_versions_take_turns_and_are_compared_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Fake:
        """The earlier version is slower by as much in every round, while the machine slows down."""

        def __init__(self, tree: Path, case: dict[str, Any]) -> None:
            self.name, self.rounds = tree.name, 0

        def ask(self, what: str) -> dict[str, float]:
            asked.append((self.name, what))
            self.rounds += 1
            return {"seconds": self.rounds * (2.0 if self.name == "old" else 1.0), "noise": 0.001, "signal": 0.01}

        def close(self) -> None:
            asked.append((self.name, "close"))

    monkeypatch.setattr(versions, "Worker", Fake)
    trees = {"before": Path("old"), "now": Path("new")}
    found = versions.measure(trees, {"kind": "forward"}, 3)
    order = [name for name, what in asked if what == "time"]
    assert order == ["old", "new", "new", "old", "old", "new"]
    assert [what for _, what in asked[6:]] == ["noise", "noise", "close", "close"]
    assert found["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5, "n": 3}
    assert "| a pass | 4.000 (2.000-6.000) | 2.000 (1.000-3.000) | 0.50" in versions.table({"a pass": found})
