"""A perturbation below what model and execution resolve: refused if it was asked for, raised if it is the preset's."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import EdgeSdkError, Personalizer, mu_floor, pocket
from edge_sdk.config import PersonalizeConfig
from edge_sdk.errors import Cancelled
from edge_sdk.option_types import Execution, Weights
from edge_sdk.photos import PhotoSource
from edge_sdk.quantization import integer_layers, kernels, native
from edge_sdk.run_folder import run_personalization
from edge_sdk.system import user_cache
from edge_sdk.zo import ZoConfig
from tests import tiny_models
from tests.test_fingerprint import UNET, negate_one_weight

PATH = mu_floor.path  # the user's own; tests have another
QUICK: dict[str, Any] = {"max_train_steps": 4, "eval_draws": 2, "preview": False}


def floor_of(personalizer: Personalizer, bits: int) -> mu_floor.Floor:
    objective = personalizer.fitted().objective
    for module in (objective.unet, objective.text.model):
        for layer in integer_layers(module).values():
            layer.activation_bits = bits
    return personalizer.calibrate_mu()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations of fewer levels than a byte has: a real rounding, with a floor above the preset's mu."""
    monkeypatch.setitem(kernels.LEVELS, 16, 60.0)


def test_eight_bit_activations_have_a_far_higher_floor_than_sixteen_and_fused_the_lowest() -> None:
    integer, fused = Personalizer.from_pretrained("pocket"), Personalizer.from_pretrained("pocket", execution="fused")
    for personalizer in (integer, fused):
        personalizer.fit(pocket.PHOTOS, max_train_steps=1)
    eight, sixteen, floats = (floor_of(*way).mu_min for way in ((integer, 8), (integer, 16), (fused, 16)))
    assert eight > 20 * sixteen and sixteen > 2 * floats
    assert 1e-3 < eight < 5e-2 and sixteen < 1e-3


def test_the_floor_costs_24_forwards_once_and_the_record_says_it(tmp_path: Path) -> None:
    records = [run_personalization(pocket.PHOTOS, tmp_path / name, **QUICK) for name in ("first", "again")]
    assert [(record["mu_forwards"], record["mu_source"]) for record in records] == [(24, "measured"), (0, "remembered")]
    assert 0 < records[0]["mu_min"] == records[1]["mu_min"] < records[0]["zo"]["zo_mu"] / 8


def test_a_mu_below_the_floor_is_refused_in_one_line(coarse: None, tmp_path: Path) -> None:
    with pytest.raises(
        EdgeSdkError, match=r"^zo_mu is 0\.001; with int8 integer the rounding .* give at least"
    ) as said:
        run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=1e-3, **QUICK)
    assert "\n" not in str(said.value) and str(said.value).endswith("or use --execution fused")
    assert [path.name for path in (tmp_path / "run").iterdir()] in ([], [".lock"])
    least = float(str(said.value).rpartition("give at least ")[2].split(",")[0])
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=least, **QUICK)
    assert record["zo"]["zo_mu"] == least == record["mu_min"] and record["mu_forwards"] == 0  # remembered


def test_the_same_mu_is_accepted_where_activations_are_fine_enough(tmp_path: Path) -> None:
    assert run_personalization(pocket.PHOTOS, tmp_path / "run", zo_mu=1e-3, **QUICK)["zo"]["zo_mu"] == 1e-3


def test_a_presets_own_mu_is_raised_and_it_is_said(coarse: None, tmp_path: Path) -> None:
    said: list[str] = []
    record = run_personalization(pocket.PHOTOS, tmp_path / "run", preset="paper", notify=said.append, **QUICK)
    assert record["zo"]["zo_mu"] == record["mu_min"] > 1e-3
    (notice,) = [line for line in said if "zo_mu" in line]
    assert notice.startswith(f"zo_mu is raised from 0.001 to {record['mu_min']:g}: with int8 integer")


