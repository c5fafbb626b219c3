"""Audits: figures that mean what they say, limits that decide, pages that show no target unasked."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sdk.cli.main import main
from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.audit import audit, measure, recovery
from edge_sdk.unlearning.audit.evidence import Pictured
from edge_sdk.unlearning.audit.limits import Limits, checks
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.audit.report import _image, _samples, grid
from edge_sdk.unlearning.data import read, salted_hash
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.patch import requests_of
from edge_sdk.unlearning.similarity import Similarity


@pytest.fixture
def arguments(audit_of: Callable[..., list[str]], ddpm_folder: Path) -> list[str]:
    """Of an audit of a model against itself."""
    return audit_of(ddpm_folder, ddpm_folder)


def test_a_model_audited_against_itself_has_not_moved(arguments: list[str], tmp_path: Path) -> None:
    loose = tmp_path / "limits.json"
    loose.write_text(json.dumps({"hit_rate": 1, "int8_change": 1, "int4_change": 1, "target_similarity": 1}))
    assert main([*arguments, "--limits", str(loose)]) == 1
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    missed = [check for check in record["checks"] if not check["passed"]]
    missed_by = {check["name"]: check["measured"] for check in missed}
    assert missed_by == {
        "target_change": 0,
        "beyond_others": 0,
        "unrecorded": 1,
    }  # nothing is forgotten, and no one was asked to
    assert record["requests"] == 0 and record["retained"] == 24
    assert list(record["integrity"]) == ["float", "int8", "int4"]
    for found in record["integrity"].values():
        assert found["worst_drift"] == pytest.approx(0, abs=1e-5) and found["drift"] == pytest.approx(0, abs=1e-6)
        assert found["retain_loss_rise"] == 0 and found["neighbour_drift"] < 1e-5
    assert len({json.dumps(found["loss_by_timestep"]) for found in record["integrity"].values()}) == 3
    assert all(found["before"] == found["after"] for found in record["forgetting"].values())
    assert all(rate["rise"] == 0 for form in record["samples_like_targets"].values() for rate in form["after"])
    assert record["control_to_targets"] < 0.9
    assert record["relearning_steps"] == [0, 1, 2]
    starts = {}
    for form, found in record["attacks"].items():
        assert found["inversion"]["before"] == found["inversion"]["after"]
        assert [len(values) for values in found["relearning"].values()] == [3, 3]
        starts[form] = found["relearning"]["target"][0]  # before anything is shown: the model itself
        assert starts[form] == pytest.approx(record["forgetting"][form]["after"]["mean"], abs=1e-6)
    assert len(set(starts.values())) == 3
    page = (tmp_path / "a" / "audit.html").read_text()
    assert "unlearned.json is missing" in page and "whoever has a candidate picture can test it" in page
    assert "do not prove" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_control_is_a_stranger_unless_it_is_given(
    arguments: list[str],
    ddpm_folder: Path,
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    denoiser, similarity = load_denoiser(str(ddpm_folder)), Similarity("pixels")
    targets, retained = (read(denoiser, pictures[name], name) for name in ("forget", "held_out"))
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


DAMAGED = (
    "{",
    "[]",
    "{}",
    '{"requests": 1}',
    '{"requests": {}}',
    '{"requests": null}',
    '{"requests": ["a"]}',
    '{"requests": [{"salt": "x", "targets": ["aa"]}]}',
    '{"requests": [{"salt": "aa", "targets": []}]}',
    '{"requests": [{"salt": "aa", "targets": [["aa"]]}]}',
    '{"requests": [{"salt": "aa", "targets": "aa"}]}',
    '{"requests": [{"salt": 1, "targets": ["aa"]}]}',
    '{"requests": [{"salt": "aa", "targets": ["aa"], "config": []}]}',
    '{"requests": [{"salt": "aa", "targets": ["aa"], "config": {"prompt": 1}}]}',
    '{"requests": [], "requests": []}',
)


@pytest.mark.parametrize("text", DAMAGED)
def test_records_of_requests_that_are_damaged_are_not_taken_for_none(tmp_path: Path, text: str) -> None:
    assert requests_of(tmp_path) == []
    (tmp_path / "unlearned.json").write_text(text)
    with pytest.raises(EdgeSdkError, match="record of what this model has forgotten"):
        requests_of(tmp_path)


def test_a_sample_that_is_most_like_a_target_is_blank_on_the_page_unless_asked_for() -> None:
    drawn = np.zeros((2, 3, 3, 4, 4), np.float32)
    like = np.array([[False, True, False], [False, False, False]])
    shown = Pictured({"float": drawn}, {"float": like}, {}, drawn[0])
    (without,), (asked,) = (_samples(shown, include_images) for include_images in (False, True))
    blank = drawn.copy()
    blank[0, 1] = 1
    assert _image(grid(list(blank)), 64 * 12) in without and "blank are those most like a target" in without
    assert _image(grid(list(drawn)), 64 * 12) in asked and "blank" not in asked


def test_a_target_cannot_be_among_the_pictures_that_must_not_change(
    arguments: list[str], pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments += ["--retain_data_dir", str(pictures["forget"])]
    assert main(arguments) == 2
    assert "a target cannot be kept" in capsys.readouterr().err and not (tmp_path / "a").exists()


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
    arguments += ["--after", str(after)]
    main(arguments)
    record = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert (record["requests"], record["unaudited"]) == (2, 0)
    assert record["salt"] == b"second".hex() and record["targets"][1] == requests[1]["targets"][0]
    assert audit.count_unaudited(requests, replace(both, pixels=both.pixels[1:], x0=both.x0[1:])) == 1
    record["unaudited"] = 1
    (check,) = (check for check in checks(record, Limits()) if check["name"] == "unaudited")
    assert check == {"name": "unaudited", "measured": 1, "limit": 0, "passed": False}


def test_targets_are_shown_only_if_asked_for(arguments: list[str], tmp_path: Path) -> None:
    main(arguments)
    without = (tmp_path / "a" / "audit.html").read_text()
    arguments += ["--output_dir", str(tmp_path / "b")]
    main([*arguments, "--include-images"])
    shown = (tmp_path / "b" / "audit.html").read_text()
    assert without.count("<img") == 3 and shown.count("<img") == 3 + 2 * 5


def test_models_of_different_kinds_are_refused(
    arguments: list[str], sd1_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments += ["--after", str(sd1_folder)]
    assert main(arguments) == 2 and "UNet2DConditionModel" in capsys.readouterr().err


def test_a_model_without_its_text_encoder_is_not_said_to_be_a_place_that_cannot_be_written(
    arguments: list[str], sd1_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = shutil.copytree(sd1_folder, tmp_path / "broken")
    shutil.rmtree(broken / "text_encoder")
    arguments += ["--before", str(broken), "--after", str(broken)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"text encoder or tokenizer of {broken} cannot be used" in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_only_what_is_written_can_be_a_place_that_cannot_be_written(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/elsewhere")

    monkeypatch.setattr(audit, "collect", broken)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("edge-sdk: error: /elsewhere cannot be used: Permission denied;")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_audit_has_limits_and_no_verdict_and_does_not_lock_its_folder(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "a" / "audit.json"
    with monkeypatch.context() as broken_off:
        broken_off.setattr(audit, "page", interrupted)
        assert main(arguments) == 130
    unfinished = json.loads(record.read_text())
    assert unfinished["passed"] is None and "checks" not in unfinished and unfinished["limits"]["drift"] == 0.1
    assert main(arguments) == 1 and json.loads(record.read_text())["passed"] is False
    assert main(arguments) == 2 and json.loads(record.read_text())["passed"] is False  # a finished one stays


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
