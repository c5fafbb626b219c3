"""A run on disk: exactly the files of the contract, no trace of the photos, nothing lost however it ends."""

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from edge_sdk import EdgeSdkError, load_embedding
from edge_sdk.diffusion.stable_diffusion import StableDiffusionObjective
from edge_sdk.model_files import read_header
from edge_sdk.run_folder import Cancelled, run_personalization
from edge_sdk.zo import Step, ZoConfig, latest_checkpoint
from tests import tiny_models

QUICK = {
    "initializer_token": "dog", "max_train_steps": 8, "zo_samples": 2, "average_from": 0.5, "eval_draws": 2,
    "checkpointing_steps": 2, "preview": False,
}  # fmt: skip
RECORD = {
    "schema_version": int, "command": str, "model": str, "weights": str, "execution": str, "preset": str,
    "steps": int, "unet_forwards": int, "seconds": float, "peak_rss_mb": float, "peak_anon_mb": float,
    "loss_initial": float, "loss_final": float, "seed": int, "resumed": int, "versions": dict,
}  # fmt: skip
LEARNED = "learned_embeds.safetensors"


@pytest.fixture
def learn(sd1_folder: Path, photos: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(folder: Path = tmp_path / "run", data: Path = photos, model: Path = sd1_folder, **options: Any) -> Any:
        return run_personalization(data, folder, str(model), **{**QUICK, **options})

    return run


@pytest.fixture(scope="module")
def whole(sd1_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The learned file of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_personalization(photos, folder, str(sd1_folder), **QUICK)
    return (folder / LEARNED).read_bytes()


@pytest.fixture
def stopped(learn: Callable[..., Any], tmp_path: Path) -> Path:
    """A run that was stopped after step 5, with checkpoints 4 and 5."""
    calls = count(1)
    with pytest.raises(Cancelled, match=r"stopped after step 5, saved"):
        learn(stop=lambda: next(calls) == 5)
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_leaves_the_files_of_the_contract_and_nothing_of_the_photos(
    learn: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    album = tmp_path / "family-album"
    album.mkdir()
    for path in photos.iterdir():
        shutil.copy(path, album / f"grandmother-{path.name}")
        (album / f"grandmother-{path.stem}.txt").write_text("confidential dog")
    record = learn(data=album, use_captions=True, preview=True, max_train_steps=7)

    files = contents(tmp_path / "run")
    states = {"checkpoint-6/state.safetensors", "checkpoint-7/state.safetensors"}
    assert set(files) == {".lock", LEARNED, "run.json", "preview.png", *states}
    assert all(len(files[name]) < 1_000_000 for name in states)
    Image.open(tmp_path / "run/preview.png").verify()

    pixels = np.asarray(Image.open(photos / "0.png"))
    for name, data in files.items():
        for word in ("grandmother", "family-album", "confidential", str(tmp_path)):
            assert word.encode() not in data, f"{name} holds {word}"
        assert pixels.tobytes()[:64] not in data and (photos / "0.png").read_bytes()[64:128] not in data

    assert json.loads(files["run.json"]) == record
    assert {name: type(record[name]) for name in RECORD} == RECORD
    assert record["command"] == "personalize" and record["model"] == "sd1" and record["resumed"] == 0
    assert record["steps"] == 7 and record["seconds"] > 0
    assert record["unet_forwards"] == 7 * ZoConfig.from_dict(record["zo"]).forwards_per_step
    assert record["peak_rss_mb"] >= record["peak_anon_mb"] > 50
    assert {"edge-sdk", "python", "torch", "diffusers", "numpy"} <= set(record["versions"])


def test_the_learned_file_holds_one_float32_tensor_and_strings(learn: Callable[..., Any], tmp_path: Path) -> None:
    learn(num_vectors=2, placeholder_token="<mug1>")
    tensors, metadata = load_file(tmp_path / "run" / LEARNED), read_header(tmp_path / "run" / LEARNED)["__metadata__"]
    assert list(tensors) == ["<mug1>"] and tensors["<mug1>"].shape == (2, 32) and tensors["<mug1>"].dtype == np.float32
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["initializer_token"] == "dog" and metadata["steps"] == "8" and metadata["weights"] == "int8"
    assert "preview.png" not in os.listdir(tmp_path / "run")


def test_the_two_losses_are_of_the_first_and_the_last_token(learn: Callable[..., Any], tmp_path: Path) -> None:
    still = learn(tmp_path / "still", trust_radius=1e-12)
    moved = learn(tmp_path / "moved")
    assert still["loss_final"] == pytest.approx(still["loss_initial"], rel=1e-6)
    assert moved["loss_initial"] == still["loss_initial"] != pytest.approx(moved["loss_final"], rel=1e-4)


def test_the_seed_decides_the_bytes(learn: Callable[..., Any], whole: bytes, tmp_path: Path) -> None:
    learn(tmp_path / "same", seed=0)
    learn(tmp_path / "other", seed=1)
    assert (tmp_path / "same" / LEARNED).read_bytes() == whole
    assert (
        load_embedding(tmp_path / "other" / LEARNED).vectors != load_embedding(tmp_path / "same" / LEARNED).vectors
    ).all()


def test_a_time_budget_ends_the_run_with_a_usable_token(learn: Callable[..., Any], tmp_path: Path) -> None:
    said: list[str] = []
    started = time.monotonic()
    record = learn(max_train_steps=100_000, time_budget_s=2.0, notify=said.append)
    assert time.monotonic() - started < 10 and 1 <= record["steps"] < 100_000
    assert said[-1] == f"the time budget ends the run after step {record['steps']}"
    assert load_embedding(tmp_path / "run" / LEARNED).metadata["steps"] == str(record["steps"])
    assert latest_checkpoint(tmp_path / "run")[0].step == record["steps"]


def test_a_stopped_run_keeps_its_checkpoint_and_resumes_to_the_same_bytes(
    learn: Callable[..., Any], stopped: Path, whole: bytes
) -> None:
    assert sorted(os.listdir(stopped)) == [".lock", "checkpoint-4", "checkpoint-5"]
    record = learn(resume_from_checkpoint="latest")
    assert (stopped / LEARNED).read_bytes() == whole
    assert record["resumed"] == 5 and record["steps"] == 8
    assert record["unet_forwards"] == 8 * ZoConfig.from_dict(record["zo"]).forwards_per_step


def test_a_run_resumes_from_the_checkpoint_that_is_named(
    learn: Callable[..., Any], stopped: Path, whole: bytes
) -> None:
    assert learn(resume_from_checkpoint=str(stopped / "checkpoint-4"))["resumed"] == 4
    assert (stopped / LEARNED).read_bytes() == whole


def test_a_damaged_checkpoint_falls_back_to_the_older_one_and_it_is_said(
    learn: Callable[..., Any], stopped: Path, whole: bytes
) -> None:
    newest = stopped / "checkpoint-5/state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    said: list[str] = []
    assert learn(resume_from_checkpoint="latest", notify=said.append)["resumed"] == 4
    assert any("checkpoint-5" in line and line.endswith("; going on from checkpoint-4") for line in said)
    assert (stopped / LEARNED).read_bytes() == whole


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "learning rate": ({"learning_rate": 0.5}, "other settings"),
    "steps": ({"max_train_steps": 9}, "other settings"),
    "seed": ({"seed": 3}, "other settings"),
    "initializer": ({"initializer_token": "cat"}, "made with (an)?other"),
    "placeholder": ({"placeholder_token": "<other>"}, "made with (an)?other"),
    "vectors": ({"num_vectors": 2}, "made with another"),
    "templates": ({"learnable_property": "style"}, "made with another"),
    "weights": ({"weights": "int4"}, "another weights"),
    "execution": ({"execution": "fused"}, "another weights"),
}


@pytest.mark.parametrize(("options", "said"), OTHER.values(), ids=OTHER)
def test_resuming_with_other_settings_is_refused(
    options: dict[str, Any], said: str, learn: Callable[..., Any], stopped: Path
) -> None:
    before = contents(stopped)
    with pytest.raises(EdgeSdkError, match=said) as caught:
        learn(resume_from_checkpoint="latest", **options)
    assert "\n" not in str(caught.value) and contents(stopped) == before


def test_resuming_with_other_photos_or_another_model_is_refused(
    learn: Callable[..., Any], stopped: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "album").mkdir()
    shutil.copy(photos / "0.png", tmp_path / "album")
    with pytest.raises(EdgeSdkError, match="another photos"):
        learn(data=tmp_path / "album", resume_from_checkpoint="latest")
    with pytest.raises(EdgeSdkError, match="another model"):
        learn(model=tiny_models.build(tmp_path / "other", seed=1), resume_from_checkpoint="latest")


def test_resuming_needs_a_checkpoint(learn: Callable[..., Any]) -> None:
    with pytest.raises(EdgeSdkError, match="holds no checkpoint-<step> folder to resume from"):
        learn(resume_from_checkpoint="latest")


def killed_before_its_first_checkpoint(folder: Path) -> None:
    (folder / ".lock").touch()


def killed_within_the_first_save(folder: Path) -> None:
    (folder / f".edge-sdk-{'0' * 32}.tmp" / "checkpoint-2").mkdir(parents=True)
    (folder / ".lock").touch()


def killed_by_an_earlier_version(folder: Path) -> None:
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / ".state.safetensors.1.tmp").write_bytes(b"half")


@pytest.mark.parametrize("resume", [None, "latest"], ids=["the same command", "resumed"])
@pytest.mark.parametrize(
    "killed",
    [killed_before_its_first_checkpoint, killed_within_the_first_save, killed_by_an_earlier_version],
    ids=lambda case: case.__name__,
)
def test_a_run_without_a_checkpoint_starts_from_the_beginning(
    killed: Callable[[Path], None], resume: str | None, learn: Callable[..., Any], whole: bytes, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    killed(tmp_path / "run")
    lines: list[str] = []
    assert learn(resume_from_checkpoint=resume, notify=lines.append)["resumed"] == 0
    assert (tmp_path / "run" / LEARNED).read_bytes() == whole
    assert sum("starts from the beginning" in line for line in lines) == (resume is not None)
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "checkpoint-6", "checkpoint-8", LEARNED, "run.json"]


def test_nothing_is_made_where_there_is_nothing_to_resume(learn: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match="holds no checkpoint"):
        learn(resume_from_checkpoint="latest")
    assert not (tmp_path / "run").exists()


def test_results_without_a_checkpoint_are_not_thrown_away(learn: Callable[..., Any], tmp_path: Path) -> None:
    learn()
    for path in (tmp_path / "run").glob("checkpoint-*"):
        shutil.rmtree(path)
    before = contents(tmp_path / "run")
    with pytest.raises(EdgeSdkError, match="holds no checkpoint"):
        learn(resume_from_checkpoint="latest")
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("mask", [0, 0o022], ids=["umask 0", "umask 22"])
def test_everything_of_a_run_is_for_its_owner_alone(mask: int, learn: Callable[..., Any], tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        learn(tmp_path / "new" / "run", preview=True, report_to="tensorboard")
    finally:
        os.umask(before)
    paths = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {"run.json", "preview.png", LEARNED, "state.safetensors", "logs"} <= set(modes)
    assert modes == {path.name: 0o700 if path.is_dir() else 0o600 for path in paths}


def test_a_folder_of_the_users_keeps_its_mode(learn: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o750)
    learn()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


@pytest.mark.parametrize("report_to", [None, "tensorboard"], ids=["plain", "tensorboard"])
def test_a_folder_that_holds_a_run_is_refused_and_left_alone(
    report_to: str | None, learn: Callable[..., Any], stopped: Path
) -> None:
    before = contents(stopped)
    with pytest.raises(EdgeSdkError, match=r"already holds checkpoint-\d; use another --output_dir, or --resume"):
        learn(report_to=report_to)
    assert contents(stopped) == before


def test_an_output_dir_that_is_a_file_is_refused(learn: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(EdgeSdkError, match=r"cannot be written: .*; choose another place"):
            learn(place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where not even root can write")
@pytest.mark.parametrize("place", ["/proc/edge-sdk", "/proc/edge-sdk/run"], ids=["folder", "folder in a folder"])
def test_an_output_dir_that_cannot_be_made_is_refused(place: str, learn: Callable[..., Any]) -> None:
    with pytest.raises(EdgeSdkError, match=r"cannot be written: .*; choose another place"):
        learn(Path(place))


def test_an_output_dir_without_write_permission_is_refused(
    learn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, _: bytes) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(EdgeSdkError, match="run cannot be written: Permission denied; choose another place"):
        learn()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_older_checkpoint_and_the_run_can_go_on(
    call: str, learn: Callable[..., Any], whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(step: Step) -> None:
        if step.step == 3:
            monkeypatch.setattr(os, call, full)

    with pytest.raises(EdgeSdkError, match=r"^[^\n]*the disk is full; free some space and resume$"):
        learn(on_step=fill)
    monkeypatch.undo()
    assert list(contents(tmp_path / "run")) == [".lock", "checkpoint-2/state.safetensors"]
    assert learn(resume_from_checkpoint="latest")["resumed"] == 2
    assert (tmp_path / "run" / LEARNED).read_bytes() == whole


@pytest.mark.parametrize("steps", [30, 8], ids=["many bad steps", "bad steps at the end"])
def test_losses_that_are_not_finite_keep_the_last_good_token(
    steps: int, learn: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy, good = StableDiffusionObjective.errors, list[np.ndarray]()

    def errors(self: StableDiffusionObjective, *arguments: Any) -> Any:
        values = healthy(self, *arguments)
        return values * np.nan if len(good) >= 3 else values

    monkeypatch.setattr(StableDiffusionObjective, "errors", errors)
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*not finite[^\n]*{LEARNED}[^\n]*$"):
        learn(max_train_steps=steps, average_from=1.0, on_step=lambda step: good.append(step.embedding))
    assert (load_embedding(tmp_path / "run" / LEARNED).vectors == good[2]).all()


def test_loss_curves_are_written_for_tensorboard(learn: Callable[..., Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses: list[float] = []
    learn(report_to="tensorboard", on_step=lambda step: losses.append(step.loss))
    log = EventAccumulator(str(tmp_path / "run/logs"))
    log.Reload()
    curve = log.Scalars("loss")
    assert [event.step for event in curve] == list(range(1, 9))
    assert [event.value for event in curve] == pytest.approx(losses)


def test_an_unknown_report_is_refused(learn: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match="report_to is 'wandb'; it must be tensorboard"):
        learn(report_to="wandb")
    assert not (tmp_path / "run" / LEARNED).exists()
