"""What the quality benchmark's comparisons are computed with."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks import quality
from benchmarks.lib.baselines.evolution import CmaEs
from benchmarks.pocket.people import HELD_OUT_PAIRS, held_out_people
from benchmarks.pocket.text import Captioner
from benchmarks.quality import distilled, stopping
from benchmarks.quality.benchmark import condition
from benchmarks.quality.equal_care import PLATEAU, START, reached, summarize, table
from benchmarks.quality.learn import Bench, Subjects
from benchmarks.quality.noise import NoisyObjective
from benchmarks.quality.people import fresh_people
from benchmarks.quality.runs import Record
from benchmarks.quality.tables import shuffled, white, widened
from edge_sdk import pocket
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo import draw


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench.build("pocket", "none", "integer", Subjects(fresh_people()[:1]))


def test_nobody_is_among_those_that_settings_were_chosen_on() -> None:
    people = np.concatenate([held_out_people(), fresh_people()])
    differences = (people[:, None] != people[None]).sum(axis=2)
    assert len(fresh_people()) == 20 and differences[~np.eye(len(people), dtype=bool)].min() >= 3
    assert all((int(hair), int(color)) in HELD_OUT_PAIRS for hair, color in people[:, :2])


@pytest.mark.parametrize("filling", [white, shuffled])
def test_a_wide_table_computes_what_the_narrow_one_does(bench: Bench, filling: object) -> None:
    wide = widened(bench, filling)  # type: ignore[arg-type]
    assert wide.initial.shape == (1, 768) and wide.principal.shape == (128, 768)
    drawn = draw(bench.objective, 0, 0, 2, (0, 1000))
    narrow = bench.objective.residuals(np.repeat(bench.initial[None], 2, axis=0), drawn)
    np.testing.assert_allclose(
        wide.objective.residuals(np.repeat(wide.initial[None], 2, axis=0), drawn), narrow, atol=1e-4
    )
    outside = np.random.default_rng(0).standard_normal((1, 768)).astype(np.float32)
    outside -= outside @ wide.objective.text.reading.numpy() @ wide.objective.text.reading.numpy().T
    moved = wide.objective.residuals(np.repeat((wide.initial + outside)[None], 2, axis=0), drawn)
    np.testing.assert_allclose(moved, narrow, atol=1e-4)


def test_noise_is_the_same_for_all_rows_of_a_draw_and_has_its_variance(bench: Bench) -> None:
    noisy = NoisyObjective(bench.objective, 4.0)
    drawn = draw(bench.objective, 0, 0, 2, (0, 1000))
    rows = np.repeat(bench.initial[None], 4, axis=0)
    draws = [drawn[0], drawn[0], drawn[1], drawn[1]]
    added = noisy.residuals(rows, draws) - bench.objective.residuals(rows, draws)
    assert np.allclose(added[0], added[1], atol=1e-5) and np.abs(added[0] - added[2]).max() > 1
    assert added.var() == pytest.approx(4.0, rel=0.2)
    tensor = torch.from_numpy(rows).requires_grad_()
    losses = noisy.loss(tensor, draws)
    np.testing.assert_allclose(losses.detach().numpy(), np.square(noisy.residuals(rows, draws)).mean(axis=1), rtol=1e-4)


def test_the_evolution_strategy_finds_the_middle_of_a_bowl() -> None:
    middle, scales = np.linspace(-1, 1, 8), np.geomspace(1, 30, 8)
    strategy = CmaEs(8, 0.5, 10, seed=0)
    for _ in range(250):
        strategy.tell((((strategy.ask() - middle) * scales) ** 2).sum(axis=1))
    assert np.abs(strategy.mean - middle).max() < 1e-3


def test_a_run_stops_where_its_loss_has_settled() -> None:
    falling = np.concatenate([np.linspace(1, 0.1, 12), np.full(30, 0.1)])
    end = stopping.stop(falling)
    assert 12 <= end < 12 + stopping.WINDOW
    assert stopping.stop(np.linspace(1, 0, 20)) == 19


@pytest.mark.parametrize(
    ("target", "forwards"), [(0.7, 50), (0.3, 160), (0.1, np.inf)], ids=["first", "later", "never"]
)
def test_a_loss_is_reached_between_two_points_and_stays_reached(target: float, forwards: float) -> None:
    curves = np.array([[1.1, 0.3, 0.6, 0.2], [0.9, 0.5, 0.8, 0.2]])  # means 1, 0.4, 0.7, 0.2
    assert reached(curves, np.array([0.0, 100, 120, 200]), target) == pytest.approx(forwards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--people", "fresh", "--subjects", "21"], "--subjects is 21; it must be from 12 to 20"),
        (["--subjects", "6"], "--subjects is 6; it must be from 12 to 24"),
        (["--noise", "-1"], "--noise is -1; it must be a variance"),
        (["--noise", "nan"], "--noise is nan; it must be a variance"),
        (["--resume", "--noise", "1"], "is of other people or another noise"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_refused_at_once(options: list[str], message: str, tmp_path: Path) -> None:
    parser, output = argparse.ArgumentParser(), tmp_path / "quality.json"
    output.write_text(json.dumps({"commands": [], "results": {"fast-float": {}}}))
    quality.add_arguments(parser)
    with pytest.raises(EdgeSdkError, match=message):
        quality.run_benchmark(parser.parse_args([*options, "--output", str(output)]), "")


def test_a_record_of_other_people_is_not_resumed(tmp_path: Path) -> None:
    parser, output = argparse.ArgumentParser(), tmp_path / "quality.json"
    known = {
        "commands": [],
        "people": "fresh",
        "noise": 1.0,
        "results": {"initializer-float": {"runs": [{"subject": 0}]}},
    }
    output.write_text(json.dumps(known))
    quality.add_arguments(parser)
    options = ["--resume", "--noise", "1", "--people", "fresh", "--subjects", "3", "--no_pictures"]
    with pytest.raises(EdgeSdkError, match="is of 1 people, not 3; give --subjects 1, or choose another --output"):
        quality.run_benchmark(parser.parse_args([*options, "--output", str(output)]), "")
    assert json.loads(output.read_text()) == known


def test_what_other_settings_gave_is_measured_again(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.json", "a command")
    record.add("paper, tuned", [{"subject": 0, "seed": 0}], settings={"zo_mu": 0.1})
    record.keep_only("paper, tuned", {"zo_mu": 0.1})
    assert not record.missing("paper, tuned", [(0, 0)])
    record.keep_only("paper, tuned", {"zo_mu": 0.2})
    assert record.missing("paper, tuned", [(0, 0)]) == [(0, 0)]


def test_noise_is_a_standing_condition_with_a_record_of_its_own(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    args = parser.parse_args(["--output", str(tmp_path / "quality.json")])
    plain, noisy = (condition(args, variance) for variance in args.noise)
    assert (plain.noise, plain.people, plain.output.name) == (0, "held_out", "quality.json")
    assert (noisy.noise, noisy.people, noisy.output.name) == (1, "fresh", "quality_noise.json")
    assert noisy.no_pictures and not plain.no_pictures
    assert {name.split("-")[0] for name in noisy.configs} == {"initializer", "backprop", "fast", "paper", "evolution"}
    alone = condition(parser.parse_args(["--noise", "4.4", "--output", str(tmp_path / "x.json")]), 4.4)
    assert alone.output.name == "x.json"


def test_a_widened_denoiser_looks_at_wide_states_through_the_map() -> None:
    unet = UNet2DConditionModel.from_pretrained(pocket.MODEL / "unet")
    generator = torch.Generator().manual_seed(0)
    reading = torch.randn(128, distilled.WIDTH, generator=generator) / distilled.WIDTH**0.5
    states, sample = torch.randn(2, 32, distilled.WIDTH, generator=generator), torch.randn(2, 8, 8, 8)
    with torch.inference_mode():
        wide = distilled.widened(unet, reading)(sample, 500, states).sample
        narrow = unet(sample, 500, states @ reading.T).sample
    torch.testing.assert_close(wide, narrow, atol=1e-4, rtol=1e-4)


def test_a_wide_text_encoder_begins_to_say_what_the_embedded_one_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distilled, "DESCRIBED", 2)
    monkeypatch.setattr(distilled, "NAMED", 8)
    teacher = CLIPTextModel.from_pretrained(pocket.MODEL / "text_encoder").eval()
    captioner = Captioner(CLIPTokenizer.from_pretrained(pocket.MODEL / "tokenizer"))
    student, reading = distilled.train(teacher, captioner, 8, 0)
    first, last = (float(line.split()[2]) for line in capsys.readouterr().out.splitlines())
    assert last < 0.9 * first and reading.shape == (128, student.config.hidden_size)


def test_equal_care_compares_on_the_seeds_that_both_methods_have() -> None:
    def rows(*losses: float) -> list[dict[str, Any]]:
        """Of two people in turn, seed by seed."""
        curves = [{"forwards": [10, 20], "loss": [(1 + end) / 2, end]} for end in losses]
        return [
            {"subject": i % 2, "seed": i // 2, "loss": curve["loss"][-1], "curve": curve}
            for i, curve in enumerate(curves)
        ]

    results: dict[str, dict[str, Any]] = {
        START: {"runs": rows(1.0, 1.0, 1.0, 1.0)},
        PLATEAU: {"runs": rows(0.2, 0.2, 0.9, 0.9)},  # its second seed is bad
        "other": {"runs": rows(0.2, 0.2)},
        "both": {"runs": rows(0.2, 0.2, 0.2, 0.2)},
    }
    summarize(results)
    assert results["other"]["summary"]["share"]["mean"] == pytest.approx(1)
    assert results["other"]["summary"]["0.9"]["mean"] == pytest.approx(18)  # of a line from 1 to 0.2 in 20 passes
    assert results["both"]["summary"]["share"]["mean"] == pytest.approx(0.8 / 0.45)
    assert "| other |  | 2 x 1 | 20 |" in table(results, {}) and "| both |  | 2 x 2 | 20 |" in table(results, {})
