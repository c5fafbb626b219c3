"""Unlearning, like with like: every rule as it is published, and through the product's optimizer.

    python -m benchmarks.unlearning.ddpm --with_outlier
    python -m benchmarks.unlearning.like_with_like

A run's change of the weights is measured whole, and scaled so that everyone else's samples drift by `DRIFT`: so rules
are compared at one drift without tuning. Rows are on the disk as soon as they are measured; the same command goes on.
"""

import argparse
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from benchmarks.lib.baselines.shared import FORGET_RULES, SharedStepper, TaughtLosses
from benchmarks.lib.baselines.unlearning import RULES, Rule, Run, Stepper, edited
from benchmarks.lib.report import machine
from benchmarks.unlearning import RUNS
from benchmarks.unlearning.benchmark import ADMITTED
from benchmarks.unlearning.cases import Case, make_case
from benchmarks.unlearning.faces import ANYONE, NUM_PEOPLE
from benchmarks.unlearning.floor import floor
from benchmarks.unlearning.like_with_like_report import DRIFT, PUBLISHED, SHARED, report
from benchmarks.unlearning.ruler import HALF, STEPS, picked
from edge_sdk.diffusion import folder as model_files
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import write_json
from edge_sdk.unlearning.audit import measure
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.losses import DenoisingBatch, Losses
from edge_sdk.unlearning.training.preconditioner import Metric, retained_metric
from edge_sdk.unlearning.training.trainable import Trainable

TARGETS = tuple(range(40, 48))  # people in no earlier result, on whom nothing was chosen
MOST_SCALED = 1.5  # of a run's change, where the whole run drifts by less than the drift of the comparison
SAMPLES, NOISES = 64, 8  # free samples; reconstructions from each timestep
STRENGTHS: dict[str, float] = {}  # through our optimizer, where they are not the product's
PLAIN_RATE = 9e-5  # of rules as published


@dataclass(frozen=True)
class PublishedRule:
    """A rule on plain Adam.

    Attributes:
        own: settings in place of `plain`'s.
        surrogates: settings that make its surrogates.
    """

    rule: Rule
    strength: float
    own: dict[str, Any]


def _published(name: str, method: str) -> PublishedRule:
    return PublishedRule(RULES[method], RUNS[method][-1][0], {})


PUBLISHED_RULES = {
    "naive deletion": _published("naive deletion", "naive deletion"),
    "NegGrad": _published("NegGrad", "NegGrad with retention"),
    "SISS": _published("SISS", "SISS"),
    "EraseDiff": _published("EraseDiff", "EraseDiff"),
    "SalUn": _published("SalUn", "SalUn, ported"),
    "ReTrack": _published("ReTrack", "ReTrack"),
    "edited surrogate": PublishedRule(edited, 1.0, {"timestep_weight": "snr"}),
    "ours": PublishedRule(
        RULES["ReTrack"], 1.0, {"timestep_weight": "responsibility", "surrogate_path": UnlearnConfig().surrogate_path}
    ),
}


class Ruler:
    """What a model that unlearned is measured by, for one target.

    Args:
        drawn: the base's free samples.
    """

    def __init__(self, base: Model, case: Case, drawn: np.ndarray) -> None:
        self.case, self.similarity, self._drawn = case, Similarity(), drawn
        self._others = picked(drawn) != case.person
        x0, settings = case.target.x0, UnlearnConfig(retention="data", prompt=ANYONE)
        self._kept = Losses(base.denoiser, x0, x0[:, None], case.kept.x0, settings)
        self._before = measure.by_bin(*measure.denoising_losses(base, self._kept)).sum()

    def briefly(self, model: Model) -> dict[str, Any]:
        """Forgetting and drift."""
        similarity = self.similarity
        rebuilt = measure.reconstructions(model, self.case.target, noises=NOISES, steps=STEPS)
        own = measure.similarities(similarity, rebuilt, self.case.target.pixels)[0]
        drawn = measure.samples(model, SAMPLES, steps=STEPS)
        return {
            "target_similarity": float(own.mean()),
            "by_timestep": own.mean(axis=1).tolist(),
            "person_in_samples": float((picked(drawn) == self.case.person).mean()),
            "drift": float(measure.drift(similarity, self._drawn, drawn)[self._others].mean()),
        }

    def __call__(self, model: Model) -> dict[str, Any]:
        """The same, the person in unseen views, and the rise of everyone else's held-out loss."""
        seen = measure.reconstructions(model, self.case.unseen, shares=HALF, noises=4, steps=STEPS)
        losses = measure.by_bin(*measure.denoising_losses(model, self._kept))
        return {
            **self.briefly(model),
            "person_in_unseen": float((picked(seen) == self.case.person).mean()),
            "kept_rise": float(losses.sum() / self._before - 1),
        }


