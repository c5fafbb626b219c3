"""The table of the paper: CLIP-T, CLIP-I and DINO on the DreamBooth data, by `fast`, `paper` and backpropagation."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.dreambooth.learn import METHODS, TOKEN, Task
from benchmarks.dreambooth.report import chart, sheet, table
from benchmarks.dreambooth.scores import Features, Scorer, scores
from benchmarks.dreambooth.subjects import Subject, read_subjects
from benchmarks.lib.report import machine, say
from edge_sdk.config import DEVICES, check_seed
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import generate
from edge_sdk.images import save_png
from edge_sdk.system.files import make_folder, write_json
from edge_sdk.system.json import read_json

SCORES = "scores.json"  # in the folder of a run; written last


def add_arguments(parser: argparse.ArgumentParser) -> None:
    name = "a diffusers folder of float weights, or a hub id"
    parser.add_argument("--pretrained_model_name_or_path", required=True, metavar="MODEL", help=name)
    data = "the data set's folder, with prompts_and_classes.txt"
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help=data)
    parser.add_argument("--clip", required=True, type=Path, metavar="DIR", help="a CLIP, such as clip-vit-base-patch32")
    parser.add_argument("--dino", required=True, type=Path, metavar="DIR", help="a DINO, such as dinov2-base")
    parser.add_argument("--subjects", nargs="+", default=[], help="names (default: all); one is a smoke run")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--weights", choices=("int8", "int4"), default="int8", help="of the forward-only methods")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--num_images", type=int, default=5, help="pictures a prompt (default 5, as in the paper)")
    parser.add_argument("--num_inference_steps", type=int, default=50)
    parser.add_argument("--guidance_scale", type=float, default=7.5)
    parser.add_argument("--max_train_steps", type=int, help="of every method; for a trial only (default: its own)")
    work = Path("benchmarks/work/dreambooth")
    parser.add_argument("--work", type=Path, default=work, help="where runs and pictures are kept; they are resumed")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/dreambooth.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    """Run what is not there yet, subject by subject; the record grows on disk.

    Raises:
        EdgeSdkError: data, model or scorers cannot be used, or ``work`` was begun with other settings.
    """
    for seed in args.seeds:
        check_seed(seed)
    for name in ("num_images", "num_inference_steps", "max_train_steps"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise EdgeSdkError(f"{name} is {value}; it must be at least 1")
    subjects = read_subjects(args.data, args.subjects)
    scorer = Scorer(args.clip, args.dino)
    settings = {
        "model": args.pretrained_model_name_or_path,
        "clip": args.clip.name,
        "dino": args.dino.name,
        **{name: getattr(args, name) for name in ("weights", "device", "num_images", "num_inference_steps")},
        "guidance_scale": args.guidance_scale,
        "max_train_steps": args.max_train_steps,
    }
    _claim(args.work, settings)
    about = {"command": [command], "date": date.today().isoformat(), "machine": machine(), **settings}
    runs: list[dict[str, Any]] = []
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        photos = scorer.features([_opened(path) for path in subject.photos])
        for seed in args.seeds:
            for method in args.methods:
                runs.append(_run(args, scorer, subject, photos, method, seed))
                write_json(args.output, about | {"runs": runs})
        print(f"{subject.name}: {_line(runs[-len(args.methods) :])}", flush=True)
    say(table(runs), command, args.output)
    chart(runs, args.output.with_suffix(".png"))
    first = subjects[0]
    shown = {method: _folder(args.work, first.name, method, args.seeds[0]) / "pictures" for method in args.methods}
    sheet(first, shown, args.work / f"{first.name}.png")


def _claim(work: Path, settings: dict[str, Any]) -> None:
    """Keep the settings in a work folder; what was made with others is not mixed with these."""
    make_folder(work)
    path = work / "settings.json"
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path, "give another --work")
    if other := sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name)):
        raise EdgeSdkError(f"{work} was begun with another {other[0]}; give another --work, or the same settings")


def _folder(work: Path, subject: str, method: str, seed: int) -> Path:
    return work / subject / method / f"seed-{seed}"


def _run(
    args: argparse.Namespace, scorer: Scorer, subject: Subject, photos: Features, method: str, seed: int
) -> dict[str, Any]:
    """One subject by one method: learned, drawn and scored, or read from the work folder where that was done."""
    folder = _folder(args.work, subject.name, method, seed)
    done = folder / SCORES
    if done.exists():
        return read_json(done, f"remove {folder} to run it again")
    weights = "none" if method == "backprop" else args.weights
    task = Task(
        method,
        args.pretrained_model_name_or_path,
        weights,
        args.device,
        str(subject.folder),
        subject.initializer,
        seed,
        args.max_train_steps,
        str(folder / "run"),
    )
    record = _learned(task)
    pictures = generate(
        [prompt.format(TOKEN) for prompt in subject.prompts],
        args.pretrained_model_name_or_path,
        [folder / "run" / "learned_embeds.safetensors"],
        num_images=args.num_images,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        weights=weights,
        device=args.device,
        seed=seed,
        notify=lambda message: None,
    )
    make_folder(folder / "pictures")
    for number, picture in enumerate(pictures):
        prompt, image = divmod(number, args.num_images)
        save_png(picture, folder / "pictures" / f"{prompt:02d}-{image}.png")
    texts = scorer.texts([prompt.format(subject.noun) for prompt in subject.prompts])
    found = scores(photos, scorer.features(pictures), np.repeat(texts, args.num_images, axis=0))
    kept = ("steps", "unet_forwards", "seconds", "peak_rss_mb", "peak_cuda_mb", "loss_initial", "loss_final")
    measured = {name: record[name] for name in kept if name in record}
    result = {"subject": subject.name, "method": method, "seed": seed, **found, **measured}
    write_json(done, result)
    return result


def _learned(task: Task) -> dict[str, Any]:
    """The record of a method's own process; raises EdgeSdkError with its last line if it fails."""
    command = [sys.executable, "-m", "benchmarks.dreambooth.learn", json.dumps(asdict(task))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise EdgeSdkError(f"{task.method} on {task.photos} failed: {last:.300}; the same command goes on from here")
    return read_json(Path(task.folder) / "run.json", f"remove {task.folder} to run it again")


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _line(runs: list[dict[str, Any]]) -> str:
    return ", ".join(f"{r['method']} {r['clip_t']:.3f} {r['clip_i']:.3f} {r['dino']:.3f}" for r in runs)