def test_a_resumed_run_measures_nothing_and_ends_with_the_same_bytes(
    coarse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"preset": "paper", **QUICK}
    whole = run_personalization(pocket.PHOTOS, tmp_path / "whole", **options)
    with pytest.raises(Cancelled):
        run_personalization(pocket.PHOTOS, tmp_path / "cut", stop=lambda: True, **options)

    def measured(*_: object) -> None:
        raise AssertionError("a resumed run measured the floor again")

    monkeypatch.setattr(mu_floor, "measure", measured)
    resumed = run_personalization(pocket.PHOTOS, tmp_path / "cut", resume_from_checkpoint="latest", **options)
    assert resumed["mu_min"] == whole["mu_min"] and resumed["zo"] == whole["zo"]
    learned = [(tmp_path / name / "learned_embeds.safetensors").read_bytes() for name in ("whole", "cut")]
    assert learned[0] == learned[1]
    with pytest.raises(EdgeSdkError, match="made with other settings"):
        run_personalization(pocket.PHOTOS, tmp_path / "cut", resume_from_checkpoint="latest", zo_mu=1e-3, **options)


@pytest.mark.parametrize(
    ("mu_min", "used"),
    [(1e-4, 1e-3), (5e-3, 5e-3), (float("inf"), 0.02), (float("nan"), 1e-3)],
    ids=["below", "above", "no length is enough", "not measured"],
)
def test_a_preset_is_raised_to_the_floor_and_never_above_the_vocabularys_deviation(mu_min: float, used: float) -> None:
    assert mu_floor.raised(ZoConfig(), mu_min, vocabulary_std=0.02).zo_mu == used


def test_where_no_length_is_enough_the_refusal_says_what_else_to_do() -> None:
    with pytest.raises(EdgeSdkError, match="over all lengths that were tried; leave it out, or use --execution fused"):
        mu_floor.refuse_below(ZoConfig(), float("inf"), "int8 integer")
    mu_floor.refuse_below(ZoConfig(), float("nan"), "int8 integer")


# remembered


def prepared(photos: PhotoSource = pocket.PHOTOS, execution: Execution = "integer", **options: Any) -> Personalizer:
    """The embedded model, as it is before the floor is known."""
    personalizer = Personalizer.from_pretrained("pocket", execution=execution)
    personalizer.prepare(photos, PersonalizeConfig.from_options(**options))
    return personalizer


def narrow(personalizer: Personalizer) -> None:
    objective = personalizer.fitted().objective
    next(iter(integer_layers(objective.unet).values())).activation_bits = 8


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


OTHERS: dict[str, Callable[[pytest.MonkeyPatch], Personalizer]] = {
    "execution": lambda _: prepared(execution="fused"),
    "weights": lambda _: with_weights("int4"),
    "timesteps": lambda _: prepared(timestep_range=(100, 900)),
    "directions": lambda _: prepared(preset="paper"),
    "levels of activations": lambda patch: (patch.setitem(kernels.LEVELS, 16, 60.0), prepared())[1],
    "kernels": lambda patch: (without_library(patch), prepared())[1],
    "version": lambda patch: (patch.setattr(mu_floor, "__version__", "0"), prepared())[1],
}


