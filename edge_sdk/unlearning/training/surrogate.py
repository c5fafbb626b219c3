"""Surrogates: what takes a target's place. The background stays, the person changes.

Each is as likely as it is the picture that was noised. So the nearest retained pictures are together what an ideal
model of them makes of a noised target. A surrogate must be far enough from its target, and an edited or given one,
which is a person that the model did not know, not like a retained picture, lest one real person be replaced by another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import load_photos
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import MAX_PICTURES, Pictures, refuse_skipped, side_of
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.sampling import STEPS, add_noise, denoise
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.zo.noise import EDIT_NOISES, normals

MOST_EDITS = 64 * 1024  # of a target: the most surrogates times the most tries
NEAREST, EDITS = 64, 4  # surrogates of each target where the settings do not say how many; of the nearest at most


@dataclass(frozen=True)
class Surrogates:
    """Admitted surrogates and their scores, as many for each target: where fewer are admitted than for another target,
    they are repeated in their order, the nearest first. So a surrogate is as likely as it has repeats.

    Attributes:
        x0: (targets, surrogates, C, h, w).
        pixels: (targets, surrogates, 3, H, W) in [-1, 1].
        scores: one dict a surrogate: to_target, to_retained (the largest similarities), background (root mean square
            change outside the mask).
        admitted: how many of each target's are admitted, its first ones; the others are repeats.
    """

    x0: torch.Tensor
    pixels: np.ndarray
    scores: list[list[dict[str, float]]]
    admitted: list[int]


def portrait_mask(side: int) -> np.ndarray:
    """Where a portrait's person is, (side, side) float32 of 0 and 1: an ellipse that reaches the lower edge."""
    y, x = (np.indices((side, side)) + 0.5) / side
    return ((((x - 0.5) / 0.45) ** 2 + ((y - 0.6) / 0.55) ** 2) <= 1).astype(np.float32)


def read_masks(folder: str | Path | None, count: int, side: int) -> np.ndarray:
    """(count, 1, side, side) float32 of 0 and 1, white where a target may be edited; None is a portrait's.

    Raises:
        EdgeSdkError: not one mask for each target, or one that cannot be read.
    """
    if folder is None:
        return np.broadcast_to(portrait_mask(side), (count, 1, side, side)).copy()
    photos = load_photos(folder, side, what="mask_data_dir", limit=MAX_PICTURES)
    refuse_skipped(photos, folder, "mask_data_dir")
    masks = photos.pixels.mean(axis=1, keepdims=True) > 0
    if len(masks) not in (1, count):
        raise EdgeSdkError(f"mask_data_dir holds {len(masks)} masks for {count} targets; give one each, or one for all")
    return np.broadcast_to(masks.astype(np.float32), (count, 1, side, side)).copy()


def make_surrogates(
    denoiser: Denoiser,
    targets: Pictures,
    retained: Pictures,
    config: UnlearnConfig,
    similarity: Similarity,
    given: Pictures | None = None,
    mask_data_dir: str | Path | None = None,
) -> Surrogates:
    """Admitted surrogates for every target; ``given`` are the user's, as many for each, in the order of targets.

    Raises:
        EdgeSdkError: too few are there or admitted; the message has the best one's scores and says what to change.
    """
    if (config.surrogate == "given") != (given is not None):
        raise EdgeSdkError("surrogate 'given' and surrogate_data_dir go together; give both or neither")
    masks = read_masks(mask_data_dir, len(targets), side_of(denoiser))
    count = _count(len(targets), len(retained), None if given is None else len(given), config)
    sought, known = similarity.features(targets.pixels), similarity.features(retained.pixels)
    kept = []
    for i in range(len(targets)):
        candidates = _candidates(denoiser, targets, retained, given, i, masks[i], config, count)
        kept.append(_admitted(candidates, targets.pixels[i], sought, known, masks[i], config, similarity, count))
    admitted = [len(own) for own in kept]
    kept = [[own[j % len(own)] for j in range(max(admitted))] for own in kept]
    pixels = np.stack([np.stack([one for one, _ in own]) for own in kept])
    x0 = denoiser.encode(torch.from_numpy(pixels.reshape(-1, *pixels.shape[2:])).to(denoiser.device))
    scores = [[score for _, score in own] for own in kept]
    return Surrogates(x0.view(*pixels.shape[:2], *x0.shape[1:]), pixels, scores, admitted)


def _count(targets: int, retained: int, given: int | None, config: UnlearnConfig) -> int:
    """Surrogates of each target; raises EdgeSdkError if pictures do not suffice for that."""
    if given is not None:
        if given % targets:
            raise EdgeSdkError(
                f"surrogate_data_dir holds {given} pictures for {targets} targets; give as many for each, in the order "
                "of the targets' names"
            )
        return given // targets
    if config.surrogate == "edit":
        return config.num_surrogates or EDITS
    if retained < (config.num_surrogates or 1):
        raise EdgeSdkError(
            f"retain_data_dir holds {retained} pictures, of which {config.num_surrogates} surrogates are to be made "
            "for each target; add pictures, or lower --num_surrogates"
        )
    return config.num_surrogates or min(NEAREST, retained)


