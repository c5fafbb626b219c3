"""The count of products is the network's own, and waiting times follow from it."""

import json

import pytest
import torch

from benchmarks.lib.architectures import ARCHITECTURES
from benchmarks.speed.phones import PUBLISHED, estimate
from benchmarks.speed.products import architecture_products, denoiser_products
from edge_sdk.diffusion.networks.unet_config import UNetConfig

SMALL = {"block_out_channels": [32, 64], "cross_attention_dim": 24, "attention_head_dim": 4, "layers_per_block": 1}
SMALL |= {"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 8}
SMALL |= {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}


def counted_by_pytorch(config: dict, side: int, words: int) -> float:
    """Multiply-accumulates that PyTorch counts while diffusers' own network runs."""
    from diffusers.models import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from torch.utils.flop_counter import FlopCounterMode

    unet = UNet2DConditionModel(**config).eval()
    unet.set_attn_processor(AttnProcessor())  # products that the counter sees; the fused ones it does not
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        unet(torch.zeros(1, 4, side, side), torch.zeros(1), torch.zeros(1, words, config["cross_attention_dim"]))
    return counter.get_total_flops() / 2


def test_the_count_is_what_pytorch_counts_of_diffusers_network() -> None:
    counted = denoiser_products(UNetConfig.from_dict(SMALL), side=64, words=11)
    assert counted == counted_by_pytorch(SMALL, 8, 11)


def test_waiting_times_are_products_by_rate() -> None:
    devices = [{"device": "a", "unit": "NPU", "model": "sd15", "seconds": 0.05, "rows": 1, "source": "b"}]
    result = estimate({"devices": [*devices, devices[0] | {"rows": 2}]})
    one, two = result["devices"]
    denoiser, text = architecture_products("sd15", 512)
    assert result["forwards"] == 80 * 33 + 64
    assert one["minutes"] == pytest.approx(result["forwards"] * 0.05 * (denoiser + text) / denoiser / 60)
    assert two["minutes"] == pytest.approx(one["minutes"] / 2)


def test_every_published_time_has_a_source_and_a_known_network() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert all(one["source"] in published["sources"] for one in published["devices"])
    assert all(one["model"] in ARCHITECTURES and one["seconds"] > 0 for one in published["devices"])