def with_weights(weights: Weights) -> Personalizer:
    personalizer = Personalizer.from_pretrained("pocket", weights=weights)
    personalizer.prepare(pocket.PHOTOS, PersonalizeConfig())
    return personalizer


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_floor_is_remembered_for_nothing_else(
    other: Callable[[pytest.MonkeyPatch], Personalizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared().calibrate_mu()
    changed = other(monkeypatch)
    assert changed.known_floor() is None
    assert changed.calibrate_mu().source == "measured" and changed.calibrate_mu().source == "remembered"


def test_one_layer_with_other_activations_is_another_model() -> None:
    personalizer = prepared()
    first = personalizer.calibrate_mu()
    narrow(personalizer)
    assert personalizer.known_floor() is None
    assert personalizer.calibrate_mu().source == "measured"
    assert prepared().calibrate_mu() == mu_floor.Floor(first.mu_min, "remembered")


@pytest.mark.parametrize("size", [0, 7], ids=["one weight", "another model"])
def test_a_floor_of_other_weights_is_not_taken(size: int, sd1_folder: Path, photos: Path, tmp_path: Path) -> None:
    models = [sd1_folder, tmp_path / "other"]
    if size:
        tiny_models.build(models[1], seed=size)
    else:
        shutil.copytree(sd1_folder, models[1])
        negate_one_weight(models[1] / UNET, "conv_in.weight")
    for model in models:
        personalizer = Personalizer.from_pretrained(model)
        personalizer.prepare(photos, PersonalizeConfig(initializer_token="dog"))
        assert personalizer.calibrate_mu().source == "measured"


def test_neither_photos_nor_words_nor_the_seed_change_a_floor_or_are_kept(
    floors: Path, photos: Path, tmp_path: Path
) -> None:
    own = prepared(photos, initializer_token="woman", placeholder_token="<me>", seed=5, num_vectors=2, zo_mu=0.02)
    captioned = tmp_path / "photos"
    shutil.copytree(photos, captioned)
    for photo in captioned.glob("*.png"):
        photo.with_suffix(".txt").write_text("a picture of {} in prison")
    measured = [each.calibrate_mu() for each in (prepared(), own, prepared(captioned, use_captions=True))]
    assert [floor.source for floor in measured] == ["measured", "remembered", "remembered"]
    floors.unlink()
    assert own.calibrate_mu() == measured[0]  # not the key alone: the number is the same
    (entry,) = json.loads(floors.read_text()).items()
    assert entry == (entry[0], repr(measured[0].mu_min)) and len(entry[0]) == 64
    assert floors.stat().st_mode & 0o777 == 0o600 and floors.parent.stat().st_mode & 0o777 == 0o700


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "text": lambda path: path.write_text("no json"),
    "a list": lambda path: path.write_text("[]"),
    "a number": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 1e-9))),
    "no number": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "nan"))),
    "below zero": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), "-1"))),
    "another entry": lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"x": "1"})),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "huge": lambda path: path.write_text(path.read_text() + " " * (1 << 20)),
    "nested": lambda path: path.write_text("[" * (1 << 15)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path, 0o600)),
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("x"))),
    "others may write it": lambda path: path.chmod(0o622),
    "others may write its folder": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_memory_is_measured_again(damage: Callable[[Path], object], floors: Path) -> None:
    personalizer = prepared()
    first = personalizer.calibrate_mu()
    damage(floors)
    assert personalizer.calibrate_mu() == first


@pytest.mark.parametrize("value", [0.0, 2.3e-06, 0.00052, 1.5, 12.0, 1e-300, math.inf], ids=str)
def test_every_floor_is_remembered_as_it_is(value: float) -> None:
    mu_floor.remember("0" * 64, value)
    assert mu_floor.recall("0" * 64) == value and mu_floor.recall("1" * 64) is None


@pytest.mark.parametrize(
    "surroundings",
    [{"HOME": ""}, {"HOME": "relative"}, {"HOME": "/proc/no"}, {"XDG_CACHE_HOME": "/proc/no"}],
    ids=["no home", "a relative home", "a home that cannot be written", "a cache that cannot be written"],
)
def test_without_a_place_for_it_a_floor_is_measured_each_time_and_nothing_is_written(
    surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mu_floor, "path", PATH)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    mu_floor.remember("0" * 64, 1e-6)
    assert mu_floor.recall("0" * 64) is None and not any(tmp_path.iterdir())


def test_processes_that_remember_at_once_leave_a_file_that_can_be_read(floors: Path) -> None:
    """One may overwrite what another has added, which then measures again."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom edge_sdk import mu_floor\n"
        "mu_floor.path = lambda: Path(sys.argv[1])\n"
        "for number in range(20): mu_floor.remember(f'{int(sys.argv[2]) * 20 + number:064x}', 1e-6)\n"
    )
    commands = [[sys.executable, "-c", program, str(floors), str(number)] for number in range(3)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    assert 20 <= len(user_cache.recall(floors, lambda text: text == "1e-06")) <= 60
    assert [path.name for path in floors.parent.iterdir()] == [floors.name]


def test_a_floor_that_is_no_number_is_not_remembered(floors: Path) -> None:
    mu_floor.remember("0" * 64, math.nan)
    assert not floors.exists()


def test_directions_are_taken_from_the_first_to_the_last() -> None:
    basis = np.arange(32, dtype=np.float32)[:, None, None]
    assert mu_floor.spread(basis, 4).reshape(-1).tolist() == [0, 10, 21, 31]
    assert len(mu_floor.spread(basis[:3], 4)) == 3
