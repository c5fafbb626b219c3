"""The product's own `unlearn` on photos, beside the base and a model that never saw them; a record that goes on."""

import argparse
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import machine, say
from benchmarks.photos.forgetting import Photos, Row, Ruler, measured, opened, pictures_of, table
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import save_png, to_pil
from edge_sdk.system.files import write_json
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.unlearn import Sources, unlearn

BEFORE = "before"
RUNS: dict[str, dict[str, Any]] = {
    "unlearned": {},
    "unlearned, rate 2e-3": {"learning_rate": 2e-3},
    "unlearned, 120 steps": {"max_train_steps": 120},
}


@dataclass(frozen=True)
class Case:
    """One target.

    Attributes:
        name: of the target, in the record.
        retained: what a run is told to keep, (N, 3, H, W); none of the relatives' photos that are measured.
        reference: a model that never saw the target, and what it never saw.
    """

    name: str
    photos: Photos
    retained: np.ndarray
    reference: tuple[str, Model] | None = None


@dataclass(frozen=True)
class Experiment:
    """What all targets have in common.

    Attributes:
        model: the base's folder.
        settings: of every run.
        graph: the ruler's encoder as a file, which runs are given as ``--similarity``.
    """

    model: Path
    prompt: str
    ruler: Ruler
    graph: Path
    settings: dict[str, Any]
    work: Path

    def forget(self, case: Case, name: str) -> tuple[Model, Row]:
        """The model after a run of the product, and what the run's own record says."""
        folder, kept = self.work / f"{case.name} {name}", self.work / "kept"
        for old in (folder, kept):
            shutil.rmtree(old, ignore_errors=True)
        target = write_pictures(case.photos.target, self.work / "target")
        sources = Sources(str(self.model), target, write_pictures(case.retained, kept), similarity=str(self.graph))
        record = unlearn(sources, folder, UnlearnConfig(prompt=self.prompt, **(self.settings | RUNS[name])))
        scores = [score["to_target"] for score in record["surrogates"][0]]
        about = {"surrogates": len(set(scores)), "nearest_surrogate": max(scores), "seconds": record["seconds"]}
        return opened(folder / "model", self.prompt), about

    def run(self, cases: Iterable[Case], names: list[str], record: dict[str, Any], output: Path) -> None:
        """Measure what is not in the record yet; it is written after every row."""
        base = opened(self.model, self.prompt)
        for case in cases:
            known = {row["model"] for row in record["rows"] if row["target"] == case.name}
            wanted = [BEFORE, *names, *([case.reference[0]] if case.reference else [])]
            if known.issuperset(wanted):
                continue
            before = pictures_of(base, case.photos)
            for name in wanted:
                if name in known:
                    continue
                model, about = base, {}
                if case.reference is not None and name == case.reference[0]:
                    model = case.reference[1]
                elif name != BEFORE:
                    try:
                        model, about = self.forget(case, name)
                    except EdgeSdkError as error:  # such as that the model does not know the photo
                        record.setdefault("refused", {})[f"{case.name}, {name}"] = str(error)
                        print(f"{case.name}, {name}: {error}", flush=True)
                        continue
                after = before if name == BEFORE else pictures_of(model, case.photos)
                row = measured(after, before, case.photos, self.ruler)
                record["rows"].append({"model": name, "target": case.name, **row, **about})
                write_json(output, record)
                found = f"similarity {row['encoder']['target']:.3f}, drift {row['encoder']['drift']:.3f}"
                print(f"{case.name}, {name}: {found}", flush=True)


def add_arguments(parser: argparse.ArgumentParser, model: str, work: str, output: str) -> None:
    parser.add_argument("--model", type=Path, default=Path("benchmarks/work") / model)
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work") / work)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[next(iter(RUNS))])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results") / output)


def begun(output: Path, command: str, **about: Any) -> dict[str, Any]:
    """The record of an output, with what is known of this command in place."""
    record: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"commands": [], "rows": []}
    return record | {
        "date": date.today().isoformat(),
        "machine": machine(),
        "commands": [*record["commands"], command],
        **about,
    }


def report(record: dict[str, Any], output: Path) -> None:
    record["rows"].sort(key=lambda row: row["model"] != BEFORE)
    write_json(output, record)
    say(table(record["rows"]), "; ".join(record["commands"]), output)


def write_pictures(photos: np.ndarray, folder: Path) -> Path:
    """Photos (N, 3, H, W) as a folder of PNG files, for the product's own reader."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(photos):
        save_png(to_pil(pixels), folder / f"{number:04d}.png")
    return folder
