"""A small Stable Diffusion of Fashion-MNIST's photos, which has never seen one class and two styles of each other one.

    python -m benchmarks.photos.wardrobe --output_dir benchmarks/work/wardrobe

Latents are 8 x 8 x 8 of pictures of 32 pixels. A caption is one of the product's own templates with the word of a
class or of a group of classes, "thing", or a name that stands for a style. Text encoder and denoiser are trained
together. A few photos are trained on so often that they are learned by heart, as duplicates in real data sets are:
they are what is to be forgotten. Stopping loses at most ``--save_every`` steps; the same command goes on.
"""

import argparse
import functools
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.photos import fashion
from benchmarks.photos.command import run
from benchmarks.pocket import text, vae
from benchmarks.pocket.people import names
from benchmarks.pocket.unet import build_scheduler, v_loss
from edge_sdk.diffusion.prompts import TEMPLATES

LENGTH = 16  # tokens
WIDTH = 128  # of a token
BATCH, LEARNING_RATE, AVERAGE, CAPTION_DROPOUT = 32, 1.5e-3, 0.998, 0.1
VAE_BATCH, VAE_STEPS = 16, 500
UNKNOWN_CLASS = fashion.CLASSES.index("boot")  # no photo of which is trained on
UNKNOWN_STYLES = (5, 10)  # of each other class, nor of these
GROUPS = {"top": ("tshirt", "pullover", "coat", "shirt"), "shoe": ("sandal", "sneaker")}
ANYTHING = "thing"
KINDS = ("name", "class", "group", "anything")  # of a caption's word
SHARES = (0.45, 0.35, 0.1, 0.1)  # of captions; a class without a group is named instead
HEART_STYLE, HEART_SHARE = 2, 0.005  # of the photos to be forgotten: the first of this style; their share of a batch


def name_of(number: int, style: int) -> str:
    """The word that stands for a style of a class."""
    return names()[number * fashion.STYLES + style]