class Bench:
    """One model, and what its runs share."""

    def __init__(self, model: Path, retain_batch: int) -> None:
        self.retain_batch = retain_batch
        self.base = opened(model)
        self.drawn = measure.samples(self.base, SAMPLES, steps=STEPS)
        self._taught: dict[tuple[int, int], tuple[dict[bytes, DenoisingBatch], Metric]] = {}
        self._cases: dict[tuple[int, str, int], tuple[Case, Ruler]] = {}

    def case(self, person: int, seed: int, rule: str = "ours") -> tuple[Case, Ruler]:
        """A target with a rule's surrogates; only edits depend on the seed."""
        own = {name: value for name, value in FORGET_RULES[rule].settings.items() if "surrogate" in name}
        surrogate = str(own.get("surrogate", "nearest"))
        place = person, surrogate, seed if surrogate == "edit" else 0
        if place not in self._cases:
            case = make_case(self.base.denoiser, person, settings(seed, **own))
            self._cases[place] = case, Ruler(self.base, case, self.drawn)
        return self._cases[place]

    def run(
        self, rule: str, column: str, person: int, seed: int, strength: float | None = None
    ) -> list[dict[str, Any]]:
        """Unlearn a person by a rule; a row for each scale of the change."""
        case, ruler = self.case(person, seed, rule)
        runner = (self.shared if column == SHARED else self.published)(rule, case, seed, strength)
        for _ in range(runner.config.max_train_steps):
            runner.step()
        whole = measured(self.base, ruler.briefly, runner.trainable, 1.0)
        return [whole, measured(self.base, ruler, runner.trainable, scale_to(DRIFT, whole["drift"]))]

    def shared(self, name: str, case: Case, seed: int, strength: float | None) -> Run:
        rule, weight = FORGET_RULES[name], strength or STRENGTHS.get(name, UnlearnConfig().unlearn_weight)
        x0 = surrogates(case, rule.neighbours)
        config = rule.config(settings(seed, unlearn_weight=weight, retain_batch=self.retain_batch))
        place = (case.person, seed)
        if place not in self._taught:
            losses = Losses(self.base.denoiser, case.target.x0, x0, case.retained.x0, config)
            trainable = Trainable(self.base.denoiser.module, config.layers)
            self._taught[place] = {}, retained_metric(losses, trainable, config.metric_damping)
        lessons, metric = self._taught[place]
        losses = TaughtLosses(self.base.denoiser, case.target.x0, x0, case.retained.x0, config, lessons)
        return SharedStepper(losses, rule, metric)

    def published(self, name: str, case: Case, seed: int, strength: float | None) -> Run:
        rule, neighbours = PUBLISHED_RULES[name], FORGET_RULES[name].neighbours
        weight = strength or rule.strength
        config = settings(seed, unlearn_weight=weight, learning_rate=PLAIN_RATE, retain_batch=self.retain_batch)
        losses = Losses(self.base.denoiser, case.target.x0, surrogates(case, neighbours), case.retained.x0, config)
        return Stepper(losses, rule.rule, own=rule.own)


def settings(seed: int, **own: Any) -> UnlearnConfig:
    return UnlearnConfig.from_options(prompt=ANYONE, seed=seed, **{**ADMITTED, **own})


def surrogates(case: Case, neighbours: int) -> torch.Tensor:
    """x0 (1, S, C, h, w): a case's own, or the retained pictures nearest its target."""
    if not neighbours:
        return case.surrogates
    gaps = torch.cdist(case.target.x0.flatten(1), case.retained.x0.flatten(1))
    return case.retained.x0[gaps[0].topk(neighbours, largest=False).indices][None]


@torch.no_grad()
def measured(
    base: Model, ruler: Callable[[Model], dict[str, Any]], trainable: Trainable, scale: float
) -> dict[str, Any]:
    """A row for the base with a share of what training changed."""
    return {"scale": scale, **ruler(replace(base, call=scaled(trainable, scale)))}


