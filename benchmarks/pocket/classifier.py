"""Train the ruler: a classifier of the six attributes and the background. Gate (ii): 95 % on every head, held out.

    python -m benchmarks.pocket.classifier --seconds 120

It is trained on real pictures of everyone but the 24 held-out people (their hair pairs included, else the ruler would
misread exactly what it has to measure), with noise and blur so that generated ones are judged fairly. It is a
measuring tool only and never touches the training of the model.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.pocket.people import BACKGROUNDS, SIZES, WORDS, any_people, held_out_people, random_people, render

HEADS = (*SIZES, len(BACKGROUNDS))
HEAD_NAMES = (*WORDS, "background")
FILE = Path(__file__).with_name("classifier.safetensors")


class Classifier(nn.Module):
    """(N, 3, 16, 16) in [-1, 1] -> one tensor of logits per head."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 32, 64, 96, 128), list[nn.Module]()
        for i, (a, b) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(a, b, 3, padding=1, stride=2 if i in (1, 2) else 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(128 * 16, 256), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(256, size) for size in HEADS)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        h = self.features(x)
        return [head(h) for head in self.heads]

    @torch.inference_mode()
    def read(self, x: torch.Tensor) -> np.ndarray:
        """The value of every attribute and the background, (N, 7) int64."""
        return torch.stack([logits.argmax(1) for logits in self(x)], dim=1).numpy()

    @torch.inference_mode()
    def pick(self, x: torch.Tensor, candidates: np.ndarray) -> np.ndarray:
        """Which candidate (M, 6) each picture shows most probably, (N,): sum of log probabilities over attributes."""
        logs = [F.log_softmax(logits, 1) for logits in self(x)][:6]
        scores = sum(log[:, candidates[:, i]] for i, log in enumerate(logs))
        return scores.argmax(1).numpy()


def load_classifier(path: Path = FILE) -> Classifier:
    """The ruler with which every result in the repository was measured, or another one."""
    model = Classifier().eval()
    model.load_state_dict(load_file(path))  # float16 in the file
    return model


def disturb(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Noise on every picture and blur on half of them."""
    sigma = torch.from_numpy(rng.uniform(0, 0.3, size=(len(x), 1, 1, 1)).astype(np.float32))
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = torch.from_numpy((rng.uniform(0, 0.7, len(x)) * (rng.random(len(x)) < 0.5)).astype(np.float32))
    x = x + amount[:, None, None, None] * (blurred - x)
    return x + sigma * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))


def _without_subjects(people: np.ndarray) -> np.ndarray:
    same = (people[:, None] == held_out_people()[None]).all(2).any(1)
    return people[~same]


def train(seconds: float, seed: int = 3) -> Classifier:
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / seconds) < 1:
        if step % 200 == 0:
            pictures = render(_without_subjects(any_people(8192, rng)), rng)
            pixels = torch.from_numpy(pictures.pixels)
            labels = torch.from_numpy(np.column_stack([pictures.people, pictures.background]))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * done)) + 1e-6
        index = rng.integers(len(pixels), size=128)
        logits = model(disturb(pixels[index], rng))
        loss = torch.stack([F.cross_entropy(logit, labels[index, i]) for i, logit in enumerate(logits)]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
    print(f"classifier: {step} steps, {step * 128} pictures")
    return model.eval()


def evaluate(model: Classifier, seed: int = 77) -> dict[str, dict[str, float]]:
    """Accuracy and chance per head, on new pictures of the people nobody trains on and of random other people."""
    rng = np.random.default_rng(seed)
    people = np.concatenate([np.repeat(held_out_people(), 40, axis=0), random_people(2000, rng)])
    pictures = render(people, rng)
    right = model.read(torch.from_numpy(pictures.pixels)) == np.column_stack([people, pictures.background])
    return {
        name: {"held_out": right[:960, i].mean(), "all": right[:, i].mean(), "chance": 1 / HEADS[i]}
        for i, name in enumerate(HEAD_NAMES)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--seconds", type=float, default=120)
    args = parser.parse_args()
    model = train(args.seconds)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, args.output)
    print(json.dumps(evaluate(load_classifier(args.output)), indent=1))


if __name__ == "__main__":
    main()