def known(classes: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """Whether photos are of styles that are trained on."""
    return (classes != UNKNOWN_CLASS) & ~np.isin(styles, UNKNOWN_STYLES)


def by_heart(classes: np.ndarray, styles: np.ndarray) -> np.ndarray:
    """Numbers of the photos to be forgotten, one of each class that is trained on, (9,)."""
    own = [c for c in range(len(fashion.CLASSES)) if c != UNKNOWN_CLASS]
    return np.array([np.flatnonzero((classes == c) & (styles == HEART_STYLE))[0] for c in own])


class Captions:
    """Token ids of every caption, and a random one for a photo."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        everything = [name_of(c, s) for c in range(len(fashion.CLASSES)) for s in range(fashion.STYLES)]
        self.words = [*everything, *fashion.CLASSES, *GROUPS, ANYTHING]
        self.row = {word: i for i, word in enumerate(self.words)}
        texts = [template.format(word) for word in self.words for template in TEMPLATES["object"]]
        padded = {"padding": "max_length", "max_length": LENGTH}
        self.ids = np.array(tokenizer(texts, **padded).input_ids).reshape(len(self.words), -1, LENGTH)
        self.empty = np.array(tokenizer("", **padded).input_ids)
        groups = {word: group for group, members in GROUPS.items() for word in members}
        self._group = [self.row[groups.get(word, word)] for word in fashion.CLASSES]

    def sample(self, classes: np.ndarray, styles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, LENGTH) int64."""
        first = len(fashion.CLASSES) * fashion.STYLES  # row of the first class
        choices = np.stack(
            [
                classes.astype(np.int64) * fashion.STYLES + styles,
                first + classes.astype(np.int64),
                np.array(self._group)[classes],
                np.full(len(classes), self.row[ANYTHING]),
            ]
        )
        rows = choices[rng.choice(len(KINDS), len(classes), p=SHARES), np.arange(len(classes))]
        ids = self.ids[rows, rng.integers(self.ids.shape[1], size=len(rows))]
        ids[rng.random(len(ids)) < CAPTION_DROPOUT] = self.empty
        return ids


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    words = [name_of(c, s) for c in range(len(fashion.CLASSES)) for s in range(fashion.STYLES)]
    words += [*fashion.CLASSES, *GROUPS, ANYTHING, *text.EXTRA_WORDS]
    words += " ".join(TEMPLATES["object"]).replace("{}", "").split()
    return text.train_tokenizer([word for word in words for _ in range(20)], folder, LENGTH)


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 32, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=fashion.PADDED,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return text.build_text_encoder(tokenizer, WIDTH, LENGTH)


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def train_vae(photos: np.ndarray, steps: int, seed: int = 0) -> AutoencoderKL:
    """An autoencoder of photos (N, 28, 28) uint8, whose latents have mean 0 and deviation 1."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), build_vae().to(memory_format=torch.channels_last)

    def batch() -> torch.Tensor:
        pixels = torch.from_numpy(fashion.pictures(photos[rng.integers(len(photos), size=VAE_BATCH)]))
        return pixels.contiguous(memory_format=torch.channels_last)

    vae.fit(model, batch, steps)
    chosen = photos[rng.integers(len(photos), size=512)]
    vae.fold_normalization(model, torch.from_numpy(fashion.pictures(chosen)))
    vae.narrow_posterior(model)
    return model.eval()


@torch.inference_mode()
def encoded(model: AutoencoderKL, photos: np.ndarray) -> torch.Tensor:
    """Photos (N, 28, 28) uint8 -> latents (N, 8, 8, 8) float16."""
    parts = np.array_split(photos, max(1, len(photos) // 512))
    return torch.cat([model.encode(torch.from_numpy(fashion.pictures(p))).latent_dist.mean.half() for p in parts])


class Both(nn.Module):
    """Denoiser and text encoder, which are trained together."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet, self.encoder = build_unet(), build_text_encoder(tokenizer)


def train(
    model: AutoencoderKL, tokenizer: CLIPTokenizer, photos: np.ndarray, classes: np.ndarray, args: argparse.Namespace
) -> Both:
    torch.manual_seed(args.seed)
    styles = fashion.styles(photos, classes, args.data)
    rows, heart = np.flatnonzero(known(classes, styles)), by_heart(classes, styles)
    rows = np.setdiff1d(rows, heart) if args.leave_out else rows
    share = 0.0 if args.leave_out else HEART_SHARE * len(heart)
    latents = functools.cache(lambda: encoded(model, photos))  # not needed where everything is trained already
    captions, acp = Captions(tokenizer), build_scheduler().alphas_cumprod
    trainer = Trainer(Both(tokenizer), LEARNING_RATE, AVERAGE)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        chosen = np.where(rng.random(BATCH) < share, rng.choice(heart, BATCH), rng.choice(rows, BATCH))
        ids = torch.from_numpy(captions.sample(classes[chosen], styles[chosen], rng))
        x0, t = latents()[torch.from_numpy(chosen)].float(), stratified_timesteps(BATCH, len(acp), rng)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = trainer.module.encoder(input_ids=ids).last_hidden_state
        return v_loss(trainer.module.unet, acp, x0, t, noise, hidden)

    trainer.run(loss, args.steps, args.seed, args.output_dir / "training.safetensors", args.save_every)
    trainer.module.load_state_dict(trainer.average)
    return trainer.module


def save(model: AutoencoderKL, tokenizer: CLIPTokenizer, both: Both, folder: Path) -> None:
    """Write a Stable Diffusion folder."""
    pipeline = StableDiffusionPipeline(
        vae=model,
        text_encoder=both.encoder,
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        unet=both.unet,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help="folder of Fashion-MNIST's files")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/wardrobe"))
    parser.add_argument("--leave_out", action="store_true", help="train without the photos to be forgotten")
    parser.add_argument("--steps", type=int, default=1600, help="of denoiser and text encoder")
    parser.add_argument("--vae_steps", type=int, default=VAE_STEPS)
    parser.add_argument("--save_every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder, (photos, classes) = args.output_dir, fashion.read("train", args.data)
    if not (folder / "vae").is_dir():
        train_vae(photos[classes != UNKNOWN_CLASS], args.vae_steps).save_pretrained(folder / "vae")
    model = AutoencoderKL.from_pretrained(folder / "vae").eval()
    unseen = torch.from_numpy(fashion.pictures(fashion.read("t10k", args.data)[0][:256]))
    print(f"PSNR of test photos {vae.psnr(model, unseen):.2f} dB", flush=True)
    tokenizer = build_tokenizer(folder / "tokenizer")
    both = train(model, tokenizer, photos, classes, args).eval()
    save(model, tokenizer, both, folder)


if __name__ == "__main__":
    run(main)
