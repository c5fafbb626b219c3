"""`edge-sdk quantize`: an integer checkpoint that every other command takes."""

import json
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from edge_sdk.model_files import INTEGER_MARK, PARTS
from tests.cli.test_main import call, refused, start


@pytest.fixture(scope="module", params=["int8", "int4"])
def checkpoint(
    request: pytest.FixtureRequest, sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("integers") / request.param
    words = ["--weights", request.param, "--output_dir", folder, "--quiet"]
    assert call("quantize", "--pretrained_model_name_or_path", sd1_folder, *words) == 0
    return request.param, folder


def weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for part in PARTS for path in (folder / part).glob("*.safetensors"))


def test_the_checkpoint_is_small_and_says_what_it_is(checkpoint: tuple[str, Path], sd1_folder: Path) -> None:
    weights, folder = checkpoint
    record = json.loads((folder / INTEGER_MARK).read_text())
    assert record["weights"] == weights and record["vae_weights"] == "int8" and record["integer_weights"] > 100_000
    assert record["bytes"] == weight_bytes(folder) < 0.4 * weight_bytes(sd1_folder)
    assert str(sd1_folder) not in (folder / INTEGER_MARK).read_text()


def test_a_token_is_learned_and_drawn_on_the_checkpoint(
    checkpoint: tuple[str, Path], photos: Path, tmp_path: Path
) -> None:
    weights, folder = checkpoint
    model = ["--pretrained_model_name_or_path", folder, "--weights", weights, "--quiet"]
    few = ["--initializer_token", "dog", "--max_train_steps", 3, "--eval_draws", 2, "--no_preview"]
    assert call("personalize", *model, *few, "--train_data_dir", photos, "--output_dir", tmp_path / "run") == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["model"], record["weights"], record["execution"]) == (weights, weights, "integer")
    draw = ["--embedding", tmp_path / "run/learned_embeds.safetensors", "--prompt", "a <subject>"]
    assert call("generate", *model, *draw, "--num_inference_steps", 2, "--output", tmp_path / "x.png") == 0
    Image.open(tmp_path / "x.png").verify()


def test_a_checkpoint_computes_what_the_model_quantized_on_the_fly_does(
    checkpoint: tuple[str, Path], sd1_folder: Path, photos: Path, tmp_path: Path
) -> None:
    weights, folder = checkpoint
    losses = []
    for model in (folder, sd1_folder):
        run = ["personalize", "--pretrained_model_name_or_path", model, "--weights", weights, "--quiet"]
        run += ["--train_data_dir", photos, "--output_dir", tmp_path / model.name, "--initializer_token", "dog"]
        assert call(*run, "--max_train_steps", 1, "--eval_draws", 4, "--no_preview") == 0
        losses.append(json.loads((tmp_path / model.name / "run.json").read_text())["loss_initial"])
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)


def test_it_says_what_it_wrote(sd1_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("quantize", "--pretrained_model_name_or_path", sd1_folder, "--output_dir", tmp_path / "q") == 0
    assert f"wrote {tmp_path}/q: " in capsys.readouterr().out


def test_a_checkpoint_is_not_quantized_again_or_run_as_other_weights(
    checkpoint: tuple[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, folder = checkpoint
    model = ["--pretrained_model_name_or_path", folder]
    again = refused(capsys, "quantize", *model, "--weights", weights, "--output_dir", tmp_path / "again")
    assert f"holds {weights} weights already" in again
    for other in {"int8", "int4", "none"} - {weights}:
        run = ["generate", *model, "--weights", other, "--prompt", "a dog", "--output", tmp_path / "x.png"]
        assert f"ask for --weights {weights}, not {other}" in refused(capsys, *run)


def test_a_damaged_checkpoint_is_said(
    checkpoint: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, folder = checkpoint
    path = folder / "unet/integer_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    try:
        words = ["--weights", weights, "--prompt", "a dog", "--output", tmp_path / "x.png"]
        line = refused(capsys, "generate", "--pretrained_model_name_or_path", folder, *words)
    finally:
        path.write_bytes(whole)
    assert str(path) in line and "cut short" in line


def test_a_folder_that_is_taken_or_a_file_is_said(
    sd1_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    words = ["quantize", "--pretrained_model_name_or_path", sd1_folder, "--output_dir"]
    assert "choose another place" in refused(capsys, *words, tmp_path / "file")
    assert "already holds model_index.json; use another --output_dir" in refused(capsys, *words, sd1_folder)


@pytest.mark.parametrize("words", ["--weights none", "--pretrained_model_name_or_path nowhere"])
def test_a_mistake_is_one_line(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert words.split()[1] in refused(capsys, "quantize", "--output_dir", tmp_path / "q", *words.split())
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_with_130_and_leaves_no_part(number: signal.Signals, tmp_path: Path) -> None:
    process = start("quantize", "--output_dir", tmp_path / "q", "--quiet")
    while not list(tmp_path.glob("q/.edge-sdk-*")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "edge-sdk: cancelled\n") and process.returncode == 130
    assert [path.name for path in (tmp_path / "q").iterdir()] == [".lock"]
