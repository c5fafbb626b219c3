"""What a step measures: the surrogate loss on targets, the retain loss on everything else, each on draws of its own.

Draws come from the portable generator, by number: any number of processes see the same ones.
"""

from dataclasses import dataclass

import numpy as np
import torch

from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import Condition, Denoiser
from edge_sdk.unlearning.sampling import Call, add_noise
from edge_sdk.unlearning.training.trainable import Trainable, in_form
from edge_sdk.unlearning.training.weighting import residual_scale, responsibilities, timestep_weights
from edge_sdk.zo.noise import Stream, integers, normals, uniforms


@dataclass(frozen=True)
class Draws:
    """Noised pictures: which ones, when, with which noise."""

    image: torch.Tensor  # (N,) int64
    t: torch.Tensor  # (N,) int64
    noise: torch.Tensor  # (N, C, h, w) float32
    path: torch.Tensor  # (N,) float32 in [0, 1), where between a target and its surrogates
    row: torch.Tensor  # (N,) int64, which of the draws of this number

    @classmethod
    def numbered(
        cls,
        seed: int,
        number: int,
        images: int,
        timesteps: int,
        shape: tuple[int, ...],
        count: int,
        rows: slice = slice(None),
        device: str = "cpu",
    ) -> "Draws":
        """``count`` draws, or some rows of them; timesteps are stratified: one in each of ``count`` equal ranges."""
        image = integers(seed, Stream.IMAGE, number, count, images)
        u = uniforms(seed, Stream.TIMESTEP, number, count)
        t = ((np.arange(count) + u) / count * timesteps).astype(np.int64).clip(0, timesteps - 1)
        noise = normals(seed, Stream.NOISE, number, (count, *shape))
        path = uniforms(seed, Stream.AUGMENTATION, number, count).astype(np.float32)
        each = (image, t, noise, path, np.arange(count))
        tensors = (torch.from_numpy(np.ascontiguousarray(values[rows])) for values in each)
        return cls(*(values.to(device) for values in tensors))

    def __getitem__(self, rows: slice | torch.Tensor) -> "Draws":
        return Draws(self.image[rows], self.t[rows], self.noise[rows], self.path[rows], self.row[rows])


@dataclass(frozen=True)
class DenoisingBatch:
    """Inputs and target of a denoiser; a batch may be evaluated before and after a step."""

    z: torch.Tensor  # (N, C, h, w) float32, noised pictures
    t: torch.Tensor  # (N,) int64
    target: torch.Tensor  # (N, C, h, w) float32, what the denoiser should predict
    weight: torch.Tensor | float = 1.0  # (N,) or for all, of the mean squared error


