"""Surgery: what is taken out, and that the guarantee holds for the steps that Adam takes."""

import pytest
import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.training.optimizer import UnlearnOptimizer, balanced, clipped, norm
from edge_sdk.unlearning.training.surgery import agreement, combine, project

STEADY = {"lr_scheduler": "constant", "lr_warmup_steps": 0}


def tensors(*seeds: int) -> list[list[torch.Tensor]]:
    made = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        made.append([torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))])
    return made


def dot(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return float(sum((a * b).sum() for a, b in zip(first, second, strict=True)))


def conflicting() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    forget, retain = tensors(0, 1)
    return [f - 0.5 * r for f, r in zip(forget, retain, strict=True)], retain


def test_one_sided_surgery_leaves_the_retain_gradient_its_whole_length() -> None:
    forget, retain = conflicting()
    assert dot(forget, retain) < 0
    both = combine(forget, retain, 3.0, "one_sided", "global")
    assert dot(both, retain) == pytest.approx(dot(retain, retain), rel=1e-5)
    assert dot(combine(forget, retain, 3.0, "none", "global"), retain) < dot(retain, retain)


def test_nothing_is_changed_without_a_conflict() -> None:
    forget, retain = conflicting()
    agreeing = [-f for f in forget]
    kept = project(agreeing, retain, "global")
    assert all(k is f for k, f in zip(kept, agreeing, strict=True))


def test_per_tensor_surgery_ends_the_conflict_of_every_tensor() -> None:
    forget, retain = conflicting()
    forget[0], forget[1] = forget[0] - 3 * retain[0], retain[1].clone()  # one works against it, the other agrees
    assert float((forget[0] * retain[0]).sum()) < 0
    kept = project(forget, retain, "tensor")
    assert float((kept[0] * retain[0]).sum()) == pytest.approx(0, abs=1e-5)
    assert kept[1] is forget[1]


def test_symmetric_surgery_is_that_of_pcgrad() -> None:
    forget, retain = conflicting()
    share = dot(forget, retain)
    wanted = [
        r - share / dot(forget, forget) * f + f - share / dot(retain, retain) * r
        for f, r in zip(forget, retain, strict=True)
    ]
    for found, one in zip(combine(forget, retain, 1.0, "symmetric", "global"), wanted, strict=True):
        torch.testing.assert_close(found, one)


def test_preconditioned_surgery_ends_the_conflict_of_the_scaled_step() -> None:
    forget, retain = conflicting()
    scale = [torch.rand(t.shape, generator=torch.Generator().manual_seed(9)) * 10 + 0.1 for t in retain]
    step = [s * g for s, g in zip(scale, combine(forget, retain, 2.0, "one_sided", "global", scale), strict=True)]
    plain = [s * g for s, g in zip(scale, retain, strict=True)]
    assert dot(step, retain) >= dot(plain, retain) * (1 - 1e-5)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_steps_of_adam_do_not_work_against_retention_in_the_space_of_updates(scope: str) -> None:
    """Gradients that differ a hundredfold from weight to weight: there surgery on gradients fails under Adam."""
    scales = [torch.logspace(-2, 2, 12).view(3, 4), torch.logspace(2, -2, 5)]
    config = UnlearnConfig(
        surgery_scope=scope, surgery_space="update", max_grad_norm=0, learning_rate=1.0, adam_beta1=0.0, **STEADY
    )
    parameters = [torch.zeros(3, 4), torch.zeros(5)]
    surgeon = UnlearnOptimizer(parameters, config)
    for seed in range(12):
        forget, retain = conflicting() if seed == 0 else tensors(2 * seed, 2 * seed + 1)
        retain = [s * r for s, r in zip(scales, retain, strict=True)]
        before, alone = [p.clone() for p in parameters], UnlearnOptimizer(parameters, config)
        alone.directions[1].m, alone.directions[1].v = (
            [x.clone() for x in xs] for xs in (surgeon.directions[1].m, surgeon.directions[1].v)
        )
        alone.directions[1].count = surgeon.directions[1].count
        only_retain = alone.directions[1](retain)
        surgeon.apply(forget, retain)
        taken = [b - p for b, p in zip(before, parameters, strict=True)]
        assert dot(taken, retain) >= dot(only_retain, retain) * (1 - 1e-4) - 1e-5


def test_adam_is_that_of_pytorch() -> None:
    gradients = tensors(*range(5))
    config = UnlearnConfig(
        surgery="none",
        max_grad_norm=0,
        unlearn_weight=0.0,
        learning_rate=0.01,
        adam_beta1=0.9,
        adam_beta2=0.9,
        **STEADY,
    )
    own = [torch.ones(3, 4), torch.ones(5)]
    surgeon = UnlearnOptimizer(own, config)
    theirs = [torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(5))]
    optimizer = torch.optim.Adam(theirs, 0.01, (0.9, 0.9))
    for retain in gradients:
        surgeon.apply(tensors(99)[0], retain)
        for parameter, gradient in zip(theirs, retain, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b.detach())


def test_clipping_keeps_the_direction_and_bounds_the_length() -> None:
    (gradients,) = tensors(4)
    short = clipped(gradients, 0.5)
    assert dot(short, short) == pytest.approx(0.25) and agreement(short, gradients) == pytest.approx(1)
    assert dot(clipped(gradients, 0), gradients) == pytest.approx(dot(gradients, gradients))


def test_the_rate_warms_up_and_falls() -> None:
    """Adam's steps on a gradient that stays the same are as long as the rate."""

    def lengths(**options: object) -> list[float]:
        parameter, out = torch.zeros(1), []
        surgeon = UnlearnOptimizer(
            [parameter], UnlearnConfig(surgery="none", learning_rate=1.0, max_train_steps=4, **options)
        )
        for _ in range(4):
            before = float(parameter)
            surgeon.apply([torch.ones(1)], [torch.ones(1)])
            out.append(before - float(parameter))
        return out

    assert lengths(lr_scheduler="constant", lr_warmup_steps=2) == pytest.approx([0.5, 1, 1, 1])
    assert lengths(lr_scheduler="linear", lr_warmup_steps=0) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_balanced_gradients_have_their_say_alike_and_one_of_zeros_takes_nothing_away() -> None:
    torch.manual_seed(0)
    short, long, none = ([scale * torch.randn(4, 3), scale * torch.randn(5)] for scale in (0.1, 30.0, 0.0))
    found = balanced([long, none, short])
    rest = [f - s for f, s in zip(found, short, strict=True)]  # the short one is whole, the long one as long as it
    assert norm(rest) == pytest.approx(norm(short), rel=1e-4)
    assert agreement(rest, long) == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(f, s) for f, s in zip(balanced([none, short]), short, strict=True))
    assert norm(balanced([none, none])) == 0
