"""Forward-only personalization beside backpropagation on people the model has never seen.

    edge-sdk benchmark quality                        # 24 subjects x 3 seeds, all configurations: over an hour
    edge-sdk benchmark quality --subjects 4 --seeds 1 --configs fast-int8-integer backprop-float

Per run: loss on unseen views and unseen draws over all timesteps, the share of the subject's six attributes that the
ruler reads in new pictures, whether it picks the subject out of 12, and whether a prompted background is obeyed.
Intervals are 95 % bootstrap over subjects (the seeds of one subject stay together).
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.backprop import BackpropConfig
from benchmarks.baselines.backprop import train as backprop
from benchmarks.lockstep import Lockstep, View
from benchmarks.pocket.classifier import Classifier, load_classifier
from benchmarks.pocket.people import BACKGROUNDS, held_out_people, render
from benchmarks.pocket.prompts import grid
from benchmarks.report import machine, plot, summarize, table
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.diffusion.stable_diffusion import StableDiffusionObjective, encode_images
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.files import write_json
from edge_sdk.generate import condition, decode, denoise, starting_noise
from edge_sdk.models import Model, open_model
from edge_sdk.zo import PAPER, State, ZoConfig, evaluate, fast, held_out_draws, run

TOKEN = "<subject>"
REFERENCES, UNSEEN = 5, 8  # pictures to learn from, pictures to measure the loss on
LOSS_DRAWS = 64
PLAIN = 4  # pictures of "a picture of <subject>"; one more for each background
PICTURED = 12  # subjects on the sheet of pictures
SAMPLER_STEPS, GUIDANCE = 16, 4.0


@dataclass(frozen=True)
class Config:
    """One way to get a token."""

    name: str
    weights: str
    execution: str
    zo: ZoConfig | None = None
    backprop: BackpropConfig | None = None

    @property
    def forwards(self) -> int:
        """Single-row forward passes; for backpropagation each also has a backward pass."""
        if self.zo is not None:
            return self.zo.max_train_steps * self.zo.forwards_per_step
        return self.backprop.max_train_steps * self.backprop.train_batch_size if self.backprop else 0


def configurations() -> list[Config]:
    """The paper's preset is cut to the forwards of the fast one: its 30,000 steps are 90,000 forwards a run."""
    ours = fast(open_model("pocket", "none").load_text().vocabulary_std())
    paper = replace(PAPER, max_train_steps=ours.max_train_steps * ours.forwards_per_step // PAPER.forwards_per_step)
    executions = [("float", "none", "integer"), ("int8-integer", "int8", "integer"), ("int8-fused", "int8", "fused"),
                  ("int4-integer", "int4", "integer")]  # fmt: skip
    out = [Config(f"initializer-{name}", w, e) for name, w, e in executions]
    out += [Config("backprop-float", "none", "integer", backprop=BackpropConfig())]
    out += [Config(f"fast-{name}", w, e, zo=ours) for name, w, e in executions]
    out += [Config(f"paper-{name}", w, e, zo=paper) for name, w, e in executions]
    return out


class Subjects:
    """Pictures of the subjects: the first REFERENCES of each to learn from, the rest unseen."""

    def __init__(self, people: np.ndarray, seed: int = 4242) -> None:
        self.people, self.views = people, REFERENCES + UNSEEN
        rng = np.random.default_rng(seed)
        self.pixels = render(np.repeat(people, self.views, axis=0), rng).pixels


def build(model: Model, subjects: Subjects) -> tuple[StableDiffusionObjective, np.ndarray, tuple[float, float]]:
    text = model.load_text()
    ids = text.tokenize(training_prompts("pocket", TOKEN), {TOKEN: 1})
    latents = encode_images(model.load("vae"), subjects.pixels)
    objective = StableDiffusionObjective(text, model.load("unet"), model.load_schedule(), latents, ids, 1)
    return objective, text.initial_embedding("person", 1), text.norm_range()


def learn(
    config: Config, objective: StableDiffusionObjective, initial: np.ndarray, norms: tuple[float, float],
    runs: list[tuple[int, int]],
) -> np.ndarray:  # fmt: skip
    """Tokens of every (subject, seed), (runs, 1, D)."""
    firsts = [subject * (REFERENCES + UNSEEN) for subject, _ in runs]
    if config.backprop is not None:
        views = [View(objective, first, REFERENCES) for first in firsts]
        return backprop(objective, views, initial, [seed for _, seed in runs], config.backprop)
    if config.zo is None:
        return np.repeat(initial[None], len(runs), axis=0)
    together = Lockstep(objective, len(runs))

    def job(first: int, seed: int):  # type: ignore[no-untyped-def]
        def work() -> np.ndarray:
            state = State.start(config.zo, seed, initial)  # type: ignore[arg-type]
            for _ in run(View(objective, first, REFERENCES, together.losses), state, norms, max_batch=4096):
                pass
            return state.result

        return work

    return np.stack(together.run_all([job(first, seed) for first, (_, seed) in zip(firsts, runs, strict=True)]))


def measure(
    model: Model, objective: StableDiffusionObjective, tokens: np.ndarray, runs: list[tuple[int, int]],
    subjects: Subjects, classifier: Classifier,
) -> tuple[list[dict[str, float]], torch.Tensor]:  # fmt: skip
    """Loss, attributes, identification and backgrounds of every token; pictures come from the same weights.

    Also returns the pictures of the plain prompt, (runs, PLAIN, 3, 16, 16).
    """
    out, pictures = [], []
    prompts = [f"a picture of {TOKEN}"] * PLAIN + [f"a picture of {TOKEN} on a {b} background" for b in BACKGROUNDS]
    asked = np.array([-1] * PLAIN + list(range(len(BACKGROUNDS))))
    vae, schedule = model.load("vae"), model.load_schedule()
    for token, (subject, seed) in zip(tokens, runs, strict=True):
        unseen = View(objective, subject * subjects.views + REFERENCES, UNSEEN)
        draws = held_out_draws(unseen, 0, LOSS_DRAWS, (0, 1000))
        loss = float(evaluate(unseen, token, draws, 64).mean())
        states = condition(objective.text, prompts, "", [LearnedEmbedding(TOKEN, token)])
        noise = starting_noise(1000 * seed + subject, len(prompts), objective.latents_shape)
        latents = denoise(objective.unet, schedule, *states, noise, SAMPLER_STEPS, GUIDANCE)
        pixels = torch.from_numpy(decode(vae, latents)).permute(0, 3, 1, 2).float() / 127.5 - 1
        read = classifier.read(pixels)
        others = (subject + np.arange(12)) % len(subjects.people)
        picked = classifier.pick(pixels, subjects.people[others])
        out.append({
            "subject": subject, "seed": seed, "loss": loss,
            "attributes": float((read[:, :6] == subjects.people[subject]).mean()),
            "picked_of_12": float((picked == 0).mean()),
            "background": float((read[PLAIN:, 6] == asked[PLAIN:]).mean()),
        })  # fmt: skip
        pictures.append(pixels[:PLAIN])
    return out, torch.stack(pictures)


def seconds_alone(
    config: Config, objective: StableDiffusionObjective, initial: np.ndarray, repeats: int = 3
) -> list[float]:
    """Wall seconds of one whole run by itself, from the pace of some steps; one figure per repeat."""
    steps = 12
    out = []
    for repeat in range(repeats):
        start = time.monotonic()
        if config.backprop is not None:
            backprop(
                objective,
                [View(objective, 0, REFERENCES)],
                initial,
                [repeat],
                replace(config.backprop, max_train_steps=steps),
            )
            total = config.backprop.max_train_steps
        else:
            state = State.start(replace(config.zo, max_train_steps=steps), repeat, initial)  # type: ignore[type-var]
            for _ in run(View(objective, 0, REFERENCES), state, max_batch=16):
                pass
            total = config.zo.max_train_steps  # type: ignore[union-attr]
        out.append((time.monotonic() - start) / steps * total)
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subjects", type=int, choices=range(12, 25), metavar="{12..24}", default=24)
    parser.add_argument("--seeds", type=int, choices=range(1, 11), metavar="{1..10}", default=3)
    parser.add_argument("--configs", nargs="+", choices=[c.name for c in configurations()], help="default: all")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/quality.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Run every configuration asked for; the record grows on disk with each."""
    classifier, subjects = load_classifier(), Subjects(held_out_people()[: args.subjects])
    runs = [(subject, seed) for subject in range(args.subjects) for seed in range(args.seeds)]
    record: dict[str, Any] = {
        "command": command,
        "date": date.today().isoformat(), "machine": machine(), "subjects": args.subjects, "seeds": args.seeds,
        "chance": {"attributes": chance(subjects.people), "picked_of_12": 1 / 12, "background": 1 / len(BACKGROUNDS)},
        "results": {},
    }  # fmt: skip
    shown = subjects.pixels[:: subjects.views][:PICTURED]
    columns = [("photos", torch.from_numpy(shown))]
    for config in configurations():
        if args.configs and config.name not in args.configs:
            continue
        started = time.monotonic()
        model = open_model("pocket", config.weights, config.execution)
        objective, initial, norms = build(model, subjects)
        tokens = learn(config, objective, initial, norms, runs)
        alone = [] if config.zo is None and config.backprop is None else seconds_alone(config, objective, initial)
        rows, pictures = measure(model, objective, tokens, runs, subjects, classifier)
        settings = config.zo.to_dict() if config.zo else asdict(config.backprop) if config.backprop else {}
        record["results"][config.name] = {
            "weights": model.weights, "execution": model.execution, "forwards": config.forwards, "seconds": alone,
            "config": settings, "runs": rows,
        }  # fmt: skip
        columns.append((config.name, pictures[:: args.seeds, 0][:PICTURED]))
        summarize(record["results"])
        print(f"{config.name}: {time.monotonic() - started:.0f} s\n{table(record['results'])}", flush=True)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.output, record)
    plot(record["results"], record["chance"], args.output.with_suffix(".png"))
    grid(columns, args.output.with_name(args.output.stem + "_pictures.png"))


def chance(people: np.ndarray) -> float:
    """Attribute agreement between different subjects."""
    same = (people[:, None] == people[None]).mean(2)
    return float(same[~np.eye(len(people), dtype=bool)].mean())
