"""``--config``: a run's record runs again to the same bytes, options win, and a bad record is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.cli.main import build_parser
from edge_sdk.cli.personalize import options_of
from edge_sdk.cli.unlearn import config_of
from edge_sdk.config import PersonalizeConfig
from edge_sdk.run_folder import run_personalization
from edge_sdk.unlearning.config import UnlearnConfig
from tests.cli.test_main import call, refused

LEARNED = "learned_embeds.safetensors"
QUICK: dict[str, Any] = {"initializer_token": "dog", "eval_draws": 2, "preview": False}


@pytest.fixture(scope="module")
def record_of(sd1_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run folder of a short run with these settings."""

    def run(**options: Any) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "run"
        run_personalization(photos, folder, str(sd1_folder), **QUICK, **options)
        return folder

    return run


@pytest.fixture
def again(sd1_folder: Path, photos: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The words that run a record again."""

    def words(record: Path, *more: object) -> list[str]:
        base = ["personalize", "--config", record, "--pretrained_model_name_or_path", sd1_folder]
        base += ["--train_data_dir", photos, "--output_dir", tmp_path / "again", "--no_preview", "--quiet"]
        return [str(word) for word in (*base, *more)]

    return words


SETTINGS: dict[str, dict[str, Any]] = {
    "fast": {"max_train_steps": 3, "seed": 5, "num_vectors": 2, "zo_samples": 3, "timestep_range": (10, 700)},
    "paper": {"preset": "paper", "max_train_steps": 4, "learning_rate": 0.02, "weights": "int4"},
    "squeezed photos": {"max_train_steps": 2, "center_crop": False, "learnable_property": "style", "max_batch": 3},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_record_runs_again_to_the_same_bytes(
    settings: dict[str, Any], record_of: Callable[..., Path], again: Callable[..., list[str]], tmp_path: Path
) -> None:
    first = record_of(**settings)
    assert call(*again(first / "run.json")) == 0
    assert (tmp_path / "again" / LEARNED).read_bytes() == (first / LEARNED).read_bytes()
    before, after = (json.loads((folder / "run.json").read_text()) for folder in (first, tmp_path / "again"))
    assert before["zo"] == after["zo"] and before["mu_min"] == after["mu_min"]


def test_a_record_of_a_bundle_runs_again_on_the_bundle(
    bundle_of: Callable[[str, str], Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of("sd1", "int8")
    run_personalization(photos, tmp_path / "first", bundle=bundle, max_train_steps=2, **QUICK)
    words = ["personalize", "--config", tmp_path / "first/run.json", "--train_data_dir", photos, "--no_preview"]
    assert "give it as" in refused(capsys, *words, "--output_dir", tmp_path / "again")
    assert call(*words, "--output_dir", tmp_path / "again", "--bundle", bundle, "--quiet") == 0
    assert (tmp_path / "again" / LEARNED).read_bytes() == (tmp_path / "first" / LEARNED).read_bytes()


@pytest.fixture(scope="module")
def record(record_of: Callable[..., Path]) -> Path:
    return record_of(max_train_steps=2, seed=3) / "run.json"


def options(record: Path, *words: str) -> PersonalizeConfig:
    base = ["personalize", "--config", str(record), "--train_data_dir", "a", "--output_dir", "b"]
    base += ["--pretrained_model_name_or_path", "m"]
    return PersonalizeConfig.from_options(**options_of(build_parser("personalize").parse_args([*base, *words])))


def test_options_that_are_given_win(record: Path) -> None:
    assert (options(record).seed, options(record).zo(0.02, 32).max_train_steps) == (3, 2)
    words = "--seed 0 --max_train_steps 9 --weights int4 --timestep_range 1 5"
    changed = options(record, *words.split())
    assert (changed.seed, changed.weights) == (0, "int4")
    assert (changed.zo(0.02, 32).max_train_steps, changed.zo(0.02, 32).timestep_range) == (9, (1, 5))
    paper = options(record, "--preset", "paper").zo(0.02, 32)
    assert (paper.optimizer, paper.zo_samples, paper.max_train_steps) == ("adam", 2, 2)
    assert options(record, "--max_train_steps", "auto").stop_when_flat


def test_the_settings_of_the_record_count_where_a_preset_has_other_ones_by_now(record: Path, tmp_path: Path) -> None:
    value = json.loads(record.read_text())
    value["zo"]["damping"] = 0.25
    (tmp_path / "run.json").write_text(json.dumps(value))
    assert options(tmp_path / "run.json").zo(0.02, 32).damping == 0.25


def test_a_model_that_the_record_only_names_must_be_given(
    record: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["personalize", "--config", record, "--train_data_dir", photos, "--output_dir", tmp_path / "x"]
    assert "of the model 'sd1', without the place where it lies" in refused(capsys, *words)


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "not JSON": (lambda value: "{", "cannot be read as JSON"),
    "a list": (lambda value: [value], "holds list, not an object"),
    "no settings": (lambda value: {**value, "config": None}, "no record of a run"),
    "a later schema": (lambda value: {**value, "schema_version": 2}, "schema_version of it is 2; this version reads 1"),
    "no schema": (lambda value: {**value, "schema_version": None}, "schema_version of it is None"),
    "later settings": (lambda v: {**v, "config": {**v["config"], "schema_version": 9}}, "schema_version of its config"),
    "an unknown setting": (lambda v: {**v, "config": {**v["config"], "cls": 1}}, "unknown option 'cls'"),
    "a wrong type": (lambda v: {**v, "config": {**v["config"], "seed": "x"}}, "seed is 'x'; it must be a whole number"),
    "out of range": (lambda v: {**v, "config": {**v["config"], "num_vectors": 0}}, "num_vectors is 0"),
    "no optimizer": (lambda value: {k: v for k, v in value.items() if k != "zo"}, "zo cannot be used"),
    "an unknown optimizer": (lambda v: {**v, "zo": {**v["zo"], "optimizer": "sgd"}}, "optimizer is 'sgd'"),
    "a bad range": (lambda v: {**v, "zo": {**v["zo"], "timestep_range": 5}}, "timestep_range is 5"),
}


@pytest.mark.parametrize(("damage", "named"), DAMAGES.values(), ids=DAMAGES)
def test_a_record_that_cannot_be_used_is_one_line(
    damage: Callable[[dict[str, Any]], Any],
    named: str,
    record: Path,
    again: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    value = damage(json.loads(record.read_text()))
    (tmp_path / "run.json").write_text(value if isinstance(value, str) else json.dumps(value))
    assert named in refused(capsys, *again(tmp_path / "run.json")) and not (tmp_path / "again").exists()


@pytest.mark.parametrize("place", ["gone.json", "."], ids=["missing", "a folder"])
def test_a_record_that_is_not_there_is_one_line(
    place: str, again: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *again(tmp_path / place))
    assert str(tmp_path / place) in line and "give the run.json of a run" in line


def test_a_record_of_unlearning_gives_its_settings(tmp_path: Path) -> None:
    config = UnlearnConfig(timestep_weight="window", timestep_window=(3, 9), learning_rate=1e-3, seed=4, surgery="none")
    (tmp_path / "unlearn.json").write_text(json.dumps({"schema_version": 1, "config": config.to_dict()}))
    words = ["unlearn", "--forget_data_dir", "a", "--retain_data_dir", "b", "--output_dir", "c", "--config"]
    parse = build_parser("unlearn").parse_args
    assert config_of(parse([*words, str(tmp_path / "unlearn.json")])) == config
    changed = config_of(parse([*words, str(tmp_path / "unlearn.json"), "--seed", "7", "--timestep_window", "1", "2"]))
    assert (changed.seed, changed.timestep_window, changed.learning_rate) == (7, (1, 2), 1e-3)
