"""Rules of forgetting through one optimizer, and what is read off their runs."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.lib.baselines.shared import FORGET_RULES, SharedStepper, TaughtLosses
from benchmarks.lib.baselines.unlearning import RULES, Stepper, edited
from benchmarks.unlearning.like_with_like import PUBLISHED_RULES, missing, scale_to, scaled
from benchmarks.unlearning.like_with_like_report import (
    PUBLISHED,
    RETRAINED,
    SHARED,
    Runs,
    difference,
    distances,
    elsewhere,
    levels,
    summary,
)
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from edge_sdk.unlearning.training.loop import Unlearner
from edge_sdk.unlearning.training.losses import Losses
from edge_sdk.unlearning.training.preconditioner import Metric
from tests import tiny_models

CONFIG = UnlearnConfig(forget_batch=4, retain_batch=8, max_train_steps=4, lr_warmup_steps=0)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    return load_denoiser(str(tiny_models.build_ddpm(tmp_path_factory.mktemp("models") / "ddpm")))


@pytest.fixture(scope="module")
def losses(denoiser: Denoiser) -> Callable[..., Losses]:
    pictures = torch.rand(1 + 3 + 12, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def build(rule: str = "ours", **own: Any) -> Losses:
        config = FORGET_RULES[rule].config(UnlearnConfig(**{**vars(CONFIG), **own}))
        return TaughtLosses(denoiser, pictures[:1], pictures[None, 1:4], pictures[4:], config, {})

    return build


def halved(steps: Any) -> list[torch.Tensor]:
    return [0.5 * step for step in steps]


def run(losses: Losses, rule: str, metric: Metric = halved, steps: int = 2) -> SharedStepper:
    runner = SharedStepper(losses, FORGET_RULES[rule], metric)
    for _ in range(steps):
        runner.step()
    return runner


def moved(runner: Unlearner) -> list[torch.Tensor]:
    base = dict(runner.trainable.module.named_parameters())
    return [value.detach() - base[name] for name, value in runner.trainable.parameters.items()]


def test_our_rule_through_the_shared_optimizer_is_the_product(losses: Callable[..., Losses]) -> None:
    product = Unlearner(losses(), metric=halved)
    for _ in range(2):
        product.step()
    for own, other in zip(moved(run(losses(), "ours")), moved(product), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule", [name for name in FORGET_RULES if name != "naive deletion"])
def test_every_rule_goes_through_the_shared_optimizer(losses: Callable[..., Losses], rule: str) -> None:
    def still(steps: Any) -> list[torch.Tensor]:
        return [torch.zeros_like(step) for step in steps]

    runner = run(losses(rule), rule)
    assert runner.trainable.parameters.keys() == Unlearner(losses(), metric=halved).trainable.parameters.keys()
    assert len(runner.optimizer.directions) == 2  # an Adam for each side, with surgery between them
    assert runner.losses.config.retention == "teacher" and runner.draws(0, True).t.shape == (8,)
    assert any(change.abs().max() > 0 for change in moved(runner))
    assert all(change.abs().max() == 0 for change in moved(run(losses(rule), rule, still)))  # all passes the metric


def test_rules_differ_in_nothing_but_what_they_forget_by(losses: Callable[..., Losses]) -> None:
    changes = {rule: torch.cat([c.flatten() for c in moved(run(losses(rule), rule))]) for rule in FORGET_RULES}
    assert changes["naive deletion"].abs().max() == 0  # the base is held to its own predictions
    names = [name for name in changes if name not in ("naive deletion", "ReTrack")]  # whose surrogates are other ones
    for i, name in enumerate(names):
        for other in names[:i]:
            cosine = torch.cosine_similarity(changes[name], changes[other], dim=0)
            assert cosine < 0.999, (name, other)


def test_salun_changes_half_of_the_weights(losses: Callable[..., Losses]) -> None:
    runner = run(losses("SalUn"), "SalUn", lambda steps: [step + 0.1 for step in steps])  # a metric that reaches all
    changed = torch.cat([(c != 0).flatten() for c in moved(runner)])
    mask = torch.cat([m.flatten() for m in runner.saliency()])
    assert not changed[mask == 0].any() and changed[mask > 0].float().mean() > 0.9
    assert mask.mean() == pytest.approx(0.5, abs=0.01)


def test_teachers_are_asked_once_for_all_rules(losses: Callable[..., Losses], denoiser: Denoiser) -> None:
    lessons: dict[bytes, Any] = {}
    first, calls = losses(), []

    def teach() -> TaughtLosses:
        own = TaughtLosses(denoiser, first.targets, first.surrogates, first.retained, CONFIG, lessons)
        own.teachers["none"] = lambda *given, **named: calls.append(1) or denoiser.module(*given, **named)
        return own

    run(teach(), "ours")
    asked = len(calls)
    run(teach(), "NegGrad")
    assert asked == len(calls) == 2


@pytest.mark.parametrize("rule", PUBLISHED_RULES)
def test_published_rules_train_everything_by_plain_adam(losses: Callable[..., Losses], rule: str) -> None:
    own = PUBLISHED_RULES[rule]
    runner = Stepper(losses(rule), own.rule, own=own.own)
    runner.step()
    config = runner.losses.config
    assert (config.metric, config.layers, config.surgery, config.retention) == ("euclidean", "all", "none", "data")
    assert any(change.abs().max() > 0 for change in moved(runner))


def test_edited_surrogates_as_published_do_not_work_against_retention(losses: Callable[..., Losses]) -> None:
    runner = Stepper(losses("edited surrogate"), edited, own={"timestep_weight": "snr"})
    runner.count = 1
    forget, retain = runner.draws(0, False), runner.draws(0, True)
    keep = runner.retain_gradient(retain)
    with_surgery = edited(runner, forget, retain, 1e3)
    without = RULES["ReTrack"](runner, forget, retain, 1e3)
    along = [sum(float((g * k).sum()) for g, k in zip(both, keep, strict=True)) for both in (with_surgery, without)]
    assert along[0] >= 0.999 * sum(float((k * k).sum()) for k in keep) and along[0] >= along[1] - 1e-6


def test_scaling_a_change_is_between_the_base_and_the_whole(losses: Callable[..., Losses]) -> None:
    runner = run(losses(), "ours")
    z, t = torch.zeros(1, 3, 16, 16), torch.tensor([500])
    whole, base = (call(z, t)[0] for call in (runner.trainable.frozen(), runner.trainable.module))
    torch.testing.assert_close(scaled(runner.trainable, 1.0)(z, t)[0], whole)
    torch.testing.assert_close(scaled(runner.trainable, 0.0)(z, t)[0], base)
    assert (scale_to(0.02, 0.08), scale_to(0.02, 0.0001), scale_to(0.02, 0.0)) == (0.5, 1.5, 1.5)


def row(rule: str, column: str, person: int, drift: float, similarity: float, scale: float = 1.0) -> dict[str, Any]:
    return {
        "rule": rule,
        "column": column,
        "person": person,
        "seed": 0,
        "scale": scale,
        "drift": drift,
        "target_similarity": similarity,
        "by_timestep": [similarity] * 4,
        "person_in_unseen": 0.5,
        "person_in_samples": 0.0,
        "kept_rise": 0.1,
    }


@pytest.fixture
def record() -> dict[str, Any]:
    rows = [
        row("NegGrad", PUBLISHED, 40, 0.04, 0.6),
        row("NegGrad", PUBLISHED, 41, 0.01, 0.7),
        row("NegGrad", SHARED, 40, 0.04, 0.4),
        row("NegGrad", SHARED, 40, 0.01, 0.7, 0.5),
        row("NegGrad", SHARED, 41, 0.02, 0.5),
        row("ours", SHARED, 40, 0.02, 0.3),
        row("ours", SHARED, 41, 0.02, 0.4),
    ]
    return {"rows": rows, "base": {"40": row("", "", 40, 0.0, 0.8), "41": row("", "", 41, 0.0, 0.9)}}


def test_figures_are_read_off_at_one_drift(record: dict[str, Any]) -> None:
    runs = Runs(record)
    published = runs.at("NegGrad", PUBLISHED, "target_similarity", 0.02)
    assert published == pytest.approx({40: 0.7, 41: 0.7})  # halfway from the base; the least that there is
    assert runs.reached("NegGrad", PUBLISHED, 0.02) == 0.5
    assert runs.at("NegGrad", SHARED, "target_similarity", 0.02) == pytest.approx({40: 0.6, 41: 0.5})
    assert runs.whole("NegGrad", SHARED, "target_similarity") == pytest.approx({40: 0.4, 41: 0.5})


def test_what_the_rule_and_what_the_optimizer_gives(record: dict[str, Any]) -> None:
    own = summary(record)["rules"]["NegGrad"]
    gives = own["optimizer_gives"]["target_similarity"]  # -0.1 and -0.2
    assert gives["mean"] == pytest.approx(-0.15) and (gives["lower"], gives["n"], gives["p"]) == (2, 2, 0.5)
    assert gives["low"] == pytest.approx(-0.15 - 12.7062 * 0.05, abs=1e-4)
    beside = own[SHARED]["ours_beside_it"]["target_similarity"]  # -0.3 and -0.1
    assert beside["mean"] == pytest.approx(-0.2)
    assert "ours_beside_it" not in own[PUBLISHED]


def test_rules_stand_beside_a_model_that_was_trained_without_the_targets(record: dict[str, Any]) -> None:
    record["retrained"] = {"40": row("", "", 40, 0.03, 0.2), "41": row("", "", 41, 0.03, 0.6)}
    found = summary(record)
    assert found["floor"][RETRAINED]["target_similarity"]["mean"] == pytest.approx(0.4)
    beside = found["rules"]["ours"][SHARED]["beside_retrained"]["target_similarity"]  # +0.1 and -0.2
    assert beside["mean"] == pytest.approx(-0.05) and beside["lower"] == 1
    assert "| ours | -0.050 [" in "".join(distances(found)) and "retrained without them" in levels(found)
    assert distances(summary({**record, "retrained": {}})) == []


def test_other_peoples_runs_are_read_off_at_the_same_drift() -> None:
    rows = [{**row("", "", 0, 0.04, 0.6), "method": "SISS"}, {**row("", "", 1, 0.08, 0.5), "method": "SISS"}]
    rows += [{**row("", "", person, 0.02, 0.4), "method": "ours"} for person in (0, 1)]
    rows += [{**row("", "", 0, 0.02, 0.0), "method": "ours, through int4"}]  # no rule of this comparison
    found = elsewhere({"rows": rows, "base": {str(person): row("", "", person, 0.0, 0.8) for person in (0, 1)}})
    assert found.keys() == {"SISS", "ours"}
    assert found["SISS"]["target_similarity"]["mean"] == pytest.approx(-(0.1 + 0.075) / 2)
    assert found["ours"]["target_similarity"]["mean"] == pytest.approx(-0.4)


def test_only_pairs_are_compared() -> None:
    assert difference({1: 0.5, 2: 0.25, 3: 1.0}, {1: 0.75, 2: 0.75})["mean"] == pytest.approx(-0.375)


def test_what_is_measured_is_not_run_again() -> None:
    args = argparse.Namespace(
        seeds=[0], columns=[SHARED, PUBLISHED], targets=[40, 41], rules=["ours", "naive deletion"]
    )
    done = [{"seed": 0, "column": SHARED, "person": 40, "rule": "ours"}]
    assert list(missing(args, done)) == [
        (0, SHARED, 41, "ours"),  # deletion alone, held to the base, is the base
        (0, PUBLISHED, 40, "ours"),
        (0, PUBLISHED, 41, "ours"),
        (0, PUBLISHED, 40, "naive deletion"),
        (0, PUBLISHED, 41, "naive deletion"),
    ]
