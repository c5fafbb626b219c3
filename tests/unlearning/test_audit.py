"""Audits: figures that mean what they say, limits that decide, pages that show no target unasked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning import audit, measure, recovery, sampling
from edge_sdk.unlearning.data import read, salted_hash
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.measure import Model
from edge_sdk.unlearning.patch import requests_of
from edge_sdk.unlearning.report import _image, _samples, grid
from edge_sdk.unlearning.similarity import Similarity


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that an audit does, on few noises and in few steps."""
    monkeypatch.setattr(measure, "NOISES", 2)
    monkeypatch.setattr(measure, "NOISED", 32)
    monkeypatch.setattr(recovery, "BATCH", 4)
    monkeypatch.setattr(sampling, "STEPS", 4)
    monkeypatch.setattr(recovery, "RELEARNING", (1, 2, 4))


@pytest.fixture
def arguments(ddpm_folder: Path, pictures: dict[str, Path], tmp_path: Path) -> list[str]:
    return ["audit", "--before", str(ddpm_folder), "--after", str(ddpm_folder), "--forget_data_dir",
            str(pictures["forget"]), "--retain_data_dir", str(pictures["retain"]), "--output_dir", str(tmp_path / "a"),
            "--samples", "8", "--quiet"]  # fmt: skip


def test_a_model_audited_against_itself_has_not_moved(arguments: list[str], tmp_path: Path) -> None:
    loose = tmp_path / "limits.json"
    loose.write_text(json.dumps({"hit_rate": 1, "int8_change": 1, "int4_change": 1, "target_similarity": 1}))
    assert main([*arguments, "--limits", str(loose)]) == 1
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    missed = [check for check in record["checks"] if not check["passed"]]
    assert [(check["name"], check["measured"]) for check in missed] == [("target_change", 0)]  # nothing is forgotten
    assert list(record["integrity"]) == ["float", "int8", "int4"]
    for found in record["integrity"].values():
        assert found["worst_drift"] == pytest.approx(0, abs=1e-5) and found["drift"] == pytest.approx(0, abs=1e-6)
        assert found["retain_loss_rise"] == 0 and found["neighbour_drift"] < 1e-5
    assert len({json.dumps(found["loss_by_timestep"]) for found in record["integrity"].values()}) == 3
    assert all(found["before"] == found["after"] for found in record["forgetting"].values())
    assert record["control_to_targets"] < 0.9
    assert record["relearning_steps"] == [0, 1, 2, 4]
    starts = {}
    for form, found in record["attacks"].items():
        assert found["inversion"]["before"] == found["inversion"]["after"]
        assert [len(values) for values in found["relearning"].values()] == [4, 4]
        starts[form] = found["relearning"]["target"][0]  # before anything is shown: the model itself
        assert starts[form] == pytest.approx(record["forgetting"][form]["after"]["mean"], abs=1e-6)
    assert len(set(starts.values())) == 3
    page = (tmp_path / "a" / "audit.html").read_text()
    assert "do not prove" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_control_is_a_stranger_unless_it_is_given(
    arguments: list[str], ddpm_folder: Path, pictures: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    denoiser, similarity = load_denoiser(str(ddpm_folder)), Similarity("pixels")
    targets, retained = (read(denoiser, pictures[name], name) for name in ("forget", "retain"))
    found = recovery.control_of(denoiser, targets, retained, None, similarity)
    alike = similarity(retained.pixels, targets.pixels).max(axis=1)
    np.testing.assert_array_equal(found.pixels[0], retained.pixels[alike.argmin(), ..., ::-1])
    given = recovery.control_of(denoiser, targets, retained, pictures["given"], similarity)
    np.testing.assert_array_equal(given.pixels, read(denoiser, pictures["given"], "given").pixels)
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(pictures["given"] / "0.png", one)
    for wrong, said in (
        (one, "holds 1 pictures for 2 targets"),
        (pictures["forget"], "take it out of control_data_dir"),
    ):
        assert main([*arguments, "--control_data_dir", str(wrong)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1 and not (tmp_path / "a").exists()


def test_a_missed_limit_is_status_1_and_the_limits_are_in_the_record(arguments: list[str], tmp_path: Path) -> None:
    strict = tmp_path / "limits.json"
    strict.write_text(json.dumps({"target_similarity": -1}))
    assert main([*arguments, "--limits", str(strict)]) == 1
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert not record["passed"] and record["limits"]["target_similarity"] == -1


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"requests": 1}',
        '{"requests": {}}',
        '{"requests": [{"salt": "x", "targets": []}]}',
        "[" * 100_000,
        '{"requests": [{"salt": "00", "targets": [["a"]]}]}',
        '{"requests": [{"salt": 5, "targets": []}]}',
    ],
)
def test_records_of_requests_that_are_damaged_are_not_taken_for_none(tmp_path: Path, text: str) -> None:
    assert requests_of(tmp_path) == []
    (tmp_path / "unlearned.json").write_text(text)
    with pytest.raises(EdgeSdkError, match="record of what this model has forgotten, is damaged"):
        requests_of(tmp_path)


