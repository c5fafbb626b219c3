"""Learning by the apps' command lines, beside Python on the same bundles and photos."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_sdk import pocket
from edge_sdk.embedding import load_embedding
from edge_sdk.errors import Cancelled
from edge_sdk.run_folder import run_personalization
from edge_sdk.system.checkpoints import load_state
from tests.phones.apps import BUNDLE, App, learn, python_of
from tests.phones.learned import LEARNED, STATE, assert_learned_as_in_python, assert_near
from tests.run_records import assert_is_pythons, python_record
from tests.stock_diffusers import subject_and_person


def flags(**options: object) -> list[object]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def run(app: App, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole run of 40 steps, and the same in Python."""
    folder = tmp_path_factory.mktemp(app.name) / "run"
    result = app.call(*learn(folder, "--seed", 0))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    python = python_of()
    assert len(list(python.fit(pocket.PHOTOS, seed=0))) == 40
    return SimpleNamespace(folder=folder, record=record_of(folder), python=python)


def test_a_whole_run_ends_at_pythons_loss_and_token(run: SimpleNamespace) -> None:
    assert_near(run.folder, run.python, 0.01)
    assert load_embedding(run.folder / LEARNED).metadata == {"format": "pt", **run.python.embedding.metadata}
    assert run.record["loss_final"] == pytest.approx(run.python.held_out_loss(), abs=1e-3)
    assert run.record["loss_initial"] == pytest.approx(run.python.held_out_loss(run.python.fitted().initial), abs=1e-5)
    assert run.record["loss_final"] < 0.5 * run.record["loss_initial"]


def test_a_run_folder_is_pythons(app: App, run: SimpleNamespace) -> None:
    kept = sorted(path.name for path in run.folder.iterdir() if path.name != ".lock")
    assert kept == ["checkpoint-36", "checkpoint-40", LEARNED, "run.json"]
    assert {path.stat().st_mode & 0o077 for path in run.folder.rglob("*")} == {0}
    assert run.record["unet_forwards"] == 1320 and run.record["steps"] == 40 and run.record["photos_used"] == 5
    assert run.record["zo"] == run.python.fitted().zo.to_dict()
    assert run.record["versions"]["onnxruntime"] == app.onnxruntime


def test_python_takes_the_checkpoint_as_its_own(run: SimpleNamespace) -> None:
    """So model, bundle, pixels of photos, ids of prompts, sizes and the word are the same bytes."""
    state = load_state(run.folder / "checkpoint-40" / STATE, run.python.fitted().fingerprints)
    assert state.step == 40 and state.forwards == 1320


def test_stock_diffusers_draws_the_subject_from_the_learned_file(run: SimpleNamespace) -> None:
    subject, person = subject_and_person(run.folder / LEARNED)
    assert subject < 0.7 * person


def test_pictures_are_pythons(app: App, run: SimpleNamespace, tmp_path: Path) -> None:
    prompt, picture = "a picture of <subject> on a blue background", tmp_path / "picture.png"
    drawn = flags(prompt=prompt, embedding=run.folder / LEARNED, output=picture, num_inference_steps=6)
    result = app.call("generate", "--bundle", BUNDLE, *drawn)
    assert result.returncode == 0, result.stderr
    (wanted,) = run.python.generate(prompt, num_inference_steps=6)
    difference = np.asarray(Image.open(picture), int) - np.asarray(wanted, int)
    assert np.abs(difference).max() <= 3 and np.asarray(wanted).std() > 20


def test_results_are_not_overwritten(app: App, run: SimpleNamespace) -> None:
    before = (run.folder / LEARNED).read_bytes()
    assert "already holds run.json" in app.refusal(*learn(run.folder))
    assert (run.folder / LEARNED).read_bytes() == before


