"""Runs every method on every target and seed, in several processes, and writes what they found."""

import argparse
import functools
import itertools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.unlearning import plain
from benchmarks.report import machine, say
from benchmarks.unlearning import RUNS, VARIANTS
from benchmarks.unlearning.cases import OUTLIER, Case, make_case
from benchmarks.unlearning.compare import PICTURES, comparison, costs, keep, plot, plot_losses, run_of, show
from benchmarks.unlearning.faces import ANYONE
from benchmarks.unlearning.harness import OURS, run
from benchmarks.unlearning.ruler import Ruler
from edge_sdk import model_files
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import write_json
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import load_denoiser

FEWER = {"retain_batch": 32}  # pictures of the other methods; `Stepper` turns off the rest that is ours
CASE = ("prompt", "surrogate", "num_surrogates", "edit_strength", "surrogate_tries", "max_target_similarity",
        "max_retained_similarity", "max_background_change")  # settings that make a case's surrogates  # fmt: skip
ADMITTED = {"max_retained_similarity": 1.0, "surrogate_tries": 64}  # an edit may be like a retained person

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One method on one target with one seed, over strengths and learning rates."""

    model: Path
    reference: Path | None
    device: str
    person: int
    seed: int
    method: str
    name: str  # of the method with its settings
    runs: tuple[tuple[float, float], ...]  # strength and learning rate of each
    steps: int
    own: tuple[tuple[str, Any], ...]  # settings in place of the benchmark's
    pictured: bool  # whether pictures of the last run, the strongest, are kept

    def config(self, learning_rate: float) -> UnlearnConfig:
        given = {"prompt": ANYONE, "max_train_steps": self.steps, "seed": self.seed, **ADMITTED}
        fewer = {} if self.method == OURS else FEWER
        return UnlearnConfig.from_options(**(given | fewer | dict(self.own) | {"learning_rate": learning_rate}))


def perform(task: Task) -> tuple[Row, list[Row]]:
    """The base's row, and one for each run; pictures go to a folder of work."""
    config = task.config(task.runs[0][1])
    wanted = UnlearnConfig(**{name: getattr(config, name) for name in CASE})
    base, case, ruler = prepared(task.model, task.reference, task.device, task.person, wanted)
    rows = []
    for strength, rate in task.runs:
        row, shown = run(base, case, ruler, task.method, strength, task.config(rate))
        rows.append({"strength": strength, "learning_rate": rate, **row})
    if task.pictured:
        keep(task.model, f"{task.person} target", np.concatenate([case.target.pixels, ruler.shown(base)]))
        keep(task.model, f"{task.person} {task.name}", shown)
    return ruler.base_row, rows


@functools.lru_cache(maxsize=2)
def prepared(
    model: Path, reference: Path | None, device: str, person: int, wanted: UnlearnConfig
) -> tuple[Model, Case, Ruler]:
    denoiser = load_denoiser(str(model), device=device)
    base = Model(denoiser, denoiser.module, denoiser.condition(ANYONE))
    never = None
    if reference is not None:
        other = load_denoiser(str(reference), device=device)
        never = Model(other, other.module, other.condition(ANYONE))
    case = make_case(denoiser, person, wanted)
    return base, case, Ruler(base, case, ANYONE, never)


