"""What takes a target's place: which pictures, how many, and what becomes of the background."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.cli.main import main
from edge_sdk.unlearning.denoiser import load_denoiser
from tests.unlearning.test_refused import one_line

pytestmark = pytest.mark.usefixtures("no_probe")


def test_a_target_is_no_surrogate_of_another(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    for one, other in (("0", "1"), ("1", "0")):
        shutil.copy(pictures["forget"] / f"{one}.png", swapped / f"{other}.png")
    arguments = command(model_of["ddpm"])
    arguments += ["--surrogate_data_dir", str(swapped)]
    one_line(capsys, arguments, "picture 1 of forget_data_dir is also picture 2 of surrogate_data_dir")


def test_fewer_retained_pictures_than_nearest_surrogates_is_said(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--surrogate", "nearest", "--num_surrogates", "7", "--max_target_similarity", "1"]
    one_line(capsys, command(model_of["ddpm"], *more, given=False), "retain_data_dir holds 6 pictures, of which 7")
    more[3] = "6"
    assert main(command(model_of["ddpm"], *more, given=False)) == 0


def test_by_default_the_nearest_retained_pictures_are_surrogates_as_many_as_are_admitted(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(model_of["ddpm"], "--max_target_similarity", "1", given=False)
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "unlearn.json").read_text())
    assert [len(many) for many in record["surrogates"]] == [6, 6]  # of 64, all that are there
    scores = [sorted(score["to_target"] for score in many) for many in record["surrogates"]]
    limit = max(
        score for score in scores[0] + scores[1] if min(sum(one <= score for one in own) for own in scores) == 1
    )
    fewer = [sum(one <= limit for one in own) for own in scores]  # for one target a single one, for the other more
    arguments += ["--max_target_similarity", str(limit)]
    shutil.rmtree(tmp_path / "out")
    arguments.remove("--quiet")
    capsys.readouterr()
    assert main(arguments) == 0
    again = json.loads((tmp_path / "out" / "unlearn.json").read_text())["surrogates"]
    assert min(fewer) == 1 < max(fewer)
    assert [len(many) for many in again] == [max(fewer)] * 2  # the others of a target with fewer are repeats, in order
    for own, many in zip(fewer, again, strict=True):
        assert many == [many[j % own] for j in range(len(many))] and len({one["sha256"] for one in many}) == own
    assert f"surrogates of each target: {fewer[0]}, {fewer[1]};" in capsys.readouterr().err
    arguments.append("--quiet")
    arguments += ["--max_target_similarity", "-1"]
    shutil.rmtree(tmp_path / "out")
    one_line(capsys, arguments, "0 of 6 surrogates are admitted")


def test_surrogates_are_as_many_for_each_target(
    model_of: dict[str, Path],
    command: Callable[..., list[str]],
    pictures: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = shutil.copytree(pictures["given"], tmp_path / "more")
    arguments = [str(more) if entry == str(pictures["given"]) else entry for entry in command(model_of["ddpm"])]
    shutil.copy(pictures["retain"] / "0.png", more / "2.png")
    one_line(capsys, arguments, "3 pictures for 2 targets")
    shutil.copy(pictures["retain"] / "1.png", more / "3.png")
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out" / "unlearn.json").read_text())
    assert [len(many) for many in record["surrogates"]] == [2, 2]


@pytest.mark.parametrize("kind", ["edit", "nearest"])
def test_surrogates_that_the_model_makes_keep_the_background(
    model_of: dict[str, Path], pictures: dict[str, Path], kind: str
) -> None:
    from edge_sdk.unlearning.config import UnlearnConfig
    from edge_sdk.unlearning.data import read
    from edge_sdk.unlearning.similarity import Similarity
    from edge_sdk.unlearning.training.surrogate import make_surrogates, portrait_mask

    denoiser = load_denoiser(str(model_of["ddpm"]))
    targets, retained = (read(denoiser, pictures[name], name) for name in ("forget", "retain"))
    config = UnlearnConfig(surrogate=kind, num_surrogates=2, max_background_change=1e-6, max_retained_similarity=1.0)
    made = make_surrogates(denoiser, targets, retained, config, Similarity())
    assert made.x0.shape == (2, 2, 3, 16, 16)
    outside = portrait_mask(16) == 0
    gap = np.abs(made.pixels - targets.pixels[:, None])
    assert gap[..., outside].max() < 1e-6 and gap[..., ~outside].mean() > 0.1
    again = make_surrogates(denoiser, targets, retained, config, Similarity())
    assert (again.pixels == made.pixels).all()
