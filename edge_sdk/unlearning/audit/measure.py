"""What an audit and the benchmark measure, all of it on fixed noises that no training draws.

Everything is a function of the denoiser as it is called: the base, the repaired one, or either with rounded weights.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from edge_sdk.unlearning import sampling
from edge_sdk.unlearning.data import Pictures
from edge_sdk.unlearning.denoiser import Condition, Denoiser
from edge_sdk.unlearning.sampling import Call, add_noise, reconstruct, sample
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.losses import Draws, Losses
from edge_sdk.zo.noise import MEASUREMENTS, Stream, normals

TIMESTEPS = (0.1, 0.25, 0.5, 0.75)  # from which targets are reconstructed, as shares of all timesteps
LATE = (0.5, 0.75)  # of those, where a target no longer shows through the noise
NOISES = 16
NOISED = 256  # pictures, for the denoising loss
BINS = 10  # of timesteps, for the denoising loss
MEASURED = MEASUREMENTS.first  # number of the first draws that are for measurements


@dataclass(frozen=True)
class Model:
    """A denoiser as it is to be measured."""

    denoiser: Denoiser
    call: Call
    condition: Condition


def fixed_noise(denoiser: Denoiser, number: int, count: int, seed: int = 0) -> torch.Tensor:
    """(count, C, h, w), the same for every model of this shape."""
    values = normals(seed, Stream.NOISE, MEASURED + number, (count, *denoiser.shape))
    return torch.from_numpy(values).to(denoiser.device)


def reconstructions(
    model: Model,
    pictures: Pictures,
    seed: int = 0,
    shares: tuple[float, ...] = TIMESTEPS,
    noises: int | None = None,
    steps: int | None = None,
) -> np.ndarray:
    """What becomes of noised pictures: (N, timesteps, noises, 3, H, W).

    Args:
        shares: of all timesteps, from which pictures are denoised.
        noises: of each picture; None for `NOISES`.
        steps: of each denoising; None for the default.
    """
    denoiser, out, noises = model.denoiser, [], noises or NOISES
    noise = fixed_noise(denoiser, 0, noises, seed).repeat(len(pictures), 1, 1, 1)
    many = pictures.x0.repeat_interleave(noises, dim=0)
    for share in shares:
        t = int(share * denoiser.schedule.num_train_timesteps)
        latents = reconstruct(denoiser, model.call, many, noise, t, model.condition, steps)
        pixels = denoiser.decode(latents).cpu().numpy()
        out.append(pixels.reshape(len(pictures), noises, *pixels.shape[1:]))
    return np.stack(out, axis=1)


def similarities(similarity: Similarity, pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of reconstructions (N, timesteps, noises, 3, H, W) to their pictures (N, 3, H, W): (N, timesteps, noises)."""
    flat = [
        similarity(one.reshape(-1, *one.shape[2:]), picture[None])
        for one, picture in zip(pictures, targets, strict=True)
    ]
    return np.stack([values.reshape(pictures.shape[1:3]) for values in flat])


def samples(model: Model, count: int, seed: int = 0, steps: int | None = None) -> np.ndarray:
    """Free samples (count, 3, H, W) from the same noises for every model."""
    noise = fixed_noise(model.denoiser, 1, count, seed)
    latents = sample(model.denoiser, model.call, noise, model.condition, steps)
    return model.denoiser.decode(latents).cpu().numpy()


def drift(similarity: Similarity, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far each picture (N, 3, H, W) has moved: 1 - similarity, (N,)."""
    first, second = similarity.features(before), similarity.features(after)
    return 1 - (first * second).sum(axis=1)


def hits(similarity: Similarity, pictures: np.ndarray, target: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which samples (N, 3, H, W) are more like the target (3, H, W) than like any other picture (M, 3, H, W)."""
    return similarity(pictures, target[None])[:, 0] > similarity(pictures, others).max(axis=1)


def upper_bound(count: int, of: int, confidence: float = 0.95) -> float:
    """The largest rate that still gives so few hits with a probability of 1 - confidence (Clopper-Pearson)."""
    low, high = count / of, 1.0
    if count == of:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, of, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(count: int, of: int, rate: float) -> float:
    """Probability of at most ``count`` hits."""
    from math import exp, lgamma, log

    def log_term(k: int) -> float:
        return lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) + k * log(rate) + (of - k) * log(1 - rate)

    return sum(exp(log_term(k)) for k in range(count + 1)) if 0 < rate < 1 else float(rate <= 0)


def loss_by_timestep(model: Model, losses: Losses) -> np.ndarray:
    """Denoising loss of the retained pictures of ``losses``, mean in each of `BINS` equal ranges of timesteps."""
    return by_bin(*denoising_losses(model, losses))


def by_bin(bins: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.array([values[bins == i].mean() for i in range(BINS)])


@torch.no_grad()
def denoising_losses(model: Model, losses: Losses, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The bin, and the loss, of each of some noised retained pictures of ``losses``: two of (NOISED,)."""
    denoiser, count = model.denoiser, NOISED
    timesteps = denoiser.schedule.num_train_timesteps
    draws = Draws.numbered(
        seed, MEASURED, len(losses.retained), timesteps, denoiser.shape, count, device=denoiser.device
    )
    parts = [losses.retain(model.call, draws[i : i + 64]) for i in range(0, count, 64)]
    return (draws.t * BINS // timesteps).cpu().numpy(), torch.cat(parts).double().cpu().numpy()


@torch.no_grad()
def inverted(model: Model, pictures: Pictures) -> np.ndarray:
    """Recovery by inversion: DDIM run backwards from each picture to noise, then forwards: (N, 3, H, W).

    An inverted latent is the model's own address of a picture: a model that has really lost one comes back elsewhere.
    """
    from edge_sdk.diffusion.ddim import x0_and_noise

    denoiser = model.denoiser
    a, b = denoiser.schedule.coefficients()
    last = denoiser.schedule.num_train_timesteps - 1
    times = torch.linspace(0, last, sampling.STEPS + 1).round().long().tolist()
    z = add_noise(denoiser, pictures.x0, torch.zeros_like(pictures.x0), torch.zeros(len(pictures), dtype=torch.long))
    for now, following in pairwise(times):
        arguments, named = denoiser.arguments(z, torch.full((len(z),), now), model.condition)
        predicted = model.call(*arguments, **named)[0]
        x0, noise = x0_and_noise(denoiser.schedule.prediction_type, predicted, z, a[now], b[now])
        z = a[following] * x0 + b[following] * noise
    return denoiser.decode(sample(denoiser, model.call, z, model.condition)).cpu().numpy()


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """KID (Binkowski et al., 2018) between sets of feature vectors of length 1, (N, F) and (M, F): the unbiased squared
    MMD of the kernel (cosine + 1)^3. It is not comparable with KID on Inception features.

    Of sets of one size pairs of the same row are left out: they may come from the same noise.
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x.astype(np.float64) @ y.T.astype(np.float64) + 1) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    between = kernel(first, second)
    if len(first) == len(second):
        count = len(first)
        return within(first) + within(second) - 2 * float((between.sum() - np.trace(between)) / (count * (count - 1)))
    return within(first) + within(second) - 2 * float(between.mean())
