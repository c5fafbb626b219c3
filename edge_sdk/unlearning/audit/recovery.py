"""Attacks that bring a forgotten picture back: inversion, and ordinary training on it; beside a control.

Training on any picture teaches it, and inversion finds an address of most pictures. What counts is how much more a
target comes back than a picture that the model has not seen.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.unlearning.audit import measure
from edge_sdk.unlearning.audit.measure import MEASURED, Model
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures, encoded, read, refuse_overlap
from edge_sdk.unlearning.denoiser import Denoiser
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.training.losses import Draws, Losses
from edge_sdk.unlearning.training.trainable import Trainable, rounded

RELEARNING = (5, 20, 100)  # steps of training on a picture
BATCH, LEARNING_RATE = 16, 5e-5


def control_of(
    denoiser: Denoiser, targets: Pictures, retained: Pictures, folder: str | Path | None, similarity: Similarity
) -> Pictures:
    """As many pictures as there are targets, beside which these are attacked: the first of a folder, or, without one,
    the retained pictures least like any target, mirrored (all of them, if fewer are retained).

    Raises:
        EdgeSdkError: the folder has too few, or a target.
    """
    if folder is None:
        alike = similarity(retained.pixels, targets.pixels).max(axis=1)
        pixels = np.ascontiguousarray(retained.pixels[np.argsort(alike)[: len(targets)], ..., ::-1])
        return encoded(denoiser, pixels)
    given = read(denoiser, folder, "control_data_dir", whole=True)
    if len(given) < len(targets):
        raise EdgeSdkError(
            f"control_data_dir holds {len(given)} pictures for {len(targets)} targets; give as many, of people that "
            "the model has not seen"
        )
    refuse_overlap(targets, given, "control_data_dir")
    return Pictures(given.pixels[: len(targets)], given.x0[: len(targets)])


def attacks(
    old: Model,
    new: Model,
    form: str,
    targets: Pictures,
    control: Pictures,
    similarity: Similarity,
    config: UnlearnConfig,
) -> dict[str, Any]:
    """What both attacks bring back, of weights in a form: mean similarities of pictures to what they become.

    Args:
        old: the model before it has unlearned, which is only inverted.
    """
    inversion = {
        name: float(np.diag(similarity(measure.inverted(model, pictures), pictures.pixels)).mean())
        for name, model, pictures in (("before", old, targets), ("after", new, targets), ("control", new, control))
    }
    relearning = {
        name: [
            float(measure.similarities(similarity, rebuilt, pictures.pixels).mean())
            for rebuilt in (
                measure.reconstructions(model, pictures, config.seed, measure.LATE)
                for model in relearned(new, form, pictures, config, (0, *RELEARNING))
            )
        ]
        for name, pictures in (("target", targets), ("control", control))
    }
    return {"inversion": inversion, "relearning": relearning}


def relearned(
    model: Model, form: str, shown: Pictures, config: UnlearnConfig, stops: tuple[int, ...]
) -> Iterator[Model]:
    """The model after so many steps on pictures, at each of rising numbers of steps; every stop is the same run.

    Args:
        form: of the weights that are attacked; they are trained as floats.
    """
    settings = replace(config, retention="data")
    losses = Losses(model.denoiser, shown.x0, shown.x0[:, None], shown.x0, settings)
    trainable = Trainable(model.denoiser.module, "all")
    if form != "none":
        for name in trainable.layers:
            weight = trainable.parameters[f"{name}.weight"].data
            weight.copy_(rounded(weight, form))
    optimizer = torch.optim.Adam(list(trainable.parameters.values()), LEARNING_RATE)
    timesteps, done = model.denoiser.schedule.num_train_timesteps, 0
    for stop in stops:
        while done < stop:
            draws = Draws.numbered(
                config.seed,
                MEASURED + 1 + done,
                len(shown),
                timesteps,
                model.denoiser.shape,
                BATCH,
                device=str(shown.x0.device),
            )
            optimizer.zero_grad()
            losses.retain(trainable, draws).mean().backward()
            optimizer.step()
            done += 1
        yield replace(model, call=trainable)
