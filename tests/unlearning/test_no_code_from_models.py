"""Unlearning runs nothing of a model's folder, though its denoiser is of diffusers' classes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from tests.hostile import Hostile


@pytest.fixture(params=["ddpm", "sd1", "sd2", "sd3"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def hostile(family: str, model_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    return Hostile(model_of[family], tmp_path / "model", monkeypatch)


def test_such_a_folder_is_loaded_as_the_model_that_it_is(
    family: str, hostile: Hostile, model_of: dict[str, Path]
) -> None:
    ours, expected = load_denoiser(str(hostile.folder)), load_denoiser(str(model_of[family]))
    for name, value in expected.module.state_dict().items():
        torch.testing.assert_close(ours.module.state_dict()[name], value, rtol=0, atol=0)
    told, correct = ours.condition("a person"), expected.condition("a person")
    assert told.keys() == correct.keys() and all(torch.equal(told[name], correct[name]) for name in correct)
    assert not hostile.was_run


@pytest.mark.parametrize("more", [["--dry_run"], []], ids=["dry run", "run"])
def test_unlearning_it_runs_none_of_it(
    more: list[str], hostile: Hostile, command: Callable[..., list[str]], no_probe: None, tmp_path: Path
) -> None:
    assert main(command(hostile.folder, *more)) == 0
    assert not hostile.was_run
    assert more or list((tmp_path / "out").rglob("*.py")) == []


def test_auditing_it_runs_none_of_it(
    hostile: Hostile, pictures: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*_: object) -> None:
        raise EdgeSdkError("both models are loaded")

    monkeypatch.setattr(Denoiser, "encode", stop)
    words = ["--forget_data_dir", str(pictures["forget"]), "--retain_data_dir", str(pictures["retain"])]
    models = ["--before", str(hostile.folder), "--after", str(hostile.folder)]
    assert main(["audit", *models, *words, "--output_dir", str(tmp_path / "audit"), "--quiet"]) == 2
    assert "both models are loaded" in capsys.readouterr().err
    assert not hostile.was_run


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_config_that_names_a_library_to_load_is_refused(part: str, model_of: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_of["sd1"], tmp_path / "model"))
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {"quant_method": "torchao"}}))
    with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{part} was quantized by another library[^\n]*$"):
        load_denoiser(str(folder))