def run_all(args: argparse.Namespace, command: str) -> None:
    """Measure what is not measured yet, then compare."""
    for folder in (args.model, args.reference):
        if folder is not None and not folder.is_dir():
            raise EdgeSdkError(
                f"there is no folder {folder}; make it with python -m benchmarks.unlearning.ddpm or .sd3"
            )
    if "ESD" in args.methods and not (args.model / "text_encoder").is_dir():
        raise EdgeSdkError(f"ESD forgets what a caption says, and {args.model} reads none; leave it out of --methods")
    record: dict[str, Any] = {"commands": [], "rows": [], "base": {}}
    if args.resume and args.output.exists():
        record = json.loads(args.output.read_text())
    tasks = _tasks(args, record["rows"])
    settings = {task.name: settings_of(task) for task in tasks}
    refuse_other_runs(record, args.output, model_files.fingerprint(args.model), settings)
    record["date"] = date.today().isoformat()
    here = {**machine(), "device": args.device}
    record["machines"] = [*(m for m in record.get("machines", []) if m != here), here]
    record["commands"] = [*record["commands"], command]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.output, record)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, context, torch.set_num_threads, (1,)) as pool:
        waiting = {pool.submit(perform, task): task for task in tasks}
        for future in as_completed(waiting):
            task = waiting[future]
            base, rows = future.result()
            record["base"].setdefault(str(task.person), base)
            record["rows"] += [{"method": task.name, "person": task.person, "seed": task.seed, **row} for row in rows]
            record["rows"].sort(key=lambda r: (r["method"], r["person"], r["seed"], *run_of(r)))
            write_json(args.output, record)
            found = [f"{r['target_similarity']:.3f} at drift {r['drift']:.3f}" for r in rows]
            print(f"{task.person} {task.name} seed {task.seed}: {'; '.join(found)}", flush=True)
    say(f"{comparison(record, OURS)}\n\n{costs(record)}", "; ".join(record["commands"]), args.output)
    plot(record, args.output.with_suffix(".png"))
    plot_losses(record, args.output.with_name(f"{args.output.stem}_by_timestep.png"))
    show(record, PICTURES / args.model.name, args.output.with_name(f"{args.output.stem}_pictures.png"))


def refuse_other_runs(
    record: dict[str, Any], output: Path, model_sha256: str, settings: dict[str, dict[str, Any]]
) -> None:
    """Put the model and the methods' settings into a record; raises EdgeSdkError if it holds runs of others."""
    if record.setdefault("model_sha256", model_sha256) != model_sha256:
        raise EdgeSdkError(f"{output} holds runs of another model; give another --output, or leave out --resume")
    known = record.setdefault("settings", {})
    for name, own in settings.items():
        if differing := [key for key, value in known.get(name, own).items() if own.get(key) != value]:
            raise EdgeSdkError(
                f"{output} holds runs of {name} with another {differing[0]}; give a --label or another --output"
            )
    known |= settings


def settings_of(task: Task) -> dict[str, Any]:
    """What a method's runs are told, but for what their rows say: the seed, the strength and the learning rate."""
    config = task.config(task.runs[0][1])
    told = (config if task.method == OURS else plain(config)).to_dict()
    return {name: value for name, value in told.items() if name not in ("seed", "unlearn_weight", "learning_rate")}


def _tasks(args: argparse.Namespace, rows: list[Row]) -> list[Task]:
    """What is asked for and not measured yet."""
    own = dict(args.set)
    variants = [(m, f"{m}, {args.label}" if args.label else m, own) for m in args.methods]
    if args.variants:
        variants = [(OURS, name, own | changed) for name, changed in VARIANTS[args.variants].items()]
    done = {(r["method"], r["person"], r["seed"], *run_of(r)) for r in rows}
    people = args.targets if args.reference is None else [OUTLIER]
    tasks = []
    for person, seed, (method, name, settings) in itertools.product(people, range(args.seeds), variants):
        every = _runs(method, args.strengths, settings.get("learning_rate"))
        asked = [run for run in every if args.rates is None or run[1] in args.rates]
        if runs := tuple(run for run in asked if (name, person, seed, *run) not in done):
            pictured = seed == 0 and runs[-1] == every[-1]
            tasks.append(Task(args.model, args.reference, args.device, person, seed, method, name, runs, args.steps,
                              tuple(settings.items()), pictured))  # fmt: skip
    return tasks


def _runs(method: str, strengths: list[float] | None, rate: float | None) -> list[tuple[float, float]]:
    """Strength and learning rate of each run of a method, of its own or given."""
    return list(dict.fromkeys((s, rate or r) for own, r in RUNS[method] for s in strengths or [own]))
