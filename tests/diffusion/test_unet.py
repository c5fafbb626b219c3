"""Our denoiser gives what diffusers' gives, for every family, from the same checkpoint."""

from typing import Any

import pytest
import torch
from diffusers.models import UNet2DConditionModel

from edge_sdk.diffusion.networks import bands, unet
from edge_sdk.diffusion.networks.unet import UNet, UNetConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import MODEL as POCKET
from tests.tiny_models import build_unet


def stock(family: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    if family == "pocket":
        return UNet2DConditionModel.from_pretrained(POCKET / "unet", torch_dtype=torch.float32)
    if family == "deep":
        return UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 32, 64),
            layers_per_block=2,
            norm_num_groups=8,
            cross_attention_dim=24,
            attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )
    return build_unet(family)


def own(other: UNet2DConditionModel) -> UNet:
    made = UNet(UNetConfig.from_dict(dict(other.config)))
    made.load_state_dict(other.state_dict())
    return made.eval()


@pytest.mark.parametrize("size", [(8, 8), (12, 20)], ids=str)
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "deep", "pocket"])
def test_it_computes_what_diffusers_computes(family: str, size: tuple[int, int]) -> None:
    reference = stock(family).eval()
    config: Any = reference.config
    sample, context = torch.randn(3, config.in_channels, *size), torch.randn(3, 9, config.cross_attention_dim)
    t, added = torch.tensor([999, 3, 500]), (torch.randn(3, 24), torch.randint(0, 1024, (3, 6)).float())
    conditions = {"text_embeds": added[0], "time_ids": added[1]} if family == "sdxl" else None
    with torch.inference_mode():
        expected = reference(sample, t, context, added_cond_kwargs=conditions, return_dict=False)[0]
        found = own(reference)(sample, t, context, added if family == "sdxl" else None)
        one = own(reference)(sample[:1], t[0], context[:1], (added[0][:1], added[1][:1]) if family == "sdxl" else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(one, expected[:1], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("differentiated", [False, True], ids=["inference", "gradients"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "deep"])
def test_in_pieces_it_computes_the_same(family: str, differentiated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (unet, "WHOLE_ELEMENTS", 0),
        (unet, "QUERY_ROWS", 7),
        (unet, "HIDDEN_ELEMENTS", 8 * 64 * 5),
        (bands, "BAND_ELEMENTS", 0),
        (bands, "LINES", 3),
    ):
        monkeypatch.setattr(module, name, value)
    reference = stock(family).eval().requires_grad_(False)
    config: Any = reference.config
    sample, t = torch.randn(2, config.in_channels, 12, 20), torch.tensor([999, 3])
    context = torch.randn(2, 9, config.cross_attention_dim, requires_grad=differentiated)
    added = (torch.randn(2, 24), torch.randint(0, 1024, (2, 6)).float())
    conditions = {"text_embeds": added[0], "time_ids": added[1]} if family == "sdxl" else None
    before = sample.clone(), context.clone()
    with torch.set_grad_enabled(differentiated):
        expected = reference(sample, t, context, added_cond_kwargs=conditions, return_dict=False)[0]
        found = own(reference)(sample, t, context, added if family == "sdxl" else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))
    assert torch.equal(sample, before[0]) and torch.equal(context, before[1])  # what is given is never changed
    if differentiated:
        wanted, got = (torch.autograd.grad(out.pow(2).mean(), context)[0] for out in (expected, found))
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    "change",
    [
        {"class_embed_type": "timestep"},
        {"resnet_time_scale_shift": "scale_shift"},
        {"addition_embed_type": "image"},
        {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]},
        {"time_embedding_type": "fourier"},
    ],
    ids=str,
)
def test_another_network_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=rf"^{next(iter(change))}(\.0)? is [^\n]*, not [^\n]*$"):
        UNetConfig.from_dict(dict(build_unet().config) | change)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "deep", "pocket"])
def test_what_precedes_the_text_is_computed_once_a_sample(family: str) -> None:
    model, rows = own(stock(family)), torch.tensor([0, 0, 0, 1, 1])
    config: Any = stock(family).config
    sample, context = torch.randn(2, config.in_channels, 8, 8), torch.randn(5, 9, config.cross_attention_dim)
    t, added = torch.tensor([999, 3]), (torch.randn(5, 24), torch.rand(5, 6)) if family == "sdxl" else None
    seen: list[int] = []
    model.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        apart = model(sample[rows], t[rows], context, added)
        together = model(sample, t, context, added, rows)
    assert seen == [5, 5 if family == "sdxl" else 2]  # what SDXL adds to the timestep is the text's
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5 * float(apart.abs().max()))
