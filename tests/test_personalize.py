"""The Python interface: a token learned step by step, cut anywhere, on every kind of weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from edge_sdk import EdgeSdkError, Personalizer, load_embedding, pocket
from edge_sdk.diffusion.prompts import training_prompts
from edge_sdk.images import load_photos
from edge_sdk.run_folder import run_personalization
from edge_sdk.system.checkpoints import load_state, save_state
from edge_sdk.zo import State, Step

QUICK = {"initializer_token": "dog", "max_train_steps": 8, "zo_samples": 2, "average_from": 0.5, "eval_draws": 4}
EXECUTIONS = [("int8", "integer"), ("int8", "fused"), ("int4", "integer"), ("int4", "fused"), ("none", "integer")]


def taken(steps: Iterator[Step], count: int) -> list[bytes]:
    return [next(steps).embedding.tobytes() for _ in range(count)]


@pytest.fixture
def tiny(sd1_folder: Path) -> Personalizer:
    return Personalizer.from_pretrained(str(sd1_folder))


@pytest.fixture(scope="module")
def whole(sd1_folder: Path, photos: Path) -> list[bytes]:
    return taken(Personalizer.from_pretrained(str(sd1_folder)).fit(photos, **QUICK), 8)


def test_a_short_run_lowers_the_held_out_loss_on_int8() -> None:
    personalizer = Personalizer.from_pretrained("pocket")
    steps = personalizer.fit(pocket.PHOTOS, max_train_steps=10)
    assert (personalizer.model.weights, personalizer.model.execution) == ("int8", "integer")
    before = personalizer.held_out_loss()
    for _ in steps:
        pass
    assert personalizer.held_out_loss() < 0.75 * before
    assert personalizer.held_out_loss(personalizer.fitted().initial) == before


def test_fit_prepares_at_once_and_then_yields_one_step_at_a_time(tiny: Personalizer, photos: Path) -> None:
    steps = tiny.fit(photos, **QUICK)
    assert tiny.started().step == 0 and tiny.fitted().photos.pixels.shape == (3, 3, 16, 16)
    for number in range(1, 9):
        step = next(steps)
        assert step.step == tiny.started().step == number and np.isfinite(step.loss)
        assert step.forwards == number * tiny.fitted().zo.forwards_per_step
        assert (tiny.embedding.vectors == step.embedding).all()
        assert tiny.embedding.metadata["steps"] == str(number)
    assert next(steps, None) is None


@pytest.mark.parametrize(("preset", "idle"), [("fast", "learning_rate, zo_difference"), ("paper", "damping")])
def test_settings_of_the_other_optimizer_are_named(preset: str, idle: str, tiny: Personalizer, photos: Path) -> None:
    options = {"learning_rate": 0.01, "zo_difference": "central", "damping": 0.2, "zo_mu": 0.1}
    tiny.fit(photos, **QUICK | options, preset=preset)
    (said,) = [notice for notice in tiny.fitted().notices if "without effect" in notice]
    assert said.startswith(f"{idle}: ") and f"preset {preset};" in said
    tiny.fit(photos, **QUICK)
    assert not [notice for notice in tiny.fitted().notices if "without effect" in notice]


@pytest.mark.parametrize("cut", [1, 3, 5, 7], ids=lambda n: f"after{n}")
def test_a_closed_run_resumes_to_the_same_bytes(
    cut: int, tiny: Personalizer, whole: list[bytes], photos: Path, tmp_path: Path
) -> None:
    steps = tiny.fit(photos, **QUICK)
    first = taken(steps, cut)
    steps.close()  # type: ignore[attr-defined]
    save_state(tmp_path / "state", tiny.started(), {})
    assert tiny.embedding.vectors.tobytes() == first[-1]
    assert first + taken(tiny.resume(load_state(tmp_path / "state")), 8 - cut) == whole


def test_resume_starts_over_from_a_fresh_state(tiny: Personalizer, whole: list[bytes], photos: Path) -> None:
    taken(tiny.fit(photos, **QUICK), 2)
    fresh = State.start(tiny.fitted().zo, 0, tiny.fitted().initial, basis=tiny.fitted().basis)
    assert taken(tiny.resume(fresh), 8) == whole


def test_photos_already_read_give_the_same_token(tiny: Personalizer, whole: list[bytes], photos: Path) -> None:
    assert taken(tiny.fit(load_photos(photos, 16), **QUICK), 1) == whole[:1]


def test_the_seed_decides_the_token(tiny: Personalizer, whole: list[bytes], photos: Path) -> None:
    assert taken(tiny.fit(photos, seed=0, **QUICK), 1) == whole[:1]
    assert taken(tiny.fit(photos, seed=1, **QUICK), 1) != whole[:1]


def test_several_vectors_start_alike_and_part(tiny: Personalizer, photos: Path, tmp_path: Path) -> None:
    steps = tiny.fit(photos, num_vectors=3, **QUICK)
    assert (tiny.fitted().initial == tiny.fitted().initial[:1]).all()
    list(steps)
    loaded = load_embedding(tiny.save(tmp_path / "new"))
    assert loaded.token == "<subject>" and loaded.vectors.shape == (3, 32)
    assert loaded.vectors.tobytes() == tiny.embedding.vectors.tobytes()
    assert len({vector.tobytes() for vector in loaded.vectors}) == 3


@pytest.mark.parametrize("kind", ["object", "style"])
def test_the_learnable_property_chooses_the_training_prompts(kind: str, tiny: Personalizer, photos: Path) -> None:
    tiny.fit(photos, learnable_property=kind, **QUICK)
    objective = tiny.fitted().objective
    expected = torch.from_numpy(objective.text.tokenize(training_prompts(kind, "<subject>"), {"<subject>": 1}))
    assert (objective.ids == expected).all() and objective.num_prompts == {"object": 27, "style": 17}[kind]


def test_captions_come_from_the_text_files_beside_the_photos(tiny: Personalizer, photos: Path, tmp_path: Path) -> None:
    for name in ("0.png", "1.png", "2.png"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    (tmp_path / "0.txt").write_text("a dark {} in the mug\n")
    (tmp_path / "1.txt").write_text("close up")
    steps = tiny.fit(tmp_path, use_captions=True, **QUICK)
    objective = tiny.fitted().objective
    prompts = ["a dark <subject> in the mug", "<subject>, close up", "<subject>, "]
    assert (objective.ids[:, 0] == torch.from_numpy(objective.text.tokenize(prompts, {"<subject>": 1}))).all()
    assert np.isfinite([step.loss for step in steps]).all()


@pytest.mark.parametrize("family", ["sd1", "sd2"])
@pytest.mark.parametrize(("weights", "execution"), EXECUTIONS, ids=lambda value: value)
def test_every_execution_runs_on_both_families(
    weights: str, execution: str, family: str, photos: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"{family}_folder")
    personalizer = Personalizer.from_pretrained(str(folder), weights, execution)
    losses = [step.loss for step in personalizer.fit(photos, **QUICK)]
    learned, initial = personalizer.embedding, personalizer.fitted().initial
    assert len(losses) == 8 and np.isfinite(losses).all() and np.isfinite(personalizer.held_out_loss())
    assert learned.vectors.dtype == np.float32 and learned.vectors.shape == initial.shape
    assert (learned.vectors != initial).all()
    assert learned.metadata["execution"] == ("dequantized" if weights == "none" else execution)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "initializer of two words": ({"initializer_token": "dog cat"}, "makes 2 tokens; it must be one word"),
    "initializer of several tokens": ({"initializer_token": "zebra"}, "initializer_token 'zebra' makes"),
    "initializer empty": ({"initializer_token": ""}, "initializer_token"),
    "initializer missing": ({"initializer_token": None}, "initializer_token is not given; name what the photos show"),
    "placeholder a word": ({"placeholder_token": "mug"}, "placeholder_token 'mug' is already a word"),
    "timesteps beyond the model": ({"timestep_range": (0, 1001)}, "timestep_range is 0 1001; .* below 1000"),
    "more vectors than the prompt holds": ({"num_vectors": 30}, "<subject> would be cut off"),
    "unknown option": ({"lerning_rate": 1.0}, "unknown option 'lerning_rate'; known are .*learning_rate"),
}


@pytest.mark.parametrize(("options", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_the_first_step(
    options: dict[str, Any], said: str, tiny: Personalizer, photos: Path
) -> None:
    with pytest.raises(EdgeSdkError, match=said) as caught:
        tiny.fit(photos, **{**QUICK, **options})
    assert "\n" not in str(caught.value) and tiny.state is None


def test_only_the_embedded_model_has_an_initializer_of_its_own() -> None:
    personalizer = Personalizer.from_pretrained("pocket")
    personalizer.fit(pocket.PHOTOS, max_train_steps=1)
    assert personalizer.embedding.metadata["initializer_token"] == "person"


@pytest.mark.parametrize("use", ["embedding", "held_out_loss", "resume", "save"])
def test_nothing_can_be_had_before_fit(use: str, tiny: Personalizer, tmp_path: Path) -> None:
    arguments = {"resume": (None,), "save": (tmp_path,)}.get(use, ())
    with pytest.raises(EdgeSdkError, match="nothing has been learned yet; call fit first"):
        getattr(tiny, use)(*arguments)
    assert not list(tmp_path.iterdir())


def test_photographs_on_the_embedded_model_are_told_what_to_expect(tmp_path: Path) -> None:
    for name in ("astronaut", "coffee", "cat"):
        Image.fromarray(getattr(skimage.data, name)()).save(tmp_path / f"{name}.png")
    personalizer = Personalizer.from_pretrained("pocket")
    personalizer.fit(tmp_path, max_train_steps=1)
    (notice,) = personalizer.fitted().notices
    assert "draws pixel-art people only" in notice and "--pretrained_model_name_or_path" in notice
    assert "\n" not in notice


def test_the_bundled_photos_and_other_models_give_no_notice(tiny: Personalizer, photos: Path) -> None:
    personalizer = Personalizer.from_pretrained("pocket")
    personalizer.fit(pocket.PHOTOS, max_train_steps=1)
    tiny.fit(photos, **QUICK, zo_mu=0.02)  # the floor of mu of these random weights is above the preset's
    assert personalizer.fitted().notices == tiny.fitted().notices == []


def test_notices_are_logged_where_nobody_else_is_told(
    tiny: Personalizer, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(photos, tmp_path / "album")
    (tmp_path / "album/notes.png").write_text("no picture")
    tiny.fit(tmp_path / "album", initializer_token="dog", learning_rate=0.1)
    logged = [(record.name, record.getMessage()) for record in caplog.records]
    assert ("edge_sdk", "skipped notes.png: not a PNG, JPEG or WebP picture") in logged
    assert any(name == "edge_sdk" and "without effect" in message for name, message in logged)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "paper"}, "over timesteps 500 to 899;"),
        ({"timestep_range": (0, 500)}, "over timesteps 0 to 499;"),
        ({}, None),
    ],
    ids=["paper", "a range", "fast"],
)
def test_losses_of_some_timesteps_are_said_to_be_no_measure(
    options: dict[str, Any], words: str | None, tiny: Personalizer, photos: Path
) -> None:
    tiny.fit(photos, **QUICK, **options)
    lines = [line for line in tiny.fitted().notices if "held-out losses" in line]
    assert len(lines) == (words is not None) and all(words in line for line in lines)  # type: ignore[operator]


def test_captions_are_the_prompts_only_where_they_are_asked_for(
    tiny: Personalizer, sd1_folder: Path, photos: Path, tmp_path: Path
) -> None:
    album = Path(shutil.copytree(photos, tmp_path / "album"))

    def ids(**options: Any) -> list[Any]:
        tiny.fit(album, **QUICK, **options)
        return np.asarray(tiny.fitted().objective.ids).tolist()

    templates = ids()
    for photo in photos.iterdir():
        (album / photo.name).with_suffix(".txt").write_text("a dark {} in the mug")
    plain = ids(use_captions=True)
    for caption in album.glob("*.txt"):
        caption.write_text("a dark {} in the mug", encoding="utf-16")
    assert ids(use_captions=True) == plain != templates
    next(album.glob("*.txt")).write_bytes("Möbel".encode("cp1252"))
    assert ids() == templates
    with pytest.raises(EdgeSdkError, match=r"\.txt is not UTF-8 text"):
        tiny.fit(album, **QUICK, use_captions=True)
    with pytest.raises(EdgeSdkError, match=r"\.txt is not UTF-8 text"):
        run_personalization(album, tmp_path / "out", str(sd1_folder), **QUICK, use_captions=True)
    assert not (tmp_path / "out").exists()


def test_photos_beyond_the_most_are_one_line_with_their_number(sd1_folder: Path, photos: Path, tmp_path: Path) -> None:
    one = min(photos.iterdir())
    for i in range(104):
        (tmp_path / f"{i:03}{one.suffix}").hardlink_to(one)
    lines: list[str] = []
    run_personalization(tmp_path, tmp_path / "out", str(sd1_folder), **QUICK, dry_run=True, notify=lines.append)
    assert [line for line in lines if "skipped" in line] == [
        f"skipped 4 files (100{one.suffix} to 103{one.suffix}): there are more than 100 photos"
    ]
