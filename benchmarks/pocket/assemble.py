"""Put the trained parts together as a Stable Diffusion folder: what ships as ``edge_sdk/pocket/model``.

Denoiser and VAE are stored in float16. The text encoder stays in float32: transformers loads a part in the type it is
stored in and diffusers in float32, and stock pipelines do not run on a mixture.

python -m benchmarks.pocket.assemble --work_dir benchmarks/work --output_dir edge_sdk/pocket/model
"""

import argparse
from pathlib import Path

from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.pocket.unet import build_scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--output_dir", type=Path, default=Path("edge_sdk/pocket/model"))
    args = parser.parse_args()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(args.work_dir / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(args.work_dir / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(args.work_dir / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(args.work_dir / "unet"),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.unet.half()
    pipeline.vae.half()
    pipeline.save_pretrained(args.output_dir, safe_serialization=True)
    size = sum(file.stat().st_size for file in args.output_dir.rglob("*") if file.is_file())
    print(f"{args.output_dir}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
