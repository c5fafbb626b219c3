"""A few mutated inputs of each kind in this process; ``python -m tests.mutations`` runs thousands in children."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.cli.main import main
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from export import verify
from tests.mutations.children import Ending
from tests.mutations.mutate import mutated, mutated_json, mutated_safetensors
from tests.mutations.targets import GENERATE, Target, link_copy, write_mutated

INPUTS = 6  # of each kind


def target_of(kind: str, model: Path, bundle: Path, tokens: Path) -> Target:
    def generate(copy: Path, out: Path) -> list[str]:
        return ["generate", "--bundle", str(copy), *GENERATE, "--output", f"{out}.png"]

    def generate_model(copy: Path, out: Path) -> list[str]:
        return ["generate", "--pretrained_model_name_or_path", str(copy), *GENERATE, "--output", f"{out}.png"]

    def generate_with(copy: Path, out: Path) -> list[str]:
        return [*generate(bundle, out), "--embedding", str(copy / "t.safetensors")]

    targets = {
        "model": Target("model", model, ("*.json", "*/*.json", "*/*.safetensors"), generate_model),
        "manifest": Target("manifest", bundle, ("manifest.json",), generate),
        "tokenizer": Target("tokenizer", bundle, ("tokenizer*/*",), generate, "manifest.json"),
        "golden": Target("golden", bundle, ("golden.json",), lambda copy, _: ["verify", str(copy)], "manifest.json"),
        "embedding": Target("embedding", tokens, ("*",), generate_with),
    }
    return targets[kind]


@pytest.mark.parametrize("kind", ["model", "manifest", "tokenizer", "golden", "embedding"])
def test_a_mutated_input_is_used_or_refused_in_one_line(
    kind: str,
    sd1_folder: Path,
    bundle_of: Callable[[str, str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(verify.RUNTIMES, "onnx", verify.RUNTIMES["onnx"][:1])
    (tmp_path / "tokens").mkdir()
    bundle = bundle_of("sd1", "int8")
    save_embedding(tmp_path / "tokens" / "t.safetensors", LearnedEmbedding("<s>", np.ones((1, 32), np.float32)))
    target = target_of(kind, sd1_folder, bundle, tmp_path / "tokens")
    for number in range(INPUTS):
        rng, copy, out = random.Random(f"{kind}:{number}"), tmp_path / f"copy{number}", tmp_path / f"out{number}"
        link_copy(target.base, copy)
        path = rng.choice(target.paths())
        write_mutated(target, copy, path, mutated(target.base / path, rng))
        capfd.readouterr()
        ending = Ending(main(target.command(copy, out)), *capfd.readouterr(), 0.0, 0, False)
        assert ending.fault() is None, f"{path}: {ending}"
        assert ending.status == 0 or not out.with_suffix(".png").exists()


def test_mutations_are_the_same_for_the_same_seed_and_change_a_file(sd1_folder: Path) -> None:
    data = (sd1_folder / "unet" / "config.json").read_bytes()
    first, second = ([mutated_json(data, random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert first == second and len({*first} - {data}) >= 40
    weights = (sd1_folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert all(mutated_safetensors(weights, random.Random(seed)) != weights for seed in range(20))


@pytest.mark.parametrize(
    ("status", "out", "err", "fault"),
    [
        (0, "", "", None),
        (2, "", "edge-sdk: error: no\n", None),
        (2, "", "edge-sdk: error: no\nmore\n", "lines"),
        (2, "", "no\n", "lines"),
        (1, "golden.json: FAILED, x\n", "", None),
        (1, "", "Traceback (most recent call last):\n", "traceback"),
        (97, "", "", "traceback"),
        (-11, "", "", "signal"),
    ],
)
def test_what_is_a_fault(status: int, out: str, err: str, fault: str | None) -> None:
    assert Ending(status, out, err, 0.1, 1, False).fault() == fault
    assert Ending(status, out, err, 0.1, 3 << 30, False).fault() == "memory"
    assert Ending(status, out, err, 99.0, 1, True).fault() == "hang"
