"""The four gates of the pocket model, in order, each with a picture; a missed gate ends the run with status 1.

python -m benchmarks.pocket.gates --output_dir benchmarks/results/pocket
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers.models import AutoencoderKL

from benchmarks.lib.report import machine
from benchmarks.pocket import classifier as ruler
from benchmarks.pocket import prompts
from benchmarks.pocket.people import held_out_people
from benchmarks.pocket.vae import held_out_pictures, psnr
from benchmarks.quality.configurations import CONFIGURATIONS
from benchmarks.quality.learn import Bench, Subjects, learn
from benchmarks.quality.measure import chance, pictures


def vae_gate(model: str, picture: Path) -> tuple[bool, dict]:
    """(i) Held-out reconstruction of at least 30 dB."""
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()
    pixels = held_out_pictures()
    with torch.inference_mode():
        decoded = vae.decode(vae.encode(pixels[::16]).latent_dist.mean).sample
    prompts.grid([("held-out", pixels[::16]), ("through the VAE", decoded)], picture)
    value = psnr(vae, pixels)
    return value >= 30, {"psnr_db": round(value, 2), "wanted": 30}


def classifier_gate(classifier: ruler.Classifier, picture: Path) -> tuple[bool, dict]:
    """(ii) The ruler is right at least 95 % of the time on every head, for the held-out people and for others."""
    pixels = held_out_pictures(views=2)
    read = classifier.read(pixels[:24])
    labels = ["\n".join(str(v) for v in row) for row in read]
    prompts.grid([(label, pixels[i : i + 1]) for i, label in enumerate(labels[:8])], picture)
    report = ruler.evaluate(classifier)
    return all(min(r["held_out"], r["all"]) >= 0.95 for r in report.values()), report


def prompt_gate(model: str, classifier: ruler.Classifier, picture: Path) -> tuple[bool, dict]:
    """(iii) Named attributes right 85 % overall, none below 75 %, background 95 %."""
    report: dict = prompts.check(model, classifier, 192, picture)
    overall = np.mean([report[kind]["attributes"] for kind in report])
    least = min(report[kind][name] for kind in report for name in ruler.HEAD_NAMES[:6])
    background = min(report[kind]["background"] for kind in report)
    report |= {"overall": round(float(overall), 3), "least_attribute": least, "least_background": background}
    report["chance"] = {n: round(1 / s, 3) for n, s in zip(ruler.HEAD_NAMES, ruler.HEADS, strict=True)}
    return bool(overall >= 0.85 and least >= 0.75 and background >= 0.95), report


def inversion_gate(model: str, classifier: ruler.Classifier, picture: Path) -> tuple[bool, dict]:
    """(iv) Backpropagation learns held-out people: attributes 80 %, picked of 12 80 %, background 90 %."""
    subjects = Subjects(held_out_people())
    bench = Bench.build(model, "none", "integer", subjects)
    runs = [(subject, 0) for subject in range(len(subjects.people))]
    tokens, _ = learn(CONFIGURATIONS["backprop-float"], bench, runs)
    rows, drawn = pictures(bench, tokens[-1], runs, subjects, classifier)
    report = {
        key: round(float(np.mean([r[key] for r in rows])), 3) for key in ("attributes", "picked_of_12", "background")
    }
    photos = torch.from_numpy(subjects.pixels).view(len(runs), -1, 3, 16, 16)
    prompts.grid([(f"subject {i}", torch.cat([photos[i, :4], drawn[i : i + 1]])) for i in range(0, 24, 2)], picture)
    passed = report["attributes"] >= 0.8 and report["picked_of_12"] >= 0.8 and report["background"] >= 0.9
    report |= {"subjects": len(runs), "chance_attributes": round(chance(subjects.people), 3)}
    return passed, {**report, "chance_picked_of_12": round(1 / 12, 3), "chance_background": 0.125}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="edge_sdk/pocket/model")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results/pocket"))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    classifier = ruler.load_classifier()
    results = {}
    for name, gate, arguments in (
        ("i_vae", vae_gate, (args.model,)),
        ("ii_classifier", classifier_gate, (classifier,)),
        ("iii_prompts", prompt_gate, (args.model, classifier)),
        ("iv_inversion", inversion_gate, (args.model, classifier)),
    ):
        passed, report = gate(*arguments, args.output_dir / f"{name}.png")  # type: ignore[operator]
        results[name] = {"passed": passed, **report}
        print(f"gate {name}: {'passed' if passed else 'MISSED'}\n{json.dumps(report)}", flush=True)
        (args.output_dir / "gates.json").write_text(json.dumps({"machine": machine(), **results}, indent=1))
        if not passed:
            sys.exit(1)


if __name__ == "__main__":
    main()
