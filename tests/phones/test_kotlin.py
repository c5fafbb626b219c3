"""The Kotlin library as a user has it, `edge-personalize-jvm`, beside Python on the same bundles and photos."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_sdk import Personalizer, pocket
from edge_sdk.embedding import load_embedding
from edge_sdk.system.checkpoints import load_state
from tests.phones.learned import LEARNED, assert_learned_as_in_python
from tests.phones.listed import list_again
from tests.stock_diffusers import subject_and_person

TOOLS = Path(__file__).parents[2] / "android_demo" / "tools"
PROGRAM = TOOLS / "edge-personalize-jvm"
BUNDLE = pocket.MODEL.parent / "bundle"


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compiles the program; skips where its tools are missing."""
    result = subprocess.run(
        [sys.executable, str(TOOLS / "build.py"), "compile", "cli"], capture_output=True, text=True, timeout=900
    )
    if missing := [line for line in result.stdout.splitlines() if line.startswith("left out")]:
        pytest.skip(missing[0])
    assert result.returncode == 0, result.stdout + result.stderr


def words(*arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words(*arguments), capture_output=True, text=True, timeout=600)


def learn(folder: Path, *arguments: object, bundle: Path = BUNDLE, photos: Path = pocket.PHOTOS) -> list[object]:
    """The arguments of a run into a folder."""
    common = ["--bundle", bundle, "--train_data_dir", photos, "--output_dir", folder, "--threads", 1, "--quiet"]
    return ["personalize", *common, *arguments]


def one_line(*arguments: object) -> str:
    """The line of a call that is refused."""
    result = call(*arguments)
    assert result.returncode == 2 and result.stdout == "", result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("edge-personalize-jvm: ") and "Exception" not in line
    return line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole run of 40 steps in Kotlin, and the same in Python."""
    folder = tmp_path_factory.mktemp("kotlin") / "run"
    result = call(*learn(folder, "--seed", 0))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    python = Personalizer.from_bundle(BUNDLE)
    python.notify = lambda line: None
    losses = [step.loss for step in python.fit(pocket.PHOTOS, seed=0)]
    assert len(losses) == 40
    record = json.loads((folder / "run.json").read_text())
    return SimpleNamespace(folder=folder, record=record, python=python)


def test_a_whole_run_ends_at_pythons_loss_and_token(run: SimpleNamespace) -> None:
    wanted, found = run.python.embedding, load_embedding(run.folder / LEARNED)
    moved = np.abs(wanted.vectors - run.python.fitted().initial).max()
    assert np.abs(found.vectors - wanted.vectors).max() < 0.01 * moved
    assert found.token == wanted.token and found.metadata == {"format": "pt", **wanted.metadata}
    assert run.record["loss_final"] == pytest.approx(run.python.held_out_loss(), abs=1e-3)
    assert run.record["loss_initial"] == pytest.approx(run.python.held_out_loss(run.python.fitted().initial), abs=1e-5)
    assert run.record["loss_final"] < 0.5 * run.record["loss_initial"]


def test_a_run_folder_is_pythons(run: SimpleNamespace) -> None:
    kept = sorted(path.name for path in run.folder.iterdir() if path.name != ".lock")
    assert kept == ["checkpoint-36", "checkpoint-40", LEARNED, "run.json"]
    assert {path.stat().st_mode & 0o077 for path in run.folder.rglob("*")} == {0}
    assert run.record["unet_forwards"] == 1320 and run.record["steps"] == 40 and run.record["photos_used"] == 5
    assert run.record["zo"] == run.python.fitted().zo.to_dict()
    assert run.record["versions"]["onnxruntime"] == "1.26.0"


def test_python_takes_the_checkpoint_as_its_own(run: SimpleNamespace) -> None:
    """So model, bundle, pixels of photos, ids of prompts, sizes and the word are the same bytes."""
    state = load_state(run.folder / "checkpoint-40" / "state.safetensors", run.python.fitted().fingerprints)
    assert state.step == 40 and state.forwards == 1320


def test_stock_diffusers_draws_the_subject_from_the_learned_file(run: SimpleNamespace) -> None:
    subject, person = subject_and_person(run.folder / LEARNED)
    assert subject < 0.7 * person


def test_pictures_are_pythons(run: SimpleNamespace, tmp_path: Path) -> None:
    prompt, picture = "a picture of <subject> on a blue background", tmp_path / "picture.png"
    drawn = ["--prompt", prompt, "--embedding", run.folder / LEARNED, "--output", picture, "--num_inference_steps", 6]
    result = call("generate", "--bundle", BUNDLE, *drawn)
    assert result.returncode == 0, result.stderr
    (wanted,) = run.python.generate(prompt, num_inference_steps=6)
    difference = np.asarray(Image.open(picture), int) - np.asarray(wanted, int)
    assert np.abs(difference).max() <= 3 and np.asarray(wanted).std() > 20


@pytest.mark.parametrize(
    ("family", "weights"),
    [("pocket", "int8"), ("pocket", "int4"), ("pocket", "none"), ("sd2", "int8"), ("sdxl", "int4")],
)
def test_golden_vectors_are_within_the_bounds(family: str, weights: str, bundle_of: Callable[[str, str], Path]) -> None:
    result = call("verify", "--bundle", bundle_of(family, weights))
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and len(lines) == 5 and all(": ok, " in line for line in lines), result.stdout


def test_golden_vectors_beyond_a_bound_are_status_1(bundle_of: Callable[[str, str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of("pocket", "int8"), tmp_path / "bundle"))
    golden = folder / "golden.json"
    text = golden.read_text().replace('"onnxruntime": 1e-05', '"onnxruntime": 1e-12')
    golden.write_text(text)
    list_again(folder, "golden.json")
    result = call("verify", "--bundle", folder)
    assert result.returncode == 1 and "FAILED" in result.stdout and result.stderr == ""


def test_sdxl_learns_as_in_python(bundle_of: Callable[[str, str], Path], photos: Path, tmp_path: Path) -> None:
    """Two text encoders, sizes of photos, several vectors, and the paper's optimizer."""
    bundle, options = bundle_of("sdxl", "int8"), {"initializer_token": "dog", "num_vectors": 2, "preset": "paper"}
    flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    settings = ["--max_train_steps=3", "--zo_mu", 0.01, "--subspace_buffer", 2, "--timestep_range", 0, 900]
    result = call(*learn(tmp_path / "run", *flags, *settings, bundle=bundle, photos=photos))
    assert result.returncode == 0, result.stderr
    python = Personalizer.from_bundle(bundle)
    python.notify = lambda line: None
    changed = {"max_train_steps": 3, "zo_mu": 0.01, "subspace_buffer": 2, "timestep_range": (0, 900)}
    list(python.fit(photos, **options, **changed))  # type: ignore[arg-type]
    load_state(tmp_path / "run" / "checkpoint-3" / "state.safetensors", python.fitted().fingerprints)
    found = load_embedding(tmp_path / "run" / LEARNED)
    assert found.widths == python.embedding.widths
    moved = np.abs(python.embedding.vectors - python.fitted().initial).max()
    assert (
        np.abs(found.vectors - python.embedding.vectors).max() < 0.05 * moved
    )  # other kernels round other borderline values


