"""What is committed is what the generator gives and what this program does; every twin relies on it."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.verify import golden_cases
from edge_sdk.export.verify import onnxruntime as onnxruntime_of
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.model import open_bundle
from edge_sdk.runtime.onnx.session import open_session
from edge_sdk.system.checkpoints import load_state, save_state
from edge_sdk.zo import CheckpointError
from tests.golden import runs
from tests.golden.make_golden import BINARY, HERE, JSON
from tests.golden.pictures import LEARNED, PHOTOS

# Largest difference of two numbers, as a share of the larger or of 1. Exact where nothing but IEEE arithmetic of single
# numbers is used; elsewhere sums, sines or solvers of another build may differ in their last bits.
BOUNDS = {
    "photos.json": 0.0,
    "presets.json": 0.0,
    "damaged.json": 0.0,
    "checkpoint.json": 0.0,
    "learned_embeds.json": 0.0,
    "tokens.json": 0.0,
    "bundle_runs.json": 1e-3,
}
USUAL = 1e-5


def read(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="ascii"))


def assert_close(value: Any, wanted: Any, bound: float, where: str = "") -> None:
    """Structure, texts, whole numbers and truth values are equal; other numbers are within a bound."""
    if isinstance(wanted, dict):
        assert list(value) == list(wanted), where
        for key in wanted:
            assert_close(value[key], wanted[key], bound, f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(value) == len(wanted), where
        for i, (one, other) in enumerate(zip(value, wanted, strict=True)):
            assert_close(one, other, bound, f"{where}.{i}")
    elif isinstance(wanted, float):
        assert abs(value - wanted) <= bound * max(1.0, abs(wanted)), f"{where}: {value} and {wanted}"
    else:
        assert value == wanted and type(value) is type(wanted), where


@pytest.mark.parametrize("name", JSON)
def test_a_file_is_what_the_generator_gives(name: str) -> None:
    made = json.loads(json.dumps(JSON[name]()))
    if name == "subspace.json":  # rows of any order and sign span the same space
        for one in (made, wanted := read(name)):
            for case in one["cases"]:
                rows = np.array(case["removed"]).reshape(-1, len(case["history"][0]))
                case["removed"] = (rows.T @ rows).tolist()
        assert_close(made, wanted, USUAL)
    else:
        assert_close(made, read(name), BOUNDS.get(name, USUAL))


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_file_is_what_the_generator_gives_to_the_byte(name: str, tmp_path: Path) -> None:
    BINARY[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_what_the_generator_gives(name: str, tmp_path: Path) -> None:
    BINARY[name](tmp_path / name)
    made, wanted = (Image.open(folder / name) for folder in (tmp_path, HERE))
    assert made.mode == wanted.mode == PHOTOS[name][1] and made.tobytes() == wanted.tobytes()
    assert dict(made.getexif()) == dict(wanted.getexif())


# checkpoints


@pytest.mark.parametrize("name", runs.CHECKPOINTS)
def test_a_checkpoint_is_read_and_written_again_to_the_byte(name: str, tmp_path: Path) -> None:
    state = load_state(HERE / name, runs.FINGERPRINTS)
    save_state(tmp_path / name, state, runs.FINGERPRINTS, runs.SALT)
    assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


@pytest.mark.parametrize("name", runs.CHECKPOINTS)
def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    number, steps = runs.CHECKPOINTS[name]
    one, whole = runs.RUNS[number], runs.RUNS[number].state()
    list(one.steps(whole))
    runs.write_checkpoint(tmp_path / name)
    here, golden = load_state(tmp_path / name), load_state(HERE / name)
    for state in (here, golden):
        assert state.step == steps and len(list(one.steps(state))) == one.config.max_train_steps - steps
    assert (here.embedding == whole.embedding).all() and (here.result == whole.result).all()
    rest = read("trajectory.json")["runs"][number]
    np.testing.assert_allclose(golden.embedding, rest["steps"][-1]["token"], atol=USUAL)


def test_the_checkpoints_hold_all_that_a_state_may_hold() -> None:
    adam, newton = (load_state(HERE / name) for name in runs.CHECKPOINTS)
    assert len(adam.subspace.removed) and len(adam.subspace.history) and adam.adam.count and not len(adam.newton.basis)
    assert newton.average_count and newton.newton.count and newton.mu_min == 0.004 and np.isnan(adam.mu_min)


@pytest.mark.parametrize("case", runs.DAMAGED_STATES, ids=lambda case: case["name"])
@pytest.mark.parametrize("name", runs.CHECKPOINTS)
def test_a_damaged_checkpoint_is_refused(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    data = (HERE / name).read_bytes()
    if "replace" in case:
        old, new = (text.encode() for text in case["replace"])
        assert old in data and len(old) == len(new)
        data = data.replace(old, new, 1)
    data = data[: case.get("cut_to", len(data))] + bytes.fromhex(case.get("append_hex", ""))
    last, first = (bytes.fromhex(case.get(f"{end}_bytes_hex", "")) for end in ("last", "first"))
    data = first + data[len(first) : len(data) - len(last)] + last
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError):
        load_state(tmp_path / name)


def test_a_checkpoint_of_another_run_is_refused() -> None:
    with pytest.raises(CheckpointError, match="made with another photos"):
        load_state(HERE / next(iter(runs.CHECKPOINTS)), runs.FINGERPRINTS | {"photos": "c"})


# what the runs show


def test_the_runs_show_all_that_a_twin_can_get_wrong() -> None:
    one, two, three = read("trajectory.json")["gauss_newton"]["runs"]
    assert len(one["tokens"]) == len(two["tokens"]) == 12
    assert not any(one["clamped"]) and 0 < sum(two["clamped"]) < 12  # models are carried back, and are not
    assert np.shape(one["tokens"][0]) == (1, 6) and np.shape(two["tokens"][0]) == (2, 3)
    assert two["config"]["zo_samples"] < 2 * len(two["principal"]) and two["config"]["train_batch_size"] > 1
    assert np.abs(np.subtract(two["result"], two["tokens"][-1])).max() > 1e-3  # the tail is averaged
    principal = np.array(one["principal"])
    moves = np.diff([np.zeros((1, 6)), *one["tokens"]], axis=0)[:, 0] @ principal.T / (principal**2).sum(axis=1)
    lengths = np.linalg.norm(moves, axis=1)
    assert lengths[0] == pytest.approx(one["config"]["trust_radius"]) and lengths[-1] < 0.5 * lengths[0]
    changed = [tuple(np.flatnonzero(move)) for move in np.diff([np.zeros((1, 6)), *three["tokens"]], axis=0)[:, 0]]
    assert changed[:2] == [(0, 1, 2), (3, 4, 5)] and len(set(changed[2:])) > 2  # in turn, then by what they promise


def test_every_setting_has_a_run_in_which_it_is_not_the_default() -> None:
    described = read("trajectory.json")["runs"]
    default = runs.ZoConfig().to_dict()
    others = {name for one in described for name, value in one["config"].items() if value != default[name]}
    assert others == set(default) - {"schema_version"}
    steps = list(itertools.chain.from_iterable(one["steps"] for one in described))
    assert any(step["skipped"] for step in steps) and any(step["clamped"] for step in steps)
    assert {step["removed"] > 0 for step in steps} == {True, False}
    assert [one["name"] for one in described if one["ends"]] == ["too many losses that are not finite"]


def test_directions_are_chosen_by_promise_and_by_age() -> None:
    (one,) = (one for one in read("trajectory.json")["runs"] if "some of ten directions" in one["name"])
    chosen, samples = [step["chosen"] for step in one["steps"]], one["config"]["zo_samples"]
    assert len(one["principal"]) * 2 == 10 and all(len(set(each)) == samples for each in chosen)
    seen = np.zeros(10)
    for step, each in enumerate(chosen, 1):
        assert np.argmin(seen) in each  # the first of those that were not looked at for the longest time
        seen[each] = step
    counts = np.bincount(np.concatenate(chosen), minlength=10)
    assert counts.min() >= 5 and counts.max() > counts.min()


# the bundle


def test_the_bundle_is_whole_and_its_graphs_compute_its_golden_vectors() -> None:
    bundle = Bundle.open(HERE / "bundle")
    outcome = onnxruntime_of(bundle, golden_cases(bundle))
    assert outcome.good, str(outcome)
    assert sum(path.stat().st_size for path in (HERE / "bundle").rglob("*") if path.is_file()) < 600_000


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "bundle", tmp_path / "bundle"))


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("case", read("damaged.json")["manifest"], ids=lambda case: f"{case['class']}: {case['name']}")
def test_a_damaged_manifest_is_refused(case: dict[str, Any], copied: Path) -> None:
    replace_once(copied / "manifest.json", *case["replace"])
    with pytest.raises(EdgeSdkError) as caught:
        open_bundle(copied)
    assert case.get("entry", "") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("case", read("damaged.json")["files"], ids=lambda case: case["name"])
def test_a_damaged_file_is_refused(case: dict[str, Any], copied: Path) -> None:
    path = copied / case["file"]
    if case["action"] == "remove":
        path.unlink()
    elif case["action"] == "add":
        path.write_text("")
    elif case["action"] == "link":
        path.rename(copied.parent / path.name)
        path.symlink_to(copied.parent / path.name)
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= case["action"] == "flip"
        path.write_bytes(data[: -1 if case["action"] == "cut" else None])
    with pytest.raises(EdgeSdkError):
        open_bundle(copied)


def test_a_graph_of_an_unknown_operator_set_is_refused_when_it_is_opened(copied: Path) -> None:
    case = read("damaged.json")["graph"]
    shutil.copy(HERE / case["copy"], copied / case["to"])
    for old, new in case["replace"]:
        replace_once(copied / "manifest.json", old, new)
    assert hashlib.sha256((copied / case["to"]).read_bytes()).hexdigest() in case["replace"][1][1]
    with pytest.raises(EdgeSdkError, match="cannot be loaded by onnxruntime"):
        open_session(open_bundle(copied).bundle, case["to"].removesuffix(".onnx"))


def test_at_least_ten_kinds_of_damage_are_there() -> None:
    damaged = read("damaged.json")
    classes = {case["class"] for case in [*damaged["manifest"], *damaged["files"], damaged["graph"]]}
    assert len(classes) >= 10


# the description


def test_the_readme_names_every_file() -> None:
    text = (HERE / "README.md").read_text()
    files = {path.name for path in HERE.iterdir() if path.suffix not in (".py", ".md") and path.name != "__pycache__"}
    assert {name for name in files if f"`{name}" not in text} == set()
    assert set(JSON) | set(BINARY) | {"bundle", "twins.json"} >= files
