"""Our autoencoder gives what diffusers' gives, from the same checkpoint."""

from typing import Any

import pytest
import torch
from diffusers.models import AutoencoderKL

from edge_sdk.diffusion.networks import bands, vae
from edge_sdk.diffusion.networks.vae import Vae, VaeConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import MODEL as POCKET
from tests.tiny_models import build_vae


def stock(kind: str) -> AutoencoderKL:
    torch.manual_seed(0)
    if kind == "pocket":
        return AutoencoderKL.from_pretrained(POCKET / "vae", torch_dtype=torch.float32)
    if kind == "deep":
        return AutoencoderKL(
            block_out_channels=(16, 16, 32),
            layers_per_block=2,
            norm_num_groups=8,
            use_quant_conv=False,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            use_post_quant_conv=False,
            latent_channels=6,
        )
    return build_vae()


@pytest.mark.parametrize("kind", ["tiny", "deep", "pocket"])
def test_it_computes_what_diffusers_computes(kind: str) -> None:
    reference = stock(kind).eval()
    config: Any = reference.config
    made = Vae(VaeConfig.from_dict(dict(config))).eval()
    made.load_state_dict(reference.state_dict())
    pixels, latents = torch.randn(2, 3, 24, 40), torch.randn(2, config.latent_channels, 6, 10)
    with torch.inference_mode():
        posterior, (mean, std) = reference.encode(pixels).latent_dist, made.encode(pixels)
        for found, expected in (
            (mean, posterior.mean),
            (std, posterior.std),
            (made.decode(latents), reference.decode(latents).sample),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_another_network_is_refused_in_one_line() -> None:
    with pytest.raises(EdgeSdkError, match=r"^down_block_types\.0 is 'AttnDownEncoderBlock2D', not Down[^\n]*$"):
        VaeConfig.from_dict({"down_block_types": ["AttnDownEncoderBlock2D"]})


@pytest.mark.parametrize("size", [(24, 40), (36, 16), (8, 8)], ids=str)
@pytest.mark.parametrize("kind", ["tiny", "deep"])
def test_encoding_in_bands_changes_nothing(kind: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made = Vae(VaeConfig.from_dict(dict(stock(kind).config))).eval()
    made.load_state_dict(stock(kind).state_dict())
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).cumsum(2) / 4
    with torch.inference_mode():
        whole = made.encode(pixels)
        made.encoder.in_bands = True
        monkeypatch.setattr(vae, "WHOLE_ELEMENTS", 0)
        monkeypatch.setattr(bands, "BAND_ELEMENTS", 16 * size[1] * 6)
        levels: list[int] = []
        monkeypatch.setattr(vae, "level", lambda *a: levels.append(a[2]) or bands.level(*a))
        banded = made.encode(pixels)
    assert (
        levels == [size[0] >> i for i in range(len(levels))] and len(levels) == len(made.config.block_out_channels) - 1
    )
    for found, expected in zip(banded, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_a_level_after_one_that_was_whole_starts_from_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    made = Vae(VaeConfig(block_out_channels=(16, 32, 32), norm_num_groups=8)).eval()
    pixels = torch.randn(1, 3, 16, 24)
    with torch.inference_mode():
        whole = made.encode(pixels)[0]
        made.encoder.in_bands = True
        monkeypatch.setattr(vae, "WHOLE_ELEMENTS", 16 * 16 * 24)  # the first level just fits; the second is smaller
        banded = made.encode(pixels)[0]
    assert banded.shape == whole.shape == (1, 4, 4, 6)
    torch.testing.assert_close(banded, whole)
