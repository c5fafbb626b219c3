"""Nothing in a model's folder is ever executed: not by what its index names, nor its configs, nor files beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.cli.main import main
from tests.hostile import Hostile


@pytest.fixture(params=["sd1", "sdxl"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    return Hostile(request.getfixturevalue(f"{request.param}_folder"), tmp_path / "model", monkeypatch)


def test_the_programs_leave_a_mark_when_they_are_imported(hostile: Hostile) -> None:
    assert not hostile.was_run
    namespace: dict[str, object] = {}
    exec((hostile.folder / "unet" / "evil.py").read_text(), namespace)
    assert hostile.was_run and "Evil" in namespace


@pytest.mark.parametrize(
    "words",
    [
        lambda photos, out: ["personalize", "--train_data_dir", photos, "--initializer_token", "person",
                             "--max_train_steps", "1", "--eval_draws", "2", "--output_dir", out],
        lambda photos, out: ["generate", "--prompt", "a person", "--num_inference_steps", "1", "--output",
                             f"{out}.png"],
        lambda photos, out: ["quantize", "--output_dir", out],
        lambda photos, out: ["export", "--output_dir", out],
    ],
    ids=["personalize", "generate", "quantize", "export"],
)  # fmt: skip
def test_a_command_on_such_a_folder_runs_none_of_it(
    words: Callable[[str, str], list[str]], hostile: Hostile, photos: Path, tmp_path: Path
) -> None:
    command = [*words(str(photos), str(tmp_path / "out")), "--quiet"]
    assert main([*command, "--pretrained_model_name_or_path", str(hostile.folder)]) == 0
    assert not hostile.was_run


@pytest.mark.parametrize("command", ["quantize", "export"])
def test_no_program_is_copied_into_what_ships(command: str, hostile: Hostile, tmp_path: Path) -> None:
    words = ["--pretrained_model_name_or_path", str(hostile.folder), "--output_dir", str(tmp_path / "out"), "--quiet"]
    assert main([command, *words]) == 0
    assert list((tmp_path / "out").rglob("*.py")) == []
    assert sorted(path.name for path in (tmp_path / "out" / "tokenizer").iterdir()) == sorted(
        path.name for path in (hostile.folder / "tokenizer").iterdir() if path.suffix != ".py"
    )
