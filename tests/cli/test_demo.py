"""`edge-sdk demo`: the main job from one command, and its result in stock diffusers."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_main import call, refused, start
from tests.stock_diffusers import subject_and_person

LEARNED = "learned_embeds.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    process = start("demo", "--output_dir", folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"wrote {folder}/{LEARNED}" in out and "learning a person" in err
    return folder


def test_it_learns_the_bundled_subject(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    assert record["command"] == "demo" and record["model"] == "pocket" and record["execution"] == "integer"
    assert record["loss_final"] < 0.6 * record["loss_initial"]


@pytest.mark.parametrize(("name", "rows"), [("preview.png", 3), ("prompts.png", 4)], ids=lambda value: str(value))
def test_it_leaves_sheets_of_five_pictures_a_row(name: str, rows: int, folder: Path) -> None:
    with Image.open(folder / name) as sheet:
        assert sheet.size == (5 * 136 + 8, rows * 164)


def test_stock_diffusers_draws_the_subject_from_the_learned_file(folder: Path) -> None:
    subject, person = subject_and_person(folder / LEARNED)
    assert subject < 0.7 * person


def test_a_folder_that_holds_a_run_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / LEARNED).read_bytes()
    line = refused(capsys, "demo", "--output_dir", folder, "--quiet")
    assert "already holds run.json" in line and (folder / LEARNED).read_bytes() == before


@pytest.mark.parametrize("seed", ["-1", "lucky"])
def test_a_bad_seed_is_said(seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "seed" in refused(capsys, "demo", "--output_dir", tmp_path / "run", "--seed", seed, "--quiet")


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("demo", "--output_dir", tmp_path / "run", "--quiet")
    while not list(tmp_path.glob("run/checkpoint-*/state.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "" and err.startswith("edge-sdk: stopped after step ") and err.count("\n") == 1
    assert call("demo", "--help") == 0
    assert set(re.findall(r"--\w+", err)) <= set(re.findall(r"--\w+", capsys.readouterr().out))