def test_photos_of_many_kinds_are_pythons_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (21, 34, 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (21, 34), dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "a_turned.png", exif=exif)
    rgba.save(folder / "b_clear.png")
    rgb.convert("L").save(folder / "c_grey.png")
    rgb.quantize(16).save(folder / "d_palette.png")
    Image.merge("LA", (rgb.convert("L"), alpha)).save(folder / "e_grey_clear.png")
    Image.fromarray(rng.integers(0, 65536, (20, 20), dtype=np.uint16)).save(folder / "f_deep.png")
    rgb.convert("1").save(folder / "g_black.png")
    rgb.save(folder / "h.bmp")
    rgb.save(folder / "i.tiff")
    (folder / "notes.txt").write_text("a caption")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    result = call(*learn(tmp_path / "run", "--max_train_steps", 1, photos=folder)[:-3], "--max_train_steps", 1)
    assert result.returncode == 0, result.stderr
    assert "skipped broken.jpg: damaged" in result.stdout and "learning from 9 photo(s)" in result.stdout
    python = Personalizer.from_bundle(BUNDLE)
    python.notify = lambda line: None
    next(iter(python.fit(folder, max_train_steps=1)))
    load_state(tmp_path / "run" / "checkpoint-1" / "state.safetensors", python.fitted().fingerprints)


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    options = ["--max_train_steps", 6, "--checkpointing_steps", 1, "--eval_draws", 2, "--seed", 2**64 - 1]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert call(*learn(whole, *options)).returncode == 0
    process = subprocess.Popen(words(*learn(killed, *options)), stderr=subprocess.PIPE)
    while not (killed / "checkpoint-2").exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (killed / LEARNED).exists()
    result = call(*learn(killed, *options, "--resume_from_checkpoint", "latest"))
    assert result.returncode == 0, result.stderr
    assert (killed / LEARNED).read_bytes() == (whole / LEARNED).read_bytes()
    assert json.loads((killed / "run.json").read_text())["resumed"] >= 2
    assert not list(killed.glob(".edge-sdk-*"))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    options = ["--max_train_steps", 400, "--checkpointing_steps", 2, "--eval_draws", 1]
    folder = tmp_path / "run"
    process = subprocess.Popen(words(*learn(folder, *options)), stderr=subprocess.PIPE, text=True)
    while not (folder / "checkpoint-2").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, line = process.communicate(timeout=120)
    assert process.returncode == 130 and len(line.splitlines()) == 1
    step = int(line.split("stopped after step ")[1].split(",")[0])
    assert "--resume_from_checkpoint latest" in line and (folder / f"checkpoint-{step}").exists()
    assert not (folder / LEARNED).exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["personalize"], "--bundle is missing"),
        (["learn"], "'learn' is no command"),
        (["personalize", "--bundl", "x"], "--bundl is no flag"),
        (["verify", "--bundle"], "--bundle lacks its value"),
        (["verify", "--bundle", "nowhere"], "manifest.json cannot be read"),
        (["measure", "--bundle", BUNDLE, "--output", "nowhere/result.json"], "nowhere/result.json cannot be written"),
        (["generate", "--bundle", BUNDLE, "--prompt", "x", "--output", "x.png", "--num_images", 0], "num_images is 0"),
        (
            ["generate", "--bundle", BUNDLE, "--prompt", "x", "--output", "x.png", "--embedding", BUNDLE],
            "cannot be read",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_command_is_one_line(arguments: list[object], part: str) -> None:
    assert part in one_line(*arguments)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--seed", "-1"], "--seed is '-1'"),
        (["--seed", 2**64], "--seed is"),
        (["--max_train_steps", "many"], "a number of steps or auto"),
        (["--max_train_steps", 0], "max_train_steps is 0"),
        (["--preset", "slow"], "preset is"),
        (["--zo_mu", "nan"], "zo_mu is"),
        (["--timestep_range", 5, 5], "timestep_range is"),
        (["--num_vectors", 40], "would be cut off"),
        (["--placeholder_token", "person"], "is already a word"),
        (["--placeholder_token", "two words"], "one word without spaces"),
        (["--initializer_token", "two words"], "must be one word"),
        (["--train_data_dir", "nowhere"], "train_data_dir nowhere cannot be read"),
        (["--train_data_dir", TOOLS], "holds no usable photo"),
        (["--resume_from_checkpoint", "latest"], "no checkpoint-<step> folder"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere/state.safetensors cannot be read"),
        (["--output_dir", "/proc/run"], "/proc/run cannot be written"),
        (["--threads", 1000], "threads is 1000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_one_line_and_writes_nothing(arguments: list[object], part: str, tmp_path: Path) -> None:
    assert part in one_line(*learn(tmp_path / "run"), *arguments)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_results_are_not_overwritten(run: SimpleNamespace) -> None:
    before = (run.folder / LEARNED).read_bytes()
    assert "already holds run.json" in one_line(*learn(run.folder))
    assert (run.folder / LEARNED).read_bytes() == before


def test_measure_writes_a_device_record(tmp_path: Path) -> None:
    result = call(
        "measure", "--bundle", BUNDLE, "--output", tmp_path / "jvm.json", "--max_train_steps", 2, "--threads", 1
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "jvm.json").read_text())
    assert list(record)[:3] == ["schema_version", "command", "date"] and record["schema_version"] == 1
    ((name, row),) = record["results"].items()
    assert name == f"int8 kotlin, {record['machine']['name']}"
    case, (measured,) = row["case"], row["runs"]
    assert (case["kind"], case["client"], case["threads"], case["steps"], case["forwards"]) == (
        "device",
        "kotlin",
        1,
        2,
        66,
    )
    assert set(measured["phases"]) == {"import", "load", "step", "run"} and len(measured["seconds"]) == 2
    assert 0 < measured["phases"]["step"]["anonymous"] <= measured["phases"]["step"]["resident"] < 1000
    assert measured["temperature_c"] == {"start": None, "end": None}


def test_nothing_is_written_but_what_was_asked_for(tmp_path: Path) -> None:
    """No telemetry of the runtime, no profile, no log."""
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": cache, "TMPDIR": str(home)}
    arguments = words(*learn(folder, "--max_train_steps", 1, "--eval_draws", 1))
    subprocess.run(arguments, env=environment, cwd=home, check=True, timeout=300)
    assert list(home.iterdir()) == [] and {path.name for path in folder.iterdir()} == {
        ".lock",
        "checkpoint-1",
        LEARNED,
        "run.json",
    }


def test_a_bundle_for_qualcomms_processor_is_simulated_as_in_python(qnn_bundle: Path, tmp_path: Path) -> None:
    verified = call("verify", "--bundle", qnn_bundle)
    assert verified.returncode == 0 and "FAILED" not in verified.stdout, verified.stdout + verified.stderr
    result = call(*learn(tmp_path / "run", "--max_train_steps", 2, "--eval_draws", 4, bundle=qnn_bundle))
    assert result.returncode == 0, result.stderr
    assert_learned_as_in_python(tmp_path / "run", qnn_bundle)


def test_a_token_of_more_vectors_than_a_bundle_for_a_processor_has_is_refused(qnn_bundle: Path, tmp_path: Path) -> None:
    line = one_line(*learn(tmp_path / "run", "--num_vectors", 2, bundle=qnn_bundle))
    assert "num_vectors is 2" in line and "are for 1; give that" in line
