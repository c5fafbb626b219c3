"""Does learning a token carry over from drawn people to photos? `fast` and `paper` beside backpropagation.

    python -m benchmarks.photos.personalization

needs the model of `benchmarks.photos.wardrobe` and the network of `benchmarks.photos.classifier`. Nothing was tuned on
these photos: settings are those of `benchmarks.quality`. A subject is a style of which the model has seen no photo.
Stopping loses one method; the same command goes on.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.baselines.backprop import BackpropConfig
from benchmarks.lib.intervals import by_subject, interval, interval_cell
from benchmarks.lib.report import markdown, pyplot, save_figure, say
from benchmarks.photos import fashion
from benchmarks.photos.classifier import Classifier, load
from benchmarks.photos.command import run
from benchmarks.photos.subjects import Subject, bench, everyone, photos_of, started_at
from benchmarks.quality.configurations import BUDGET, Config
from benchmarks.quality.equal_care import reached
from benchmarks.quality.learn import REFERENCES, TOKEN, VIEWS, Bench, Run, learn
from benchmarks.quality.measure import losses
from benchmarks.quality.runs import Record
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.generation import starting_noise
from edge_sdk.runtime.pytorch.generate import condition, decode, denoise
from edge_sdk.system.memory import keep_heap
from edge_sdk.zo import PAPER, fast

PICTURES, SAMPLER_STEPS, GUIDANCE = 8, 12, 3.0
REACHED = 0.9  # share of backpropagation's decrease
WORD, CEILING = "the word it starts from", "backpropagation"
METHODS = {
    WORD: Config("int8"),
    CEILING: Config(backprop=BackpropConfig()),
    "fast": Config("int8", zo=fast),
    "paper": Config("int8", zo=lambda std, width: replace(PAPER, max_train_steps=BUDGET // 3)),
}


def learned(config: Config, full: Bench, subjects: list[Subject], runs: list[Run]) -> tuple[np.ndarray, list[int]]:
    """As `benchmarks.quality.learn.learn`, every token from its own subject's word."""
    out, forwards = None, [0]
    for word in dict.fromkeys(subjects[subject].word for subject, _ in runs):
        rows = [i for i, (subject, _) in enumerate(runs) if subjects[subject].word == word]
        tokens, forwards = learn(config, started_at(full, word), [runs[i] for i in rows])
        if out is None:
            out = np.empty((len(tokens), len(runs), *tokens.shape[2:]), np.float32)
        out[:, rows] = tokens
    assert out is not None
    return out, forwards


def generated(full: Bench, token: np.ndarray, run: Run) -> np.ndarray:
    """Pictures of "a photo of a <subject>", (PICTURES, 3, 32, 32) in [-1, 1]."""
    subject, seed = run
    prompts = [f"a photo of a {TOKEN}"] * PICTURES
    states = condition(full.objective.text, prompts, "", [LearnedEmbedding(TOKEN, token)])
    noise = starting_noise(1000 * seed + subject, PICTURES, full.objective.latents_shape)
    latents = denoise(full.objective.unet, full.model.load_schedule(), *states, noise, SAMPLER_STEPS, GUIDANCE)
    return decode(full.model.load("vae"), latents).transpose(0, 3, 1, 2) / np.float32(127.5) - 1


def verdict(classifier: Classifier, pictures: np.ndarray, subject: Subject) -> dict[str, float]:
    """Shares of pictures in which the ruler reads the class, the style within it, and both."""
    read = classifier.read(pictures)
    right = read.sum(axis=2).argmax(axis=1) == subject.number
    style = read[:, subject.number].argmax(axis=1) == subject.style
    return {"class": float(right.mean()), "style": float(style.mean()), "both": float((right & style).mean())}


def summarize(results: dict[str, Any], subjects: list[Subject]) -> None:
    """Share of backpropagation's loss decrease and the ruler's verdict, over known classes and the new one apart.

    Also the forward passes, or for backpropagation draws, to `REACHED` of that decrease in the mean over subjects.
    """
    start, end = (by_subject(results[name]["runs"], "loss") for name in (WORD, CEILING))
    new = np.array([subject.is_new_class for subject in subjects])
    for result in results.values():
        own = by_subject(result["runs"], "loss")
        result["summary"] = {
            group: {
                "loss": interval(own[rows]),
                "share": interval((start - own)[rows], (start - end)[rows]),
                **{key: interval(by_subject(result["runs"], key)[rows]) for key in ("class", "style", "both")},
            }
            for group, rows in {"styles": ~new, "class": new, "all": new | ~new}.items()
        }
        if "curve" in result["runs"][0]:
            curves = np.stack([[loss, *row["curve"]["loss"]] for loss, row in zip(start, firsts(result), strict=True)])
            forwards = np.array([0, *result["runs"][0]["curve"]["forwards"]], float)
            count = reached(curves, forwards, float((start - REACHED * (start - end)).mean()))
            result["summary"][f"to {REACHED}"] = count if np.isfinite(count) else None


