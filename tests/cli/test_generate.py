"""`edge-sdk generate`: pictures as files, the same for the same seed, and one line for every mistake."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk import __version__
from edge_sdk.diffusion.folder import weights_fingerprint
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.generation import parameters
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
    "seed": ["--seed", 1],
    "prompt": ["--prompt", "a photo of a dog"],
    "guidance": ["--guidance_scale", 1],
    "negative prompt": ["--negative_prompt", "dark"],
    "weights": ["--weights", "int4"],
    "size": ["--resolution", 32],
    "steps": ["--num_inference_steps", 3],
}


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


def test_several_prompts_make_a_set_of_pictures_each(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--prompt", "a photo of a dog", "a photo of a cat"]
    assert call(*command(*prompts, "--num_images", 2)) == 0
    names = [f"x-{prompt}-{image}.png" for prompt in (0, 1) for image in (0, 1)]
    assert capsys.readouterr().out == "".join(f"wrote {tmp_path}/{name}\n" for name in names)
    assert call(*command(*prompts, "--output", tmp_path / "one.png")) == 0
    assert call(*command(*prompts[:2], "--output", tmp_path / "dog.png")) == 0
    assert call(*command("--prompt", prompts[2], "--output", tmp_path / "cat.png")) == 0
    for several, alone in (("one-0.png", "dog.png"), ("one-1.png", "cat.png")):
        assert (tmp_path / several).read_bytes() == (tmp_path / alone).read_bytes()
    first, second = (np.asarray(Image.open(tmp_path / name), int) for name in ("x-1-0.png", "one-1.png"))
    assert np.abs(first - second).max() <= 1


def test_a_picture_holds_its_settings_and_nothing_of_the_place(
    command: Command, sd1_folder: Path, tmp_path: Path
) -> None:
    path = embedding(tmp_path / "grandmother.safetensors")
    options = ["--embedding", path, "--negative_prompt", "dark", "--seed", 7, "--guidance_scale", 3.5]
    assert call(*command(*options, "--num_images", 2)) == 0
    text = Image.open(tmp_path / "x-1.png").text["parameters"]
    assert text == (
        "a photo of a <mug1>\nNegative prompt: dark\nSteps: 2, Sampler: DDIM, CFG scale: 3.5, Seed: 7, Picture: 1, "
        f"Size: 16x16, Model hash: {weights_fingerprint(sd1_folder)[:10]}, Weights: int8 integer, Embeddings: <mug1>, "
        f"Version: edge-sdk {__version__}"
    )
    data = (tmp_path / "x-1.png").read_bytes()
    assert not [word for word in ("grandmother", str(tmp_path), sd1_folder.name) if word.encode() in data]


@pytest.mark.parametrize("prompt", ["a café, 日本", "two\nlines", 'quoted "words": a, b'], ids=ascii)
def test_any_prompt_can_be_written_into_a_picture(prompt: str, command: Command, tmp_path: Path) -> None:
    assert call(*command("--prompt", prompt)) == 0
    written = Image.open(tmp_path / "x.png").text["parameters"]
    assert written.startswith(prompt + "\nSteps: 2, ")


@pytest.mark.parametrize("name", ["--prompt", "--negative_prompt"])
def test_text_that_is_not_unicode_is_said(
    name: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{name[2:]} 'caf\\udce9' holds bytes that are not UTF-8" in refused(capsys, *command(name, "caf\udce9"))


def test_settings_with_commas_are_quoted() -> None:
    assert parameters("a", "", {"Model": "my, model", "Size": "1x1", "Empty": ""}) == 'a\nModel: "my, model", Size: 1x1'


def test_small_pictures_are_enlarged_only_when_asked(command: Command, tmp_path: Path) -> None:
    assert call(*command()) == call(*command("--output", tmp_path / "large.png", "--enlarge")) == 0
    small, large = Image.open(tmp_path / "x.png"), Image.open(tmp_path / "large.png")
    assert small.size == (16, 16) and large.size == (256, 256) and small.text == large.text
    assert (np.asarray(large) == np.asarray(small).repeat(16, axis=0).repeat(16, axis=1)).all()
    assert call(*command("--output", tmp_path / "same.png", "--enlarge", "--resolution", 64)) == 0
    assert Image.open(tmp_path / "same.png").size == (64, 64)


def test_a_word_that_no_embedding_defines_is_said_in_one_line(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def notices(*words: object) -> list[str]:
        assert call(*command(*words)) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "learned word" in line]

    path = embedding(tmp_path / "one.safetensors")
    (line,) = notices()
    assert line == "<mug1> in the prompt is not a learned word (no --embedding is given); it is read as ordinary text"
    assert notices("--embedding", path) == []
    (line,) = notices("--embedding", path, "--prompt", "a <dog> and a <mug1>, 1 < 2 > 0", "a <dog>")
    assert line.startswith("<dog> in the prompt is not a learned word (the embeddings define <mug1>)")
    assert notices("--embedding", path, "--negative_prompt", "a <MUG1>", "--prompt", "a dog") == []
    (line,) = notices("--embedding", path, "--negative_prompt", "a <bad>")
    assert line.startswith("<bad> in the negative prompt is not a learned word (the embeddings define <mug1>)")


def test_an_embedding_without_effect_and_the_end_of_a_long_prompt_are_said_in_one_line(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def notices(*words: object) -> list[str]:
        assert call(*command("--embedding", one, two, *words)) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line for line in lines if "drawing" not in line]

    one, two = (embedding(tmp_path / f"{name}.safetensors", f"<{name}>") for name in ("one", "two"))
    (line,) = notices("--prompt", "a <ONE>")
    assert line.startswith("the embedding of <two> has no effect: write <two> in the prompt or the negative prompt")
    assert notices("--prompt", "a <ONE>", "--negative_prompt", "a <two>") == []
    assert "<two>" in notices("--prompt", "a <one>", "--negative_prompt", "a <two>", "--guidance_scale", 1)[0]
    long = "a <one> and a <two> " + "of a good photo " * 6 + "and the last words"
    (line,) = notices("--prompt", long)
    assert re.fullmatch(
        r"the prompt is longer than the 22 tokens that the model reads; left out: .*the last words", line
    )
    (line,) = notices("--prompt", "a <one> and a <two>", "--negative_prompt", "dog " * 22 + "cat  mug")
    assert line == "the negative prompt is longer than the 22 tokens that the model reads; left out: cat mug"
    (line,) = notices("--prompt", "a <one>", "<two> " + "dog " * 22)
    assert line.startswith("the prompt 2 is longer") and line.endswith("left out: dog")


def test_drawing_shows_how_far_it_is(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*command("--num_images", 2)) == 0
    assert re.search(r"^drawing pictures 4/4  0:\d\d$", capsys.readouterr().err, re.MULTILINE)