def test_a_sample_that_is_most_like_a_target_is_blank_on_the_page_unless_asked_for() -> None:
    drawn = np.zeros((2, 3, 3, 4, 4), np.float32)
    like = np.array([[False, True, False], [False, False, False]])
    shown = audit.Pictured({"float": drawn}, {"float": like}, {}, drawn[0])
    (without,), (asked,) = (_samples(shown, include_images) for include_images in (False, True))
    blank = drawn.copy()
    blank[0, 1] = 1
    assert _image(grid(list(blank)), 64 * 12) in without and "blank are those most like a target" in without
    assert _image(grid(list(drawn)), 64 * 12) in asked and "blank" not in asked


def test_a_target_cannot_be_among_the_pictures_that_must_not_change(
    arguments: list[str], pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[arguments.index("--retain_data_dir") + 1] = str(pictures["forget"])
    assert main(arguments) == 2
    assert "a target cannot be kept" in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_models_of_other_layers_or_another_schedule_are_refused(
    arguments: list[str], ddpm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = arguments.index("--after") + 1
    other = shutil.copytree(ddpm_folder, tmp_path / "schedule")
    config = json.loads((other / "scheduler" / "scheduler_config.json").read_text())
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | {"beta_end": 0.01}))
    wider = UNet2DModel.from_config({**UNet2DModel.load_config(ddpm_folder / "unet"), "block_out_channels": (16, 40)})
    DDPMPipeline(wider, DDPMScheduler()).save_pretrained(tmp_path / "layers", safe_serialization=True)
    for name in ("schedule", "layers"):
        arguments[place] = str(tmp_path / name)
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert "of other layers or another schedule" in error and error.count("\n") == 1
        assert not (tmp_path / "a").exists()


INTEGRITY = ("drift", "worst_drift", "neighbour_drift", "retain_loss_rise")


def figures(before: list[float], after: dict[str, list[float]]) -> dict[str, Any]:
    """Of an audit in which only the targets' similarities are not 0."""
    return {
        "forgetting": {
            form: {"before": {"by_target": before}, "after": {"by_target": found}} for form, found in after.items()
        },
        "samples_like_targets": {form: {"before": [], "after": [{"upper_95": 0.0}]} for form in after},
        "integrity": {form: dict.fromkeys(INTEGRITY, 0.0) for form in after},
        "unaudited": 0,
    }


def missed_by(found: dict[str, Any]) -> set[str]:
    return {check["name"] for check in audit.checks(found, audit.Limits()) if not check["passed"]}


def test_integers_that_have_forgotten_nothing_miss_a_limit() -> None:
    """Also where another target's opposite change would hide it in the mean."""
    after = {"float": [0.5, 0.3], "int8": [0.5, 0.3], "int4": [0.5, 0.3]}
    assert missed_by(figures([0.6, 0.6], after)) == set()
    after["int4"] = [0.7, 0.1]
    assert missed_by(figures([0.6, 0.6], after)) == {"target_change", "int4_change"}


def test_what_is_not_finite_keeps_no_limit() -> None:
    found = figures([0.6], {"float": [0.5], "int8": [0.5], "int4": [0.5]})
    found["integrity"]["int8"]["drift"] = float("nan")
    assert missed_by(found) == {"drift"}


@pytest.mark.parametrize("worst", ["float", "int8", "int4"])
def test_the_worst_form_of_the_weights_decides(worst: str) -> None:
    even = {form: 2.0 if form == worst else 1.0 for form in ("float", "int8", "int4")}
    found = figures([0.5, 4.0], {form: [0.0, value] for form, value in even.items()})
    for form, value in even.items():
        found["samples_like_targets"][form]["after"] = [{"upper_95": value}]
        found["integrity"][form] = dict.fromkeys(INTEGRITY, value)
    measured = {check["name"]: check["measured"] for check in audit.checks(found, audit.Limits())}
    assert {name: measured[name] for name in ("target_similarity", "hit_rate", *INTEGRITY)} == dict.fromkeys(
        ("target_similarity", "hit_rate", *INTEGRITY), 2.0
    )
    assert measured["target_change"] == -0.5  # of the target that changed least
    assert measured["int4_change"] == (0.0 if worst == "int8" else 1.0)


