"""The baselines of the memory benchmark train what they say, with nothing more than it takes."""

from pathlib import Path

import pytest
import torch

from benchmarks.lib.baselines.stock import Training, training


def made(folder: Path, method: str, **options: object) -> Training:
    phases: list[str] = []
    out = training(phases.append, str(folder), "float32", method, **options)  # type: ignore[arg-type]
    assert phases == ["import"]
    return out


@pytest.mark.parametrize("quantizer", ["", "quanto int8", "quanto int4", "torchao int8"])
def test_forward_passes_change_the_token_without_a_gradient(sd1_folder: Path, quantizer: str) -> None:
    if quantizer.startswith("torchao"):
        pytest.importorskip("torchao", reason="torchao is not in the development set: its import costs every process")
    case = made(sd1_folder, "forward", quantizer=quantizer)
    case.step()
    assert case.learned[0].abs().sum() > 0 and not case.learned[0].requires_grad


@pytest.mark.parametrize("checkpointing", [False, True])
def test_backpropagation_changes_the_token(sd1_folder: Path, checkpointing: bool) -> None:
    case = made(sd1_folder, "backprop", checkpointing=checkpointing)
    case.step()
    (token,) = case.learned
    assert token.shape == (1, 32) and token.abs().max() > 9e-4  # Adam's first step is its learning rate


def test_sdxl_learns_the_vectors_of_both_text_encoders(sdxl_folder: Path) -> None:
    case = made(sdxl_folder, "backprop")
    case.step()
    (token,) = case.learned
    assert token.shape == (1, 32 + 48) and (token.abs() > 9e-4).all()


def test_checkpointing_changes_memory_not_the_gradient(sd1_folder: Path) -> None:
    plain, saved = made(sd1_folder, "backprop"), made(sd1_folder, "backprop", checkpointing=True)
    plain.step(), saved.step()
    torch.testing.assert_close(plain.learned[0].grad, saved.learned[0].grad, rtol=1e-4, atol=1e-7)


def test_lora_learns_two_ranks_of_every_attention_projection(sd1_folder: Path) -> None:
    case = made(sd1_folder, "lora")
    before = [weight.detach().clone() for weight in case.learned]
    case.step()
    assert len(case.learned) == 2 * 4 * 8  # down and up; q, k, v, out; two attentions in each of four transformers
    assert all(2 in weight.shape for weight in case.learned)
    assert any(not torch.equal(weight, old) for weight, old in zip(case.learned, before, strict=True))


def test_fine_tuning_reaches_every_weight_and_keeps_no_gradient(sd1_folder: Path) -> None:
    case = made(sd1_folder, "finetune")
    reached = []
    for weight in case.learned:
        weight.register_hook(lambda gradient: reached.append(gradient.numel()))
    case.step()
    count = sum(weight.numel() for weight in case.learned)
    assert sum(reached) == count and all(weight.grad is None for weight in case.learned)
    assert case.computed["mb"] == pytest.approx(12 * count / 1e6) and f"{count:,}" in case.computed["how"]
