"""The attack that shows a forgotten picture again: ordinary training on it, for a few steps."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures
from edge_sdk.unlearning.losses import Draws, Losses
from edge_sdk.unlearning.measure import MEASURED, Model
from edge_sdk.unlearning.trainable import Trainable, rounded

BATCH, LEARNING_RATE = 16, 5e-5


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
                config.seed, MEASURED + 1 + done, len(shown), timesteps, model.denoiser.shape, BATCH,
                device=str(shown.x0.device),
            )  # fmt: skip
            optimizer.zero_grad()
            losses.retain(trainable, draws).mean().backward()
            optimizer.step()
            done += 1
        yield replace(model, call=trainable)
