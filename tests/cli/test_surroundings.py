"""What surrounds a command on a user's machine: homes, folders, pipes, names, embeddings of other programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_sdk import pocket
from edge_sdk.cli.main import USER_ERROR
from tests.cli.test_main import call, environment, refused

DRAW = ("generate", "--num_inference_steps", "1", "--prompt", "a picture of a person", "--output")
PROGRAM = "import sys\nfrom edge_sdk.cli.main import main\nsys.exit(main())\n"  # what pip installs as edge-sdk


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The installed command: unlike ``python -m`` it does not look for modules in the current folder."""
    path = tmp_path / "bin" / "edge-sdk"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


def on_path() -> dict[str, str]:
    return environment() | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or os.getcwd()}


HOMES: dict[str, dict[str, str | None]] = {
    "no HOME": {"HOME": None, "XDG_CACHE_HOME": "/proc/no"},
    "HOME is no folder": {"HOME": "/dev/null", "XDG_CACHE_HOME": None},
    "no place to keep anything": {"HOME": "/proc/no", "XDG_CACHE_HOME": "/proc/no", "TMPDIR": "/proc/no"},
}


@pytest.mark.parametrize("change", HOMES.values(), ids=HOMES)
def test_a_picture_is_drawn_without_a_home(change: dict[str, str | None], command: list[str], tmp_path: Path) -> None:
    values = {**on_path(), **change}
    given = {name: value for name, value in values.items() if value is not None}
    done = subprocess.run([*command, *DRAW, "x.png"], cwd=tmp_path, env=given, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "x.png").exists(), done.stderr
    assert "Traceback" not in done.stderr and "integer products are not compiled" in done.stderr


def test_modules_in_the_current_folder_are_not_taken_for_libraries(command: list[str], tmp_path: Path) -> None:
    for name in ("torch", "numpy", "tokenizers", "export", "edge_sdk", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a library')")
    done = subprocess.run([*command, *DRAW, "x.png"], cwd=tmp_path, env=on_path(), capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "x.png").exists(), done.stderr


PIPES = ("{} --help | head -n 1", "{} {} | head -c 0", "{} {} 2>&1 | head -c 1")


def test_a_reader_that_goes_away_leaves_no_traceback(command: list[str], tmp_path: Path) -> None:
    words, draw = " ".join(command), " ".join(map(repr, (*DRAW, "x.png")))
    for pipe in PIPES:
        program = f"set -o pipefail; {pipe.format(words, draw)} >/dev/null"
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, env=on_path(), capture_output=True, text=True)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr, (pipe, done.stderr)
    assert (tmp_path / "x.png").exists()


def test_places_may_have_any_letters_and_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Path(shutil.copytree(pocket.BUNDLE, tmp_path / "my b\u00fcndle \u732b \U0001f642 'x'"))
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    learn = ["personalize", "--bundle", bundle, "--train_data_dir", pocket.PHOTOS, "--output_dir", "."]
    assert call(*learn, "--max_train_steps", 1, "--eval_draws", 1, "--no_preview") == 0
    assert call(*DRAW, "x.png", "--bundle", bundle, "--embedding", "learned_embeds.safetensors") == 0
    assert {"x.png", "run.json", "learned_embeds.safetensors"} <= {path.name for path in Path().iterdir()}
    assert call("personalize", *learn[3:], "--resume_from_checkpoint", "latest") == USER_ERROR  # of another model


def test_an_embedding_of_a_web_ui_has_the_name_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensor = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 128)).astype(np.float16))
    path = tmp_path / "my style v2.safetensors"
    save_file({"emb_params": tensor}, path, {"sd_checkpoint_name": "v1-5", "step": "900"})
    prompt = "a picture in MY STYLE V2"
    assert call(*DRAW, tmp_path / "x.png", "--prompt", prompt) == 0 and "effect" not in capsys.readouterr().err
    assert call(*DRAW, tmp_path / "y.png", "--prompt", prompt, "--embedding", path) == 0
    assert "effect" not in capsys.readouterr().err
    assert (tmp_path / "x.png").read_bytes() != (tmp_path / "y.png").read_bytes()


FOREIGN = {
    "SDXL's two": {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)},
    "pivotal tuning's two": {"text_encoders_0": torch.ones(2, 768), "text_encoders_1": torch.ones(2, 1280)},
    "another family's width": {"<s>": torch.ones(1, 1024)},
    "an adapter": {"lora_down.weight": torch.ones(4, 128), "lora_up.weight": torch.ones(128, 4)},
}


@pytest.mark.parametrize("tensors", FOREIGN.values(), ids=FOREIGN)
def test_an_embedding_of_another_model_is_one_line(
    tensors: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(tensors, tmp_path / "e.safetensors")
    line = refused(capsys, *DRAW, tmp_path / "x.png", "--embedding", tmp_path / "e.safetensors")
    assert "wide and this model takes 128" in line or "holds 2 tensors" in line


def test_a_model_that_was_downloaded_before_is_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "hub" / "models--acme--people"
    shutil.copytree(pocket.MODEL, cache / "snapshots" / ("1" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("1" * 40)
    given = environment() | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "edge_sdk.cli.main", *DRAW, str(tmp_path / "x.png"), "--weights", "none"]
    for name, status in (("hub:acme/people", 0), ("hub:acme/others", USER_ERROR)):
        model = ["--pretrained_model_name_or_path", name]
        done = subprocess.run([*words, *model], capture_output=True, text=True, env=given)
        assert done.returncode == status and "Traceback" not in done.stderr, done.stderr
    assert "acme/others is not among the models that were downloaded before" in done.stderr
    assert (tmp_path / "x.png").exists()