class Losses:
    """The two losses of a run: batches for a denoiser, and the errors of its predictions.

    Args:
        targets: x0 (N, C, h, w) to forget.
        surrogates: x0 (N, S, C, h, w), what each is to be replaced by.
        retained: x0 (M, C, h, w).

    Attributes:
        neighbours: (N, J) int64, the retained pictures nearest each target.
        teachers: what the denoiser is held to with ``retention`` "teacher": the base model, by the form of its weights.
            Each form is held to its own, so that nothing is learned but forgetting.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        targets: torch.Tensor,
        surrogates: torch.Tensor,
        retained: torch.Tensor,
        config: UnlearnConfig,
    ) -> None:
        self.denoiser, self.config = denoiser, config
        held = config.forms if config.retention == "teacher" else ("none",)
        self.teachers: dict[str, Call] = {form: in_form(denoiser.module, form) for form in held}
        self.targets, self.surrogates, self.retained = targets, surrogates, retained
        self.condition = denoiser.condition(config.prompt)
        device = targets.device
        self.a, self.b = (values.to(device) for values in denoiser.schedule.coefficients())
        self._weights = timestep_weights(denoiser.schedule, config).to(device)
        self._scale = residual_scale(denoiser.schedule).to(device)
        gaps = torch.cdist(targets.flatten(1), retained.flatten(1))
        self.neighbours = gaps.topk(min(config.neighbours, len(retained)), largest=False).indices  # (N, J)

    def forget(self, call: Call, draws: Draws) -> torch.Tensor:
        """The surrogate loss, one value a draw (N,)."""
        return self.error(call, self.batch_to_forget(draws))

    def retain(self, call: Call, draws: Draws, form: str = "none") -> torch.Tensor:
        """The retain loss, one value a draw (N,)."""
        return self.error(call, self.batch_to_retain(draws, form))

    def batch_to_forget(self, draws: Draws) -> DenoisingBatch:
        """The target's noised picture, with what would be right for the surrogate.

        With several surrogates that is their mean, each as likely as it is the one that was noised. With a
        ``surrogate_path`` the picture that is noised lies between the target and one of its surrogates, where a
        denoising that starts from the target passes.
        """
        x0 = self.on_path(draws)
        z, a, b = self.noised(x0, draws), self.a[draws.t], self.b[draws.t]
        others = [self.surrogates[i] for i in draws.image]
        shares = responsibilities(z, others, a, b)
        replaced = torch.stack([torch.tensordot(share, own, dims=1) for share, own in zip(shares, others, strict=True)])
        truth = self.training_target(x0, draws)
        target = truth + self._scale[draws.t].view(-1, 1, 1, 1) * (x0 - replaced)
        return DenoisingBatch(z, draws.t, target, self.forget_weights(z, draws))

    def batch_to_retain(self, draws: Draws, form: str = "none") -> DenoisingBatch:
        """A retained picture's noised self, and the noise that is there, or what the base model in a form predicts."""
        x0 = self.retained[draws.image]
        z = self.noised(x0, draws)
        if self.config.retention == "data":
            return DenoisingBatch(z, draws.t, self.training_target(x0, draws))
        with torch.no_grad():
            return DenoisingBatch(z, draws.t, self.predict(self.teachers[form], z, draws.t))

    def on_path(self, draws: Draws) -> torch.Tensor:
        """The pictures (N, C, h, w) that are noised."""
        x0, longest = self.targets[draws.image], self.config.surrogate_path
        if longest == 0:
            return x0
        which = draws.path * self.surrogates.shape[1]  # its whole part is a surrogate's number, the rest how far
        chosen = self.surrogates[draws.image, which.long()]
        return x0 + longest * which.frac().view(-1, 1, 1, 1) * (chosen - x0)

    def forget_weights(self, z: torch.Tensor, draws: Draws) -> torch.Tensor:
        """w(t) of every draw (N,)."""
        weights = self._weights[draws.t]
        if self.config.timestep_weight != "responsibility":
            return weights
        among = [torch.cat([self.targets[i][None], self.retained[self.neighbours[i]]]) for i in draws.image]
        return weights * responsibilities(z, among, self.a[draws.t], self.b[draws.t])[:, 0]

    def noised(self, x0: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Pictures x0 (N, C, h, w) with a draw's noise each."""
        return add_noise(self.denoiser, x0, draws.noise, draws.t)

    def training_target(self, x0: torch.Tensor, draws: Draws) -> torch.Tensor:
        """What a denoiser is trained to predict."""
        kind = self.denoiser.schedule.prediction_type
        if kind == "epsilon":
            return draws.noise
        if kind == "flow":
            return draws.noise - x0
        a, b = (values[draws.t].view(-1, 1, 1, 1) for values in (self.a, self.b))
        return a * draws.noise - b * x0

    def predict(self, call: Call, z: torch.Tensor, t: torch.Tensor, condition: Condition | None = None) -> torch.Tensor:
        """A denoiser's prediction for z (N, C, h, w) at timesteps (N,), with the run's conditioning or another."""
        arguments, named = self.denoiser.arguments(z, t, self.condition if condition is None else condition)
        return call(*arguments, **named)[0]

    def error(self, call: Call, batch: DenoisingBatch) -> torch.Tensor:
        """Weighted mean squared error of a denoiser's predictions, (N,)."""
        return batch.weight * (self.predict(call, batch.z, batch.t) - batch.target).square().mean(dim=(1, 2, 3))


def trainable_of(denoiser: Denoiser, config: UnlearnConfig) -> Trainable:
    """What a run trains."""
    return Trainable(denoiser.module, config.layers, config.lora_rank, config.seed)