def _candidates(
    denoiser: Denoiser,
    targets: Pictures,
    retained: Pictures,
    given: Pictures | None,
    i: int,
    mask: np.ndarray,
    config: UnlearnConfig,
    count: int,
) -> Iterator[np.ndarray]:
    """Pictures (3, H, W) that may stand for target i."""
    target = targets.pixels[i]
    if given is not None:
        yield from given.pixels[i * count : (i + 1) * count]
    elif config.surrogate == "nearest":
        gaps = ((retained.pixels - target) ** 2).mean(axis=(1, 2, 3))
        for j in np.argsort(gaps):
            yield retained.pixels[j] * mask + target * (1 - mask)
    else:
        for attempt in range(config.surrogate_tries * count):
            yield edit(denoiser, targets.x0[i], target, mask, config, i, attempt)


def edit(
    denoiser: Denoiser,
    x0: torch.Tensor,
    target: np.ndarray,
    mask: np.ndarray,
    config: UnlearnConfig,
    index: int,
    attempt: int,
) -> np.ndarray:
    """Noise a target x0 (C, h, w) and denoise it with the model under repair, inside a mask (1, H, W): (3, H, W)."""
    values = normals(config.seed, EDIT_NOISES.stream, EDIT_NOISES.at(index * MOST_EDITS + attempt), (2, *x0.shape))
    fresh, kept = torch.from_numpy(values).to(x0.device)
    start = round(config.edit_strength * (denoiser.schedule.num_train_timesteps - 1))
    small = F.adaptive_max_pool2d(torch.from_numpy(mask), denoiser.shape[1:]).to(x0.device)  # (1, h, w)

    def keep_background(z: torch.Tensor, t: int) -> torch.Tensor:
        return small * z + (1 - small) * add_noise(denoiser, x0[None], kept[None], torch.tensor([t]))

    z = add_noise(denoiser, x0[None], fresh[None], torch.tensor([start]))
    latents = denoise(denoiser, denoiser.module, z, start, STEPS, denoiser.condition(config.prompt), keep_background)
    return denoiser.decode(latents)[0].cpu().numpy() * mask + target * (1 - mask)


def _admitted(
    candidates: Iterator[np.ndarray],
    target: np.ndarray,
    sought: np.ndarray,
    known: np.ndarray,
    mask: np.ndarray,
    config: UnlearnConfig,
    similarity: Similarity,
    count: int,
) -> list[tuple[np.ndarray, dict[str, float]]]:
    """The candidates for a target that keep all limits, ``count`` of them.

    Of the nearest there may be fewer, unless the settings say how many.

    Args:
        sought, known: features of all targets, and of retained pictures.
    """
    admitted: list[tuple[np.ndarray, dict[str, float]]] = []
    refused: list[dict[str, float]] = []
    for pixels in candidates:
        features = similarity.features(pixels[None])
        score = {
            "to_target": float((features @ sought.T).max()),
            "to_retained": float((features @ known.T).max()),
            "background": float(
                np.sqrt(((pixels - target) ** 2 * (1 - mask)).mean() / (1 - mask).mean().clip(1e-6)) / 2
            ),
        }
        if why_not(score, config):
            refused.append(score)
            continue
        admitted.append((pixels, score))
        if len(admitted) == count:
            return admitted
    if admitted and config.surrogate == "nearest" and config.num_surrogates is None:
        return admitted
    best = min(refused, key=lambda score: len(why_not(score, config)))
    raise EdgeSdkError(
        f"{len(admitted)} of {count} surrogates are admitted; the best one that is not has "
        f"{'; '.join(why_not(best, config))}; {_REMEDIES[config.surrogate]}, or loosen the limit"
    )


_REMEDIES = {
    "nearest": "add retained pictures, give your own with --surrogate_data_dir",
    "edit": "raise --edit_strength or --surrogate_tries, give your own with --surrogate_data_dir",
    "given": "give others in --surrogate_data_dir",
}


def why_not(score: dict[str, float], config: UnlearnConfig) -> list[str]:
    """The limits that a surrogate does not keep, in words; none for one that is admitted."""
    limits = {"to_target": config.max_target_similarity, "background": config.max_background_change}
    if config.surrogate != "nearest":  # which is a retained picture's person, by its nature
        limits["to_retained"] = config.max_retained_similarity
    return [f"{name} {score[name]:.3f} above {limit:g}" for name, limit in limits.items() if score[name] > limit]