def firsts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A result's runs with the first seed, in the order of subjects."""
    return sorted((row for row in result["runs"] if row["seed"] == 0), key=lambda row: row["subject"])


def table(results: dict[str, Any], real: dict[str, Any]) -> str:
    head = ["subjects", "method", "forward passes", "loss", "share", "class", "style within it"]
    rows = []
    for group, title in {"styles": "new styles of known classes", "class": "a class never seen"}.items():
        for name, result in results.items():
            shown = [interval_cell(result["summary"][group][key]) for key in ("loss", "share", "class", "style")]
            rows.append([title, name, str(result["forwards"]), *shown])
        rows.append(
            [title, "their photos, through the VAE", "", "", "", *(f"{real[group][k]:.3f}" for k in ("class", "style"))]
        )
    return markdown(head, rows)


def sheet(columns: dict[str, np.ndarray], subjects: list[Subject], path: Path) -> None:
    """A row a subject: photos that it was learned from, then four pictures of each method, dark on white."""
    plt = pyplot()
    figure, axes = plt.subplots(len(subjects), len(columns), figsize=(2.1 * len(columns), 0.62 * len(subjects) + 0.4))
    for row, subject in enumerate(subjects):
        for axis, (name, pictures) in zip(axes[row], columns.items(), strict=True):
            strip = np.concatenate(list(pictures[row][:, 0]), axis=1)
            axis.imshow(-strip, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_title(name if row == 0 else "", fontsize=8)
        axes[row][0].set_ylabel(fashion.CLASSES[subject.number], fontsize=7, rotation=0, ha="right", va="center")
    save_figure(figure, path, 130)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.personalization", description=__doc__)
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help="folder of Fashion-MNIST's files")
    parser.add_argument("--model", default="benchmarks/work/wardrobe")
    parser.add_argument("--ruler", type=Path, default=Path("benchmarks/work/products.safetensors"))
    parser.add_argument("--subjects", type=int, help="only so many, spread over all of them")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/photos_personalization.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.photos.personalization", *sys.argv[1:]])
    subjects, classifier = everyone(), load(args.ruler)
    if args.subjects:
        subjects = [subjects[i] for i in np.linspace(0, len(subjects) - 1, args.subjects).astype(int)]
    pixels = fashion.pictures(photos_of(subjects, args.data))
    runs = [(subject, seed) for seed in range(args.seeds) for subject in range(len(subjects))]
    about = {"subjects": [f"{fashion.CLASSES[s.number]} {s.style}" for s in subjects], "tuned_on": "none of them"}
    record = Record(args.output, command, **about)
    keep_heap()
    benches: dict[str, Bench] = {}
    columns = {"learned from": pixels.reshape(-1, VIEWS, *pixels.shape[1:])[:, :REFERENCES]}
    for name in args.methods:
        config = METHODS[name]
        if config.weights not in benches:
            benches[config.weights] = bench(args.model, config.weights, pixels)
        full = benches[config.weights]
        if missing := record.missing(name, runs):
            tokens, forwards = learned(config, full, subjects, missing)
            rows = losses(full, tokens[-1], missing)
            curves = [[row["loss"] for row in losses(full, token, missing)] for token in tokens[:-1]]
            pictures = [generated(full, token, run) for token, run in zip(tokens[-1], missing, strict=True)]
            for i, (row, run) in enumerate(zip(rows, missing, strict=True)):
                row["curve"] = {"forwards": forwards, "loss": [*(curve[i] for curve in curves), row["loss"]]}
                row |= verdict(classifier, pictures[i], subjects[run[0]])
            record.add(name, rows, forwards=config.forwards(full.std, full.width))
            columns[name] = np.stack(pictures[: len(subjects)])[:, :4]
            print(f"{name}: loss {np.mean([row['loss'] for row in rows]):.4f}", flush=True)
    vae = next(iter(benches.values())).model.load("vae")
    unseen = pixels.reshape(-1, VIEWS, *pixels.shape[1:])[:, REFERENCES:]
    real = [verdict(classifier, reproduced(vae, unseen[i]), subject) for i, subject in enumerate(subjects)]
    new = np.array([subject.is_new_class for subject in subjects])
    record.values["photos"] = {
        group: {
            key: float(np.mean([r[key] for r, chosen in zip(real, rows, strict=True) if chosen])) for key in real[0]
        }
        for group, rows in {"styles": ~new, "class": new}.items()
    }
    summarize(record.results, subjects)
    record.save()
    say(table(record.results, record.values["photos"]), "; ".join(record.values["commands"]), args.output)
    if len(columns) == len(args.methods) + 1:  # none was measured by an earlier command
        sheet(columns, subjects, args.output.with_name(f"{args.output.stem}_pictures.png"))


def reproduced(vae: Any, pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, 3, 32, 32) through the VAE."""
    with torch.inference_mode():
        return vae.decode(vae.encode(torch.from_numpy(pictures))[0]).clamp(-1, 1).numpy()


if __name__ == "__main__":
    run(main)
