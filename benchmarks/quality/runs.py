"""Runs on people, one record each, so that a command that was stopped goes on where it was."""

import json
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine
from benchmarks.quality.configurations import Config
from benchmarks.quality.learn import Bench, Run, learn
from benchmarks.quality.measure import losses
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import keep_heap


class Record:
    """A results file that grows with every configuration: ``results[name]["runs"]`` is a list of subjects and seeds."""

    def __init__(self, path: Path, command: str, **about: Any) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"commands": [], "results": {}}
        self.values |= {"date": date.today().isoformat(), "machine": machine(), **about}
        if command not in self.values["commands"]:
            self.values["commands"].append(command)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        return self.values["results"]

    def missing(self, name: str, runs: Iterable[Run]) -> list[Run]:
        """Those of some runs that a configuration has no record of."""
        known = {(row["subject"], row["seed"]) for row in self.results.get(name, {}).get("runs", [])}
        return [run for run in runs if run not in known]

    def keep_only(self, name: str, settings: dict[str, Any]) -> None:
        """Forget a configuration that was measured with other settings."""
        if self.results.get(name, {}).get("settings", settings) != settings:
            del self.results[name]

    def add(self, name: str, rows: list[dict[str, Any]], **about: Any) -> None:
        """Add a configuration's rows, and write the file."""
        result = self.results.setdefault(name, {"runs": []}) | about
        result["runs"] = sorted(result["runs"] + rows, key=lambda row: (row["subject"], row["seed"]))
        self.results[name] = result
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.values)


def measured(config: Config, bench: Bench, runs: Sequence[Run], curve: bool = False) -> list[dict[str, Any]]:
    """Learn a token in each run and measure its loss.

    Args:
        curve: also measure the tokens of the milestones; a row then has ``curve``, the loss at each.
    """
    keep_heap()  # takes half of the processor's time; memory is not measured here
    tokens, forwards = learn(config, bench, runs)
    rows = losses(bench, tokens[-1], runs)
    if curve:
        before = [losses(bench, t, runs) for t in tokens[:-1]]
        for i, row in enumerate(rows):
            row["curve"] = {"forwards": forwards, "loss": [*(each[i]["loss"] for each in before), row["loss"]]}
    return rows
