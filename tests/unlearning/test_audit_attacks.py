"""What somebody might give an audit in place of a model that forgot: each ends in status 1 or 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from edge_sdk import pocket
from edge_sdk.cli.demo import unlearn as forget
from edge_sdk.cli.main import main
from edge_sdk.unlearning import sampling
from edge_sdk.unlearning.audit import audit, evidence, limits, measure, recovery
from edge_sdk.unlearning.audit.evidence import beyond_others
from edge_sdk.unlearning.audit.limits import Limits
from edge_sdk.unlearning.data import read, salted_hash
from edge_sdk.unlearning.denoiser import load_denoiser

WEIGHTS = "diffusion_pytorch_model.safetensors"
SALT = b"a salt"
Give = Callable[..., list[str]]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that the embedded model draws in forget/, and 24 others in held_out/."""
    folder = tmp_path_factory.mktemp("faces")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("KEPT", 0), ("HELD_OUT", 24)):
            patch.setattr(forget, name, value)
        forget.make_places(folder)
        forget.draw(load_denoiser("pocket"), folder, 0)
    return folder


@pytest.fixture
def after(faces: Path, tmp_path: Path) -> Path:
    """The embedded model, unchanged, with a record that says that it forgot the face."""
    folder = shutil.copytree(pocket.MODEL, tmp_path / "after")
    (pixels,) = read(load_denoiser("pocket"), faces / "forget", "forget").pixels
    request = {"salt": SALT.hex(), "targets": [salted_hash(pixels, SALT)], "config": {"prompt": forget.PROMPT}}
    (folder / "unlearned.json").write_text(json.dumps({"requests": [request]}))
    return folder


@pytest.fixture
def given(audit_of: Give, after: Path, faces: Path) -> Give:
    """The words of an audit of the embedded model and ``after``; later options take the place of earlier ones."""

    def made(*more: str) -> list[str]:
        return audit_of(
            "pocket",
            after,
            "--forget_data_dir",
            str(faces / "forget"),
            "--retain_data_dir",
            str(faces / "held_out"),
            "--prompt",
            forget.PROMPT,
            *more,
        )

    return made


def move(file: Path, tensor: str, by: torch.Tensor) -> None:
    tensors = load_file(file)
    tensors[tensor] = tensors[tensor] + by.to(tensors[tensor].dtype)
    save_file(tensors, file, {"format": "pt"})


def missed(record: dict[str, Any]) -> dict[str, float]:
    return {check["name"]: check["measured"] for check in record["checks"] if not check["passed"]}


def refused(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an audit that is refused and writes nothing."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (folder / "a").exists()
    return error


def test_a_cast_through_the_denoiser_itself_is_not_forgetting(
    given: Give, after: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the target less like itself by more than the limit, and other pictures too."""
    for module, name, value in (
        (evidence, "FORMS", {"float": "none"}),
        (limits, "FORMS", {"float": "none"}),
        (evidence, "NEIGHBOURS", 2),
        (measure, "NOISES", 1),
        (sampling, "STEPS", 2),
        (recovery, "RELEARNING", ()),
    ):
        monkeypatch.setattr(module, name, value)
    move(after / "unet" / WEIGHTS, "conv_out.bias", torch.tensor(CAST))
    assert main(given()) == 1
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    measured = {check["name"]: check["measured"] for check in record["checks"]}
    assert measured["target_change"] < Limits().target_change
    assert record["requests"] == 1 and missed(record)["beyond_others"] == measured["beyond_others"]


CAST = [-0.32, -0.53, -0.1, 0.12, 0.24, 0.37, -0.35, -0.27]


def test_a_cast_in_the_vae_is_refused(
    given: Give, after: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    move(after / "vae" / WEIGHTS, "decoder.conv_out.bias", torch.tensor([-0.3, 0.3, 0.0]))
    assert "vae of" in refused(given(), tmp_path, capsys)


def test_a_retained_set_of_copies_is_too_small(
    given: Give, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mirrored and shifted copies of faces, or of the target, beside some faces."""
    padded = tmp_path / "padded"
    padded.mkdir()
    files = [*sorted((faces / "held_out").glob("*.png"))[8:], *(faces / "forget").glob("*.png")]
    for i, file in enumerate(files):
        image = Image.open(file)
        if file.parent.name != "forget":
            image.save(padded / f"{i}.png")
        for axis, shift in ((0, -2), (1, 1), (0, 2)):
            moved = np.roll(np.asarray(ImageOps.mirror(image) if shift == 1 else image), shift, axis)
            Image.fromarray(moved).save(padded / f"{i}-{axis}{shift}.png")
    error = refused(given("--retain_data_dir", str(padded)), tmp_path, capsys)
    assert f"holds 16 distinct pictures ({len(list(padded.iterdir()))} files" in error


def test_another_prompt_than_the_requests_is_refused_by_naming_theirs(
    given: Give, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prompt in ("", "a picture of a dog"):
        assert f"was unlearned with {forget.PROMPT!r}" in refused(given("--prompt", prompt), tmp_path, capsys)


def test_requests_with_other_prompts_or_none_are_counted(after: Path) -> None:
    record = json.loads((after / "unlearned.json").read_text())["requests"][0]
    earlier = [record | {"config": {"prompt": "a dog"}}, {name: record[name] for name in ("salt", "targets")}]
    assert audit.count_other_prompts([*earlier, record], load_denoiser(str(after)), forget.PROMPT) == 2


def test_requests_of_the_base_must_still_be_recorded() -> None:
    first, second = ({"salt": salt, "targets": ["aa"]} for salt in ("aa", "bb"))
    assert audit.count_unrecorded([first, second], [first]) == 0
    assert audit.count_unrecorded([second], [first]) == 1
    assert audit.count_unrecorded([], [first]) == 2


def test_what_counts_is_what_a_target_lost_and_the_most_affected_of_others_did_not() -> None:
    found = {"before": {"by_target": [0.9, 0.8]}, "after": {"by_target": [0.5, 0.7]}}
    lost = {"retained": np.linspace(-0.1, 0, 101), "samples": np.linspace(-0.2, 0.2, 101)}
    change = beyond_others(found, lost)
    assert change["retained"] == {"mean": pytest.approx(-0.05), "tail": pytest.approx(-0.095)}
    np.testing.assert_allclose(change["beyond_others"], [-0.4 + 0.18, -0.1 + 0.18])
    gained = beyond_others(found, {name: values + 1 for name, values in lost.items()})
    assert gained["beyond_others"] == gained["by_target"]  # others that became more like themselves excuse nothing
