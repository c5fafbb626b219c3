"""Our denoiser gives what diffusers' gives, for every family, from the same checkpoint."""

import re
from typing import Any

import pytest
import torch
from diffusers.models import UNet2DConditionModel

from edge_sdk.diffusion.networks import bands, unet_blocks
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.diffusion.networks.unet_config import UNetConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import MODEL as POCKET
from tests.tiny_models import FAMILIES, OF_SDXL, SMALL, build_unet

ALL = (*FAMILIES, *SMALL, "deep", "pocket")


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


def width_of(config: Any) -> int:
    """Of the text that a denoiser takes."""
    widths = config.cross_attention_dim
    return widths if isinstance(widths, int) else widths[0]


@pytest.mark.parametrize("size", [(8, 8), (12, 20)], ids=str)
@pytest.mark.parametrize("family", ALL)
def test_it_computes_what_diffusers_computes(family: str, size: tuple[int, int]) -> None:
    reference = stock(family).eval()
    config: Any = reference.config
    sample, context = torch.randn(3, config.in_channels, *size), torch.randn(3, 9, width_of(config))
    t, added = torch.tensor([999, 3, 500]), (torch.randn(3, 24), torch.randint(0, 1024, (3, 6)).float())
    conditions = {"text_embeds": added[0], "time_ids": added[1]} if family in OF_SDXL else None
    with torch.inference_mode():
        expected = reference(sample, t, context, added_cond_kwargs=conditions, return_dict=False)[0]
        found = own(reference)(sample, t, context, added if family in OF_SDXL else None)
        one = own(reference)(sample[:1], t[0], context[:1], (added[0][:1], added[1][:1]) if family in OF_SDXL else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(one, expected[:1], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("differentiated", [False, True], ids=["inference", "gradients"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "deep", *SMALL])
def test_in_pieces_it_computes_the_same(family: str, differentiated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (unet_blocks, "WHOLE_ELEMENTS", 0),
        (unet_blocks, "QUERY_ROWS", 7),
        (unet_blocks, "HIDDEN_ELEMENTS", 8 * 64 * 5),
        (bands, "BAND_ELEMENTS", 0),
        (bands, "LINES", 3),
    ):
        monkeypatch.setattr(module, name, value)
    reference = stock(family).eval().requires_grad_(False)
    config: Any = reference.config
    sample, t = torch.randn(2, config.in_channels, 12, 20), torch.tensor([999, 3])
    context = torch.randn(2, 9, width_of(config), requires_grad=differentiated)
    added = (torch.randn(2, 24), torch.randint(0, 1024, (2, 6)).float())
    conditions = {"text_embeds": added[0], "time_ids": added[1]} if family in OF_SDXL else None
    before = sample.clone(), context.clone()
    with torch.set_grad_enabled(differentiated):
        expected = reference(sample, t, context, added_cond_kwargs=conditions, return_dict=False)[0]
        found = own(reference)(sample, t, context, added if family in OF_SDXL else None)
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
        {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
        {"num_attention_heads": [2, 4]},
    ],
    ids=str,
)
def test_another_network_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(EdgeSdkError, match=rf"^{next(iter(change))}(\.0)? is [^\n]*, not [^\n]*$"):
        UNetConfig.from_dict(dict(build_unet().config) | change)


@pytest.mark.parametrize("family", ALL)
def test_what_precedes_the_text_is_computed_once_a_sample(family: str) -> None:
    model, rows = own(stock(family)), torch.tensor([0, 0, 0, 1, 1])
    config: Any = stock(family).config
    sample, context = torch.randn(2, config.in_channels, 8, 8), torch.randn(5, 9, width_of(config))
    t, added = torch.tensor([999, 3]), (torch.randn(5, 24), torch.rand(5, 6)) if family in OF_SDXL else None
    seen: list[int] = []
    model.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        apart = model(sample[rows], t[rows], context, added)
        together = model(sample, t, context, added, rows)
    assert seen == [5, 5 if family in OF_SDXL else 2]  # what SDXL adds to the timestep is the text's
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5 * float(apart.abs().max()))


NO_NETWORKS: dict[str, tuple[dict[str, Any], str]] = {
    "lists of lists for one side": ({"transformer_layers_per_block": [[1], 1]}, "needs reverse_transformer_layers_per"),
    "fewer depths than layers": (
        {"transformer_layers_per_block": [1, 1], "reverse_transformer_layers_per_block": [1, [1]]},
        "1 transformer_layers_per_block for 2 layers",
    ),
    "a list of another length": ({"layers_per_block": [1, 1, 1]}, "layers_per_block has 3 values for 2 blocks"),
    "depths of the way up of another length": (
        {"reverse_transformer_layers_per_block": [1]},
        "reverse_transformer_layers_per_block has 1 values for 2 blocks",
    ),
    "a number for a flag": ({"only_cross_attention": [1, 0]}, "only_cross_attention.0 is 1"),
    "a depth that is no number": ({"transformer_layers_per_block": [["a"], 1]}, "transformer_layers_per_block"),
    "no text anywhere": (
        {
            "down_block_types": ["DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D"],
            "mid_block_type": None,
        },
        "no block with cross-attention",
    ),
}


@pytest.mark.parametrize(("change", "message"), NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_lists_that_describe_no_network_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeSdkError, match=re.escape(message)) as error:
        UNetConfig.from_dict(dict(build_unet().config) | change)
    assert "\n" not in str(error.value)
