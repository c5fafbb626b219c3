"""The two losses of every family, against their formulas written out."""

from pathlib import Path

import pytest
import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import read
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from edge_sdk.unlearning.training.loop import Unlearner
from edge_sdk.unlearning.training.losses import Draws, Losses

FAMILIES = ("ddpm", "sd1", "sd2", "sd3")


def losses_of(folder: Path, pictures: dict[str, Path], **options: object) -> Losses:
    denoiser = load_denoiser(str(folder))
    targets, retained, given = (read(denoiser, pictures[name], name) for name in ("forget", "retain", "given"))
    return Losses(denoiser, targets.x0, given.x0[:, None], retained.x0, UnlearnConfig(**options))  # type: ignore[arg-type]


def drawn(denoiser: Denoiser, images: int, count: int = 6) -> Draws:
    return Draws.numbered(0, 5, images, denoiser.schedule.num_train_timesteps, denoiser.shape, count)


@pytest.mark.parametrize("path", [0.0, 0.8])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_surrogate_loss_is_the_denoising_loss_of_the_surrogate_at_the_noised_target(
    model_of: dict[str, Path], pictures: dict[str, Path], family: str, path: float
) -> None:
    losses = losses_of(model_of[family], pictures, timestep_weight="uniform", surrogate_path=path)
    denoiser, draws = losses.denoiser, drawn(losses.denoiser, 2)
    found = losses.forget(denoiser.module, draws)
    for i in range(len(draws.t)):
        t = int(draws.t[i])
        a, b = (float(values[t]) for values in denoiser.schedule.coefficients())
        x_f, x_s = losses.targets[draws.image[i]], losses.surrogates[draws.image[i], 0]
        x_f = x_f + path * draws.path[i] * (x_s - x_f)
        z = a * x_f + b * draws.noise[i]
        noise = (z - a * x_s) / b
        wanted = {"epsilon": noise, "v_prediction": a * noise - b * x_s, "flow": noise - x_s}
        arguments, named = denoiser.arguments(z[None], draws.t[i : i + 1], losses.condition)
        predicted = denoiser.module(*arguments, **named)[0][0]
        loss = (predicted - wanted[denoiser.schedule.prediction_type]).square().mean()
        torch.testing.assert_close(found[i], loss, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_target_that_is_its_own_surrogate_has_the_retain_loss(
    model_of: dict[str, Path], pictures: dict[str, Path], family: str
) -> None:
    made = losses_of(model_of[family], pictures, timestep_weight="uniform", retention="data")
    same = Losses(made.denoiser, made.targets, made.targets[:, None], made.targets, made.config)
    draws = drawn(made.denoiser, 2)
    torch.testing.assert_close(same.forget(made.denoiser.module, draws), same.retain(made.denoiser.module, draws))


def test_the_base_model_as_a_teacher_costs_nothing_before_training(
    model_of: dict[str, Path], pictures: dict[str, Path]
) -> None:
    losses = losses_of(model_of["ddpm"], pictures, retention="teacher")
    assert float(losses.retain(losses.denoiser.module, drawn(losses.denoiser, 6)).max()) == 0
    data = losses_of(model_of["ddpm"], pictures, retention="data")
    assert float(data.retain(data.denoiser.module, drawn(data.denoiser, 6)).min()) > 0


@pytest.mark.parametrize("rounded_as", ["int8", "int4"])
def test_training_through_rounding_begins_where_the_rounded_base_model_is(
    model_of: dict[str, Path], pictures: dict[str, Path], rounded_as: str
) -> None:
    """Every other draw with the weights as they are, the rest rounded, and each held to the base in its own form."""
    run = Unlearner(losses_of(model_of["ddpm"], pictures, quantization_aware=rounded_as, retain_batch=8, micro_batch=3))
    asked, drawn_ = list(run.batches(0, True)), run.draws(0, True)
    assert [(form, len(question.t)) for form, question in asked] == [
        ("none", 3),
        ("none", 1),
        (rounded_as, 3),
        (rounded_as, 1),
    ]
    assert torch.equal(torch.cat([question.t for _, question in asked[:2]]), drawn_.t[::2])
    assert torch.equal(torch.cat([question.t for _, question in asked[2:]]), drawn_.t[1::2])
    for form, question in asked:
        other = rounded_as if form == "none" else "none"
        assert run.losses.error(run.trainable.through(form), question).max() < 1e-12
        assert run.losses.error(run.trainable.through(other), question).min() > 1e-9


def test_several_surrogates_answer_as_their_likely_mean(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    one = losses_of(model_of["ddpm"], pictures, timestep_weight="uniform", surrogate_path=0.0)
    twice = one.surrogates.repeat(1, 2, 1, 1, 1)
    two = Losses(one.denoiser, one.targets, twice, one.retained, one.config)
    draws = drawn(one.denoiser, 2)
    torch.testing.assert_close(one.forget(one.denoiser.module, draws), two.forget(one.denoiser.module, draws))


def test_responsibility_weights_are_at_most_the_clamped_ones_and_vanish_in_noise(
    model_of: dict[str, Path], pictures: dict[str, Path]
) -> None:
    plain = losses_of(model_of["ddpm"], pictures, timestep_weight="snr")
    told = losses_of(model_of["ddpm"], pictures, timestep_weight="responsibility", neighbours=4)
    draws = drawn(plain.denoiser, 2, 32)
    z = torch.randn(32, *plain.denoiser.shape, generator=torch.Generator().manual_seed(0))
    a, b = (plain.forget_weights(z, draws), told.forget_weights(z, draws))
    assert (b <= a + 1e-7).all() and b.sum() < a.sum()


def test_timesteps_are_stratified_and_processes_share_them() -> None:
    whole = Draws.numbered(7, 3, 5, 1000, (3, 4, 4), 8)
    assert [int(t) // 125 for t in whole.t] == list(range(8))
    parts = [Draws.numbered(7, 3, 5, 1000, (3, 4, 4), 8, slice(rank, None, 2)) for rank in range(2)]
    for rank, part in enumerate(parts):
        for field in ("image", "t", "noise", "path", "row"):
            assert torch.equal(getattr(part, field), getattr(whole, field)[rank::2])


def test_a_path_leads_to_every_surrogate(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    one = losses_of(model_of["ddpm"], pictures, surrogate_path=1.0)
    surrogates = torch.stack([one.surrogates[:, 0], -one.surrogates[:, 0]], dim=1)
    two = Losses(one.denoiser, one.targets, surrogates, one.retained, one.config)
    draws = drawn(one.denoiser, 2, 64)
    moved, x0 = two.on_path(draws) - two.targets[draws.image], two.targets[draws.image]
    along = [
        (moved * (s - x0)).sum((1, 2, 3)) / (s - x0).square().sum((1, 2, 3)) for s in surrogates[draws.image].unbind(1)
    ]
    first = draws.path < 0.5
    torch.testing.assert_close(torch.where(first, *along), (2 * draws.path).frac())
    assert 16 < int(first.sum()) < 48


def test_a_share_of_retained_draws_are_neighbours_of_a_target(
    model_of: dict[str, Path], pictures: dict[str, Path]
) -> None:
    plain, near = (
        Unlearner(losses_of(model_of["ddpm"], pictures, neighbours=1, neighbour_share=share, retain_batch=32))
        for share in (0.0, 0.25)
    )
    wanted, found = plain.draws(3, True), near.draws(3, True)
    chosen = torch.arange(3, 3 + 32) % 4 == 3  # all timesteps have their turn, over steps
    assert torch.isin(found.image[chosen], near.losses.neighbours).all()
    assert not torch.isin(wanted.image[chosen], near.losses.neighbours).all()
    assert torch.equal(found.image[~chosen], wanted.image[~chosen]) and torch.equal(found.t, wanted.t)
    halves = [near.draws(3, True, slice(k, None, 2)).image for k in range(2)]
    assert torch.equal(torch.stack(halves, dim=1).flatten(), found.image)
    assert torch.equal(near.draws(3, False).image, plain.draws(3, False).image)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    model_of: dict[str, Path], pictures: dict[str, Path], micro_batch: int
) -> None:
    options = {"forget_batch": 4, "retain_batch": 8, "retention": "data"}
    found = []
    for size in (32, micro_batch):
        run = Unlearner(losses_of(model_of["ddpm"], pictures, micro_batch=size, **options))
        found.append(
            [run._gradients(list(run.batches(0, retained)), count) for retained, count in ((False, 4), (True, 8))]
        )
    for (loss, gradients), (same_loss, same_gradients) in zip(*found, strict=True):
        torch.testing.assert_close(loss, same_loss)
        for one, other in zip(gradients, same_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_neighbours_of_every_target_are_retained(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    losses = losses_of(model_of["ddpm"], pictures, neighbours=3, neighbour_share=1.0, retain_batch=4)
    losses.neighbours = torch.arange(100, 140).view(20, 2)  # of more targets than there are retained pictures
    run = Unlearner(losses)
    found = torch.cat([run.draws(number, retained=True).image for number in range(200)])
    assert found.unique().tolist() == list(range(100, 140))
    assert found.bincount()[100:].min() > 5
    assert torch.equal(run.draws(7, True, slice(1, None, 2)).image, run.draws(7, True).image[1::2])


def test_draws_are_computed_in_every_form_in_turn(model_of: dict[str, Path], pictures: dict[str, Path]) -> None:
    losses = losses_of(model_of["ddpm"], pictures, forget_batch=1, quantization_aware="int4")
    run = Unlearner(losses)
    assert [[form for form, asked in run.batches(number, False) if len(asked.t)] for number in range(4)] == [
        ["none"],
        ["int4"],
        ["none"],
        ["int4"],
    ]
