"""`edge-sdk generate`: pictures as files, the same for the same seed, and one line for every mistake."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.embedding import LearnedEmbedding, save_embedding
from tests.cli.test_main import call, refused

Command = Callable[..., list[str]]


@pytest.fixture
def command(sd1_folder: Path, tmp_path: Path) -> Command:
    """The words that draw ``tmp_path / "x.png"``; what is given comes last and so wins."""

    def words(*more: object) -> list[str]:
        base = ["generate", "--pretrained_model_name_or_path", sd1_folder, "--prompt", "a photo of a <mug1>"]
        return [str(word) for word in (*base, "--num_inference_steps", 2, "--output", tmp_path / "x.png", *more)]

    return words


def embedding(path: Path, token: str = "<mug1>", width: int = 32, vectors: int = 1) -> Path:
    values = np.random.default_rng(0).standard_normal((vectors, width)).astype(np.float32)
    save_embedding(path, LearnedEmbedding(token, values))
    return path


def test_a_picture_is_drawn_and_named(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*command()) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/x.png\n"
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (16, 16) and picture.mode == "RGB"


def test_several_pictures_are_numbered_and_begin_with_the_single_one(command: Command, tmp_path: Path) -> None:
    assert call(*command("--num_images", 3, "--output", tmp_path / "many.png")) == 0
    assert call(*command()) == 0
    assert sorted(path.name for path in tmp_path.glob("many*")) == ["many-0.png", "many-1.png", "many-2.png"]
    many = [np.asarray(Image.open(tmp_path / f"many-{i}.png"), int) for i in range(3)]
    assert np.abs(many[0] - np.asarray(Image.open(tmp_path / "x.png"), int)).max() <= 1
    assert (many[0] != many[1]).any()


def test_quiet_prints_nothing(command: Command, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert call(*command("--quiet")) == 0 and capfd.readouterr() == ("", "")


CHANGES = {
    "seed": ["--seed", 1], "prompt": ["--prompt", "a photo of a dog"], "guidance": ["--guidance_scale", 1],
    "negative prompt": ["--negative_prompt", "dark"], "weights": ["--weights", "int4"],
    "size": ["--resolution", 32], "steps": ["--num_inference_steps", 3],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_setting_reaches_the_picture(change: list[object], command: Command, tmp_path: Path) -> None:
    assert call(*command()) == call(*command("--output", tmp_path / "same.png")) == 0
    assert call(*command("--output", tmp_path / "other.png", *change)) == 0
    first = (tmp_path / "x.png").read_bytes()
    assert (tmp_path / "same.png").read_bytes() == first != (tmp_path / "other.png").read_bytes()


def test_embeddings_stand_for_their_words(command: Command, tmp_path: Path) -> None:
    one, two = embedding(tmp_path / "one.safetensors"), embedding(tmp_path / "two.safetensors", "<mug2>", vectors=2)
    assert call(*command()) == call(*command("--output", tmp_path / "one.png", "--embedding", one)) == 0
    both = command("--output", tmp_path / "both.png", "--embedding", one, two, "--prompt", "a <mug1> and a <mug2>")
    assert call(*both) == 0
    assert len({(tmp_path / name).read_bytes() for name in ("x.png", "one.png", "both.png")}) == 3


def test_the_most_steps_that_are_accepted_are_drawn(command: Command, tmp_path: Path) -> None:
    assert call(*command("--num_inference_steps", 1000, "--guidance_scale", 1)) == 0 and (tmp_path / "x.png").exists()


OPTIONS = """
--num_images 0|--num_images 2000|--num_inference_steps 0|--num_inference_steps 1001|--num_inference_steps many
--guidance_scale nan|--guidance_scale inf|--guidance_scale strong|--resolution 12|--resolution -8|--resolution 800000000
--seed -1|--seed 18446744073709551616|--weights int2|--execution float
""".strip().replace("\n", "|")


@pytest.mark.parametrize("words", OPTIONS.split("|"))
def test_an_option_out_of_range_is_named(
    words: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, value = words.split(" ")
    assert name.removeprefix("--") in refused(capsys, *command(name, value))
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["x.jpg", "x", "nowhere/x.png", "folder.png"])
def test_an_output_that_cannot_be_written_is_said(
    name: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    assert str(tmp_path / name) in refused(capsys, *command("--output", tmp_path / name))


def test_an_embedding_of_another_width_is_said(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = embedding(tmp_path / "wide.safetensors", width=768)
    assert "<mug1> is 768 wide and this model takes 32" in refused(capsys, *command("--embedding", path))


def test_a_token_given_twice_or_cut_off_is_said(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = embedding(tmp_path / "one.safetensors")
    assert "give each token once" in refused(capsys, *command("--embedding", path, path))
    prompt = "dog " * 30 + "<mug1>"
    assert "<mug1> would be cut off" in refused(capsys, *command("--embedding", path, "--prompt", prompt))


def whole(path: Path) -> Path:
    return embedding(path)


def missing(path: Path) -> Path:
    return path


def name_too_long(path: Path) -> Path:
    return path.with_name("n" * 300 + ".safetensors")


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def pickle(path: Path) -> Path:
    return whole(path).rename(path.with_suffix(".bin"))


def cut_short(path: Path) -> Path:
    whole(path).write_bytes(path.read_bytes()[:-4])
    return path


def not_finite(path: Path) -> Path:
    whole(path).write_bytes(path.read_bytes()[:-4] + np.float32("nan").tobytes())
    return path


@pytest.mark.parametrize(
    "make", [missing, name_too_long, folder, pickle, cut_short, not_finite], ids=lambda make: make.__name__
)
def test_an_embedding_that_cannot_be_read_is_said(
    make: Callable[[Path], Path], command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "e.safetensors")
    assert str(path) in refused(capsys, *command("--embedding", path))
