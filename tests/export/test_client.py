"""A client in another language, written from export/README.md alone, learns what Python learns."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk import Personalizer, generate
from edge_sdk.embedding import load_embedding
from edge_sdk.export.web_page import DIST, WEB, missing
from edge_sdk.pocket import BUNDLE, PHOTOS
from tests.golden import bundle_runs

Bundles = Callable[[str, str], Path]
CLIENT = Path(__file__).parents[1] / "clients" / "learn.mjs"
MODULE = WEB / DIST / "ort.wasm.min.mjs"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


def learn(bundle: Path, photos: Path, output: Path, *options: str) -> list[float]:
    """Run the client, in a folder without anything of this project; the held-out losses that it prints."""
    paths = ["--bundle", bundle, "--photos", photos, "--output", output, "--runtime", MODULE.as_uri()]
    command = ["node", shutil.copy(CLIENT, output.parent), *map(str, paths), *options]
    done = subprocess.run(command, cwd=output.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [float(loss) for loss in re.findall(r"^held-out loss (\S+)$", done.stdout, re.MULTILINE)]


def test_it_learns_the_bundled_subject(tmp_path: Path) -> None:
    path = tmp_path / "learned_embeds.safetensors"
    before, after = learn(BUNDLE, PHOTOS, path, "--steps", "10")

    personalizer = Personalizer.from_bundle(BUNDLE)
    personalizer.fit(PHOTOS, placeholder_token="<subject>", seed=0)
    learned = load_embedding(path)
    assert learned.token == "<subject>"
    loss = personalizer.held_out_loss(learned.vectors)
    assert loss < 0.08 < 0.18 < before
    assert after == pytest.approx(loss, rel=1e-4)
    assert before == pytest.approx(personalizer.held_out_loss(personalizer.fitted().initial), rel=1e-4)
    (picture,) = generate(
        prompt="a picture of <subject>", bundle=BUNDLE, embeddings=[path], num_inference_steps=4, seed=1
    )
    assert picture.size == (16, 16)


def write_pngs(folder: Path, pixels: np.ndarray) -> Path:
    """Photos (N, 3, S, S) in [-1, 1] as the files that the client reads."""
    folder.mkdir()
    for i, photo in enumerate(pixels):
        rgb = np.rint((photo.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"{i}.png")
    return folder


def assert_learned(path: Path, vectors: np.ndarray, initial: np.ndarray) -> None:
    learned, way = load_embedding(path), np.abs(vectors - initial).max()
    assert learned.token == "<mug>" and way > 0.01
    np.testing.assert_allclose(learned.vectors, vectors, atol=0.01 * way)


def test_it_repeats_the_golden_run(tmp_path: Path) -> None:
    run = json.loads((bundle_runs.HERE / "bundle_runs.json").read_text())["runs"][0]
    side = json.loads((bundle_runs.BUNDLE / "manifest.json").read_text())["resolution"]
    photos = write_pngs(tmp_path / "photos", bundle_runs.load_photos(side).pixels)
    path = tmp_path / "learned_embeds.safetensors"
    options = {"placeholder": "<mug>", "word": "mug", "seed": run["seed"], "steps": len(run["steps"])}
    losses = learn(bundle_runs.BUNDLE, photos, path, *(f"--{name}={value}" for name, value in options.items()))
    assert_learned(path, np.array(run["vectors"]), np.array(run["initial"]))
    assert losses == pytest.approx([run["held_out_loss_before"], run["held_out_loss_after"]], rel=1e-4)


def test_it_learns_for_two_text_encoders_with_some_directions_a_step(bundle_of: Bundles, tmp_path: Path) -> None:
    """A step measures 8 of 32 directions, so that the client has to choose as Python does."""
    bundle = shutil.copytree(bundle_of("sdxl", "int8"), tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["presets"]["fast"]["zo_samples"] = 8
    for part in manifest["embedding"]:
        part["norm_range"][1] = sum(part["norm_range"]) / 2  # the bound acts
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    photos = write_pngs(tmp_path / "photos", bundle_runs.load_photos(manifest["resolution"]).pixels)

    personalizer = Personalizer.from_bundle(bundle)
    options = {"placeholder_token": "<mug>", "initializer_token": "mug", "seed": 2**63 + 3}
    for _ in personalizer.fit(photos, max_train_steps=7, zo_samples=8, **options):
        pass
    path = tmp_path / "learned_embeds.safetensors"
    learn(bundle, photos, path, "--placeholder", "<mug>", "--word", "mug", "--seed", str(2**63 + 3), "--steps", "7")
    assert_learned(path, personalizer.embedding.vectors, personalizer.fitted().initial)