def test_a_run_with_other_photos_does_not_go_on(app: App, run: SimpleNamespace, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    (folder / "run.json").unlink()
    photos = Path(shutil.copytree(pocket.PHOTOS, tmp_path / "photos"))
    (photos / "1.png").unlink()
    assert "photos" in app.refusal(*learn(folder, "--resume_from_checkpoint", "latest", photos=photos))


def test_a_record_is_pythons(app: App, bundle_of: Callable[[str, str], Path], tmp_path: Path) -> None:
    bundle, folder = bundle_of("pocket", "int8"), tmp_path / "run"
    options = {"max_train_steps": 2, "eval_draws": 4, "seed": 3}
    result = app.call(*learn(folder, *flags(**options), bundle=bundle))
    assert result.returncode == 0, result.stderr
    record = record_of(folder)
    assert_is_pythons(record, python_record(pocket.PHOTOS, tmp_path / "python", bundle, **options))
    assert record["variance_share"] is not None
    assert 0 < record["seconds"] < 600 and 0 < record["peak_anon_mb"] < record["peak_rss_mb"] < 1000
    (folder / "run.json").unlink()
    resumed = app.call(*learn(folder, *flags(**options), "--resume_from_checkpoint", "latest", bundle=bundle))
    assert resumed.returncode == 0, resumed.stderr
    again = record_of(folder)
    assert (again["resumed"], again["mu_source"], again["mu_min"]) == (2, "checkpoint", record["mu_min"])


def test_what_a_run_says_on_the_way_is_no_result(app: App, tmp_path: Path) -> None:
    """Notices and progress go to stderr; stdout has what was learned and where it is."""
    result = app.call(*learn(tmp_path / "run", *flags(max_train_steps=2, eval_draws=2), quiet=False))
    assert result.returncode == 0 and "learning from 5 photo(s)" in result.stderr
    summary, written = result.stdout.splitlines()
    assert summary.startswith("loss 0.") and "2 steps, 66 forward passes" in summary
    assert written == f"wrote {tmp_path / 'run' / LEARNED}"


def test_sdxl_learns_as_in_python(
    app: App, bundle_of: Callable[[str, str], Path], photos: Path, tmp_path: Path
) -> None:
    """Two text encoders, sizes of photos, several vectors, and the paper's optimizer."""
    bundle, options = bundle_of("sdxl", "int8"), {"initializer_token": "dog", "num_vectors": 2, "preset": "paper"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    settings = ["--max_train_steps=3", "--zo_mu", 0.01, "--subspace_buffer", 2, "--timestep_range", 0, 900]
    result = app.call(*learn(tmp_path / "run", *words, *settings, bundle=bundle, photos=photos))
    assert result.returncode == 0, result.stderr
    python = python_of(bundle)
    changed = {"max_train_steps": 3, "zo_mu": 0.01, "subspace_buffer": 2, "timestep_range": (0, 900)}
    list(python.fit(photos, **options, **changed))  # type: ignore[arg-type]
    load_state(tmp_path / "run" / "checkpoint-3" / STATE, python.fitted().fingerprints)
    assert_near(tmp_path / "run", python, 0.05)  # other kernels round other borderline values


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(app: App, tmp_path: Path) -> None:
    options = flags(max_train_steps=6, checkpointing_steps=1, eval_draws=2, seed=2**64 - 1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert app.call(*learn(whole, *options)).returncode == 0
    process = app.start(*learn(killed, *options))
    while not (killed / "checkpoint-2").exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (killed / LEARNED).exists()
    (killed / app.leftover).mkdir()
    result = app.call(*learn(killed, *options, "--resume_from_checkpoint", "latest"))
    assert result.returncode == 0, result.stderr
    assert (killed / LEARNED).read_bytes() == (whole / LEARNED).read_bytes()
    assert record_of(killed)["resumed"] >= 2
    assert not list(killed.glob(".edge-sdk-*"))


def test_a_run_of_pythons_goes_on(app: App, tmp_path: Path) -> None:
    """A checkpoint is the same file in every language, the floor of mu included."""
    folder, steps = tmp_path / "run", iter(range(3))
    options: dict[str, Any] = {"max_train_steps": 6, "checkpointing_steps": 1, "eval_draws": 2}
    with pytest.raises(Cancelled, match="stopped after step 3"):
        run_personalization(
            pocket.PHOTOS, folder, bundle=BUNDLE, preview=False, stop=lambda: next(steps) == 2, **options
        )
    result = app.call(*learn(folder, *flags(**options), "--resume_from_checkpoint", "latest"))
    assert result.returncode == 0, result.stderr
    assert record_of(folder)["resumed"] == 3 and record_of(folder)["steps"] == 6


def test_ctrl_c_saves_and_says_how_to_go_on(app: App, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = app.start(*learn(folder, *flags(max_train_steps=400, checkpointing_steps=2, eval_draws=1)))
    while not (folder / "checkpoint-2").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, line = process.communicate(timeout=120)
    assert process.returncode == 130 and len(line.splitlines()) == 1
    step = int(line.split("stopped after step ")[1].split(",")[0])
    assert "--resume_from_checkpoint latest" in line and (folder / f"checkpoint-{step}").exists()
    assert not (folder / LEARNED).exists()


def test_nothing_is_written_but_what_was_asked_for(app: App, tmp_path: Path) -> None:
    """No telemetry of the runtime, no profile, no log."""
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    moved = app.environment() | {"HOME": str(home), "XDG_CACHE_HOME": cache, "TMPDIR": str(home)}
    words = app.words(*learn(folder, *flags(max_train_steps=1, eval_draws=1)))
    subprocess.run(words, env=moved, cwd=home, check=True, timeout=300)
    names = {path.name for path in folder.iterdir()}
    assert list(home.iterdir()) == [] and names == {".lock", "checkpoint-1", LEARNED, "run.json"}


def test_a_bundle_for_qualcomms_processor_is_simulated_as_in_python(app: App, qnn_bundle: Path, tmp_path: Path) -> None:
    verified = app.call("verify", "--bundle", qnn_bundle)
    assert verified.returncode == 0 and "FAILED" not in verified.stdout, verified.stdout + verified.stderr
    result = app.call(*learn(tmp_path / "run", *flags(max_train_steps=2, eval_draws=4), bundle=qnn_bundle))
    assert result.returncode == 0, result.stderr
    assert_learned_as_in_python(tmp_path / "run", qnn_bundle)
    assert record_of(tmp_path / "run")["max_batch"] == 11  # rows that its graph has


def test_a_token_of_more_vectors_than_a_bundle_for_a_processor_has_is_refused(
    app: App, qnn_bundle: Path, tmp_path: Path
) -> None:
    line = app.refusal(*learn(tmp_path / "run", "--num_vectors", 2, bundle=qnn_bundle))
    assert "num_vectors is 2" in line and "are for 1; give that" in line