def test_pictures_of_earlier_requests_must_be_audited_again(
    arguments: list[str], ddpm_folder: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    """A model that has forgotten two pictures in two requests, of which an audit is given one or both."""
    both = read(load_denoiser(str(ddpm_folder)), pictures["forget"], "forget")
    requests = [
        {"salt": salt.hex(), "targets": [salted_hash(pixels, salt)]}
        for pixels, salt in zip(both.pixels, (b"first", b"second"), strict=True)
    ]
    after = shutil.copytree(ddpm_folder, tmp_path / "after")
    (after / "unlearned.json").write_text(json.dumps({"requests": requests}))
    arguments[arguments.index("--after") + 1] = str(after)
    main(arguments)
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert (record["requests"], record["unaudited"]) == (2, 0)
    assert record["salt"] == b"second".hex() and record["targets"][1] == requests[1]["targets"][0]
    assert audit.unaudited(requests, replace(both, pixels=both.pixels[1:], x0=both.x0[1:])) == 1
    record["unaudited"] = 1
    (check,) = (check for check in audit.checks(record, audit.Limits()) if check["name"] == "unaudited")
    assert check == {"name": "unaudited", "measured": 1, "limit": 0, "passed": False}


def test_targets_are_shown_only_if_asked_for(arguments: list[str], tmp_path: Path) -> None:
    main(arguments)
    without = (tmp_path / "a" / "audit.html").read_text()
    arguments[arguments.index("--output_dir") + 1] = str(tmp_path / "b")
    main([*arguments, "--include-images"])
    shown = (tmp_path / "b" / "audit.html").read_text()
    assert without.count("<img") == 3 and shown.count("<img") == 3 + 2 * 5


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be used"), ('{"drifts": 1}', "unknown limit drifts"), ('{"drift": "x"}', "cannot be used"), 
     ("[1]", "named"), ('{"drift": NaN}', "NaN is no number"),
     ('{"drift": Infinity}', "Infinity is no number"), ('{"drift": 1e999}', "too large for a number"),
     ('{"drift": "inf"}', "drift is 'inf', not a finite number"), ('{"drift": true}', "drift is True"),
     ('{"drift": 1' + "0" * 400 + "}", "401 digits"), ('{"drift": 1, "drift": 2}', "'drift' is given twice"),
     ("[" * 100_000, "nested more than")],
)  # fmt: skip
def test_bad_limits_are_one_line(
    arguments: list[str], tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "limits.json").write_text(text)
    assert main([*arguments, "--limits", str(tmp_path / "limits.json")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_models_of_different_kinds_are_refused(
    arguments: list[str], sd1_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[arguments.index("--after") + 1] = str(sd1_folder)
    assert main(arguments) == 2 and "UNet2DConditionModel" in capsys.readouterr().err


def test_a_model_without_its_text_encoder_is_not_said_to_be_a_place_that_cannot_be_written(
    arguments: list[str], sd1_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(sd1_folder, tmp_path / "broken")
    shutil.rmtree(broken / "text_encoder")
    arguments[arguments.index("--before") + 1] = arguments[arguments.index("--after") + 1] = str(broken)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"text encoder or tokenizer of {broken} cannot be used" in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_only_what_is_written_can_be_a_place_that_cannot_be_written(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/elsewhere")

    monkeypatch.setattr(audit, "measured", broken)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("edge-sdk: error: /elsewhere cannot be used: Permission denied;")


def test_no_hit_in_n_samples_bounds_the_rate_by_three_over_n() -> None:
    assert measure.upper_bound(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert measure.upper_bound(5, 100) == pytest.approx(0.1022, abs=2e-4)  # Clopper-Pearson, one-sided
    assert measure.upper_bound(7, 7) == 1.0


def test_a_perfect_denoiser_reconstructs_and_inverts(ddpm_folder: Path, pictures: dict[str, Path]) -> None:
    """A denoiser that knows one picture only: from every timestep it comes back."""
    denoiser = load_denoiser(str(ddpm_folder))
    targets = read(denoiser, pictures["forget"], "forget")
    a, b = denoiser.schedule.coefficients()

    def knows(z: torch.Tensor, t: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        now = t.long()[0]
        return ((z - a[now] * targets.x0[:1]) / b[now],)

    model, similarity = Model(denoiser, knows, {}), Similarity()
    found = measure.reconstructions(model, targets)
    values = measure.similarities(similarity, found, targets.pixels)
    assert values[0].min() > 0.999 and values[1].max() < 0.5
    assert measure.inverted(model, targets).shape == targets.pixels.shape
    samples = measure.samples(model, 4)
    assert measure.hits(similarity, samples, targets.pixels[0], targets.pixels[1:]).all()
    assert measure.drift(similarity, samples, samples).max() < 1e-6


def test_the_kernel_distance_is_zero_in_the_mean_for_equal_sets_and_not_for_others() -> None:
    rng = np.random.default_rng(0)

    def unit(shift: float) -> np.ndarray:
        values = rng.standard_normal((400, 16)) + shift
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    assert abs(measure.kernel_distance(unit(0), unit(0))) < 0.02 < measure.kernel_distance(unit(0), unit(0.5))


def test_a_salted_hash_needs_the_salt() -> None:
    pixels = np.zeros((3, 4, 4), np.float32)
    assert salted_hash(pixels, b"a") == salted_hash(pixels.copy(), b"a") != salted_hash(pixels, b"b")
