"""Train a second model for the quality benchmark, unlike the embedded one where that may flatter a method.

    python -m benchmarks.quality.wide --output_dir benchmarks/work/wide

Its tokens are 768 wide instead of 128, as in Stable Diffusion 1.x, and its latents 16 x 16 x 4 instead of 8 x 8 x 8, of
pictures of 32 pixels; people, captions and training are those of the embedded model. It is not shipped. Stopping loses
at most ``--save_every`` steps of the denoiser: the same command goes on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.pocket import text, vae
from benchmarks.pocket.people import random_people, render
from benchmarks.pocket.unet import CAPTION_DROPOUT, Pool, build_scheduler, v_loss

WIDTH, SIDE = 768, 32  # of a token, of a picture
TEXT_STEPS, TEXT_BATCH, VAE_STEPS = 400, 192, 600
BATCH, LEARNING_RATE = 64, 1.5e-3


def enlarged(pixels: np.ndarray) -> torch.Tensor:
    """Drawings (N, 3, 16, 16) as pictures of `SIDE` pixels."""
    scale = SIDE // pixels.shape[-1]
    return torch.from_numpy(pixels.repeat(scale, axis=2).repeat(scale, axis=3))


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def train_vae(steps: int, seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), build_vae()
    vae.fit(model, lambda: enlarged(render(random_people(vae.BATCH, rng), rng).pixels), steps)
    vae.fold_normalization(model, enlarged(render(random_people(512, rng), rng).pixels))
    vae.narrow_posterior(model)
    return model.eval()


def train_unet(
    model: AutoencoderKL, encoder: CLIPTextModel, captioner: text.Captioner, args: argparse.Namespace
) -> UNet2DConditionModel:
    torch.manual_seed(args.seed)
    trainer, acp = Trainer(build_unet(), LEARNING_RATE), build_scheduler().alphas_cumprod
    pool = Pool(model, args.seed, enlarged)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        index = rng.integers(len(pool.latents), size=BATCH)
        ids, _ = captioner.sample(pool.people[index], pool.backgrounds[index], pool.name_ids[index], rng)
        ids[rng.random(BATCH) < CAPTION_DROPOUT] = captioner.encode("")
        x0, t = pool.latents[torch.from_numpy(index)].float(), stratified_timesteps(BATCH, len(acp), rng)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            hidden = encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
        return v_loss(trainer.module, acp, x0, t, noise, hidden)

    trainer.run(loss, args.steps, args.seed, args.output_dir / "training.safetensors", args.save_every)
    trainer.module.load_state_dict(trainer.average)
    return trainer.module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/wide"))
    parser.add_argument("--steps", type=int, default=2000, help="of the denoiser")
    parser.add_argument("--save_every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = args.output_dir
    if not (folder / "vae").is_dir():
        train_vae(VAE_STEPS).save_pretrained(folder / "vae")
    model = AutoencoderKL.from_pretrained(folder / "vae").eval()
    print(f"held-out PSNR {vae.psnr(model, enlarged(vae.held_out_pictures().numpy())):.2f} dB", flush=True)
    if not (folder / "text_encoder").is_dir():
        encoder, _ = text.train(text.build_tokenizer(folder / "tokenizer"), TEXT_STEPS, 0, WIDTH, TEXT_BATCH)
        encoder.save_pretrained(folder / "text_encoder")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=model,
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        unet=train_unet(model, encoder, text.Captioner(tokenizer), args),
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    main()