def scale_to(drift: float, whole: float) -> float:
    """What scales a change that drifts by ``whole`` to ``drift``, as drift grows with the square of the scale."""
    return round(min(MOST_SCALED, (drift / max(whole, 1e-9)) ** 0.5), 3)


def scaled(trainable: Trainable, scale: float) -> Callable[..., Any]:
    """The module with a share of what training changed."""
    base = dict(trainable.module.named_parameters())
    weights = {name: base[name] + scale * (value - base[name]) for name, value in trainable.merged().items()}
    return lambda *args, **kwargs: functional_call(trainable.module, weights, args, kwargs)


def missing(args: argparse.Namespace, rows: list[dict[str, Any]]) -> Iterator[tuple[int, str, int, str]]:
    """Seed, column, person and rule of what is not measured yet, in the order of value."""
    done = {(r["seed"], r["column"], r["person"], r["rule"]) for r in rows}
    for seed, column, rule, person in itertools.product(args.seeds, args.columns, args.rules, args.targets):
        stays = (column, rule) == (SHARED, "naive deletion")  # held to its own predictions it is the base
        if not stays and (seed, column, person, rule) not in done:
            yield seed, column, person, rule


def opened(folder: Path) -> Model:
    denoiser = load_denoiser(str(folder))
    return Model(denoiser, denoiser.module, denoiser.condition(ANYONE))


@torch.no_grad()
def retrained_rows(bench: Bench, folder: Path, people: list[int]) -> dict[str, Any]:
    """By target, what a model says that was trained without all of them: where forgetting should end."""
    model = opened(folder)
    return {str(person): bench.case(person, 0)[1](model) for person in people}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("benchmarks/work/faces"), help="what .ddpm wrote")
    parser.add_argument("--targets", nargs="+", type=int, choices=range(NUM_PEOPLE), default=list(TARGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rules", nargs="+", choices=FORGET_RULES, default=list(FORGET_RULES)[::-1])
    parser.add_argument("--columns", nargs="+", choices=(SHARED, PUBLISHED), default=[SHARED, PUBLISHED])
    parser.add_argument("--retrained", type=Path, help="what .ddpm wrote without --with_outlier, for the floor")
    parser.add_argument("--without", type=Path, help="what .ddpm --train --without wrote, without these targets")
    parser.add_argument("--retain_batch", type=int, default=32, help="retained pictures in a step, of every rule")
    parser.add_argument("--strength", type=float, help="of every rule, in place of its own")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/unlearning_like_with_like.json"))
    args = parser.parse_args()
    if not args.model.is_dir():
        raise EdgeSdkError(f"there is no folder {args.model}; make it with python -m benchmarks.unlearning.ddpm")
    record: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {"rows": [], "base": {}}
    sha256 = model_files.fingerprint(args.model)
    if record.setdefault("model_sha256", sha256) != sha256:
        raise EdgeSdkError(f"{args.output} holds runs of another model; give another --output")
    torch.set_num_threads(1)
    record |= {"date": date.today().isoformat(), "machine": machine()}
    command = f"python -m benchmarks.unlearning.like_with_like {shlex.join(sys.argv[1:])}".strip()
    record["commands"] = list(dict.fromkeys([*record.get("commands", []), command]))
    bench = Bench(args.model, args.retain_batch)
    for seed, column, person, rule in missing(args, list(record["rows"])):
        if str(person) not in record["base"]:
            record["base"][str(person)] = bench.case(person, 0)[1](bench.base)
        own = {"rule": rule, "column": column, "person": person, "seed": seed}
        rows = [own | row for row in bench.run(rule, column, person, seed, args.strength)]
        record["rows"] += rows
        write_json(args.output, record)
        last = (f"{row['target_similarity']:.3f} at {row['drift']:.3f} ({row['scale']:g})" for row in rows)
        print(f"{person} {rule}, {column}, seed {seed}: {'; '.join(last)}", flush=True)
    if args.retrained is not None or "floor" not in record:
        other = None if args.retrained is None else opened(args.retrained)
        record["floor"] = floor(bench.base, bench.drawn, other)
    if args.without is not None:
        record["retrained"] = retrained_rows(bench, args.without, args.targets)
    report(record, args.output)
    write_json(args.output, record)


if __name__ == "__main__":
    main()
