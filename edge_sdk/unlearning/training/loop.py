"""The loop: draws, two losses, two gradients, a step; the same in one process or in several."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import replacing
from edge_sdk.system.inputs import check_input
from edge_sdk.system.json import parse_json
from edge_sdk.system.schema import Either, Many, Whole, check
from edge_sdk.unlearning.tensor_files import save_tensors
from edge_sdk.unlearning.training.losses import DenoisingBatch, Draws, Losses, trainable_of
from edge_sdk.unlearning.training.optimizer import UnlearnOptimizer, balanced
from edge_sdk.unlearning.training.preconditioner import Metric, retained_metric
from edge_sdk.unlearning.training.surgery import Tensors
from edge_sdk.zo.checkpoint import salted
from edge_sdk.zo.noise import NEIGHBOURS, integers

_NUMBER = Either(float, Whole(-(2**53), 2**53))  # a cosine may be NaN
_HISTORY = Many(
    dict.fromkeys(("forget_loss", "retain_loss", "retain_change", "cosine", "seconds"), _NUMBER)
    | {"step": Whole(1, 10**9)}
)


@dataclass(frozen=True)
class UnlearnStep:
    """What a step measured."""

    step: int  # from 1
    forget_loss: float  # weighted, before the step
    retain_loss: float  # before the step
    retain_change: float  # of the retain loss on the step's own draws; at most 0 in most steps if surgery holds
    cosine: float  # of the two gradients
    seconds: float


class Unlearner:
    """A run in the making.

    Args:
        rank, processes: this process's number and how many there are; each takes its share of every batch.
        metric: in place of that of the settings, for runs that share one; it takes seconds to measure.
    """

    def __init__(self, losses: Losses, rank: int = 0, processes: int = 1, metric: Metric | None = None) -> None:
        self.losses, self.config = losses, losses.config
        self.trainable = trainable_of(losses.denoiser, self.config)
        self.parameters = list(self.trainable.parameters.values())
        if metric is None and self.config.metric == "retained":
            metric = retained_metric(losses, self.trainable, self.config.metric_damping)
        self.optimizer = UnlearnOptimizer(self.parameters, self.config, metric or list)
        self.history: list[UnlearnStep] = []
        self._rows, self._processes = slice(rank, None, processes), processes

    def draws(self, number: int, retained: bool, rows: slice = slice(None)) -> Draws:
        """Draws of a step of either kind, by number; of retained pictures some are neighbours of a target."""
        losses, config = self.losses, self.config
        images, count = (losses.retained, config.retain_batch) if retained else (losses.targets, config.forget_batch)
        shape, timesteps = losses.denoiser.shape, losses.denoiser.schedule.num_train_timesteps
        drawn = Draws.numbered(
            config.seed, 2 * number + retained, len(images), timesteps, shape, count, rows, str(images.device)
        )
        if not retained:
            return drawn
        so_far = ((torch.arange(count + 1, device=images.device) + number) * config.neighbour_share).long()  # in turn
        near = losses.neighbours.flatten()  # of all targets alike
        which = integers(config.seed, NEIGHBOURS.stream, NEIGHBOURS.at(number), count, len(near))[rows]
        other = near[torch.from_numpy(which.copy()).to(images.device)]
        return replace(drawn, image=torch.where((so_far.diff() > 0)[rows], other, drawn.image))

    def step(self) -> UnlearnStep:
        """Train once.

        Raises:
            EdgeSdkError: a loss is not finite.
        """
        started, number = time.perf_counter(), len(self.history)
        forget, retain = (list(self.batches(number, retained)) for retained in (False, True))
        forget_loss, forget_gradients = self._gradients(forget, self.config.forget_batch)
        retain_loss, retain_gradients = self._gradients(retain, self.config.retain_batch)
        cosine = self.optimizer.apply(forget_gradients, retain_gradients)
        with torch.no_grad():
            values = [self._errors(*batch).sum() for batch in retain]
            after = self._sum(sum(values, torch.zeros_like(retain_loss)) / self.config.retain_batch)
        if not torch.isfinite(forget_loss + retain_loss + after):
            raise EdgeSdkError(f"the loss is not finite at step {number + 1}; lower --learning_rate")
        done = UnlearnStep(
            number + 1,
            float(forget_loss),
            float(retain_loss),
            float(after - retain_loss),
            cosine,
            time.perf_counter() - started,
        )
        self.history.append(done)
        return done

    def batches(self, number: int, retained: bool) -> Iterator[tuple[str, DenoisingBatch]]:
        """Of a step, this process's: what is computed at once, and with which form of the weights."""
        draws, forms, most = self.draws(number, retained, self._rows), self.config.forms, self.config.micro_batch
        for i, form in enumerate(forms):
            own = draws[(draws.row + number) % len(forms) == i]
            for start in range(0, len(own.t), most):
                some = own[start : start + most]
                yield form, self.losses.batch_to_retain(some, form) if retained else self.losses.batch_to_forget(some)

    def _errors(self, form: str, batch: DenoisingBatch) -> torch.Tensor:
        return self.losses.error(self.trainable.through(form), batch)

    def _gradients(self, batches: list[tuple[str, DenoisingBatch]], count: int) -> tuple[torch.Tensor, Tensors]:
        """Of the mean error over ``count`` draws of all processes: its value, and one for each parameter.

        Forms of the weights have their say alike: rounding makes a gradient longer, which would drown the other.
        """
        value, by_form = torch.zeros((), device=self.parameters[0].device), []
        for form in self.config.forms:
            total = [torch.zeros_like(p) for p in self.parameters]
            for batch in (batch for batch in batches if batch[0] == form):
                part = self._errors(*batch).sum() / count
                value = value + part.detach()
                for own, gradient in zip(total, self.gradients(part), strict=True):
                    own += gradient
            by_form.append([self._sum(gradient) for gradient in total])
        return self._sum(value), by_form[0] if len(by_form) == 1 else balanced(by_form)

    def gradients(self, value: torch.Tensor) -> Tensors:
        """Of a loss, one for each parameter."""
        gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, gradients, strict=True)]

    def _sum(self, value: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        if self._processes == 1:
            return value
        from accelerate.utils import reduce

        return reduce(value, "sum")

    def any_of_all(self, own: bool) -> bool:
        """Whether any process says so. All must call this; none goes on before the last one has."""
        if self._processes == 1:
            return own
        return bool(self._sum(torch.tensor(float(own), device=self.parameters[0].device)) > 0)

    def save(self, path: Path, identity: str) -> None:
        """Everything that is needed to go on to the same bytes, in a file for its owner alone.

        Args:
            identity: of the model, the pictures and the settings; a salted hash of it is kept.

        Raises:
            EdgeSdkError: the disk is full or the place not writable; an older state is still whole.
        """
        tensors = {f"parameter.{name}": value.detach() for name, value in self.trainable.parameters.items()}
        for k, adam in enumerate(self.optimizer.directions):
            for name, m, v in zip(self.trainable.parameters, adam.m, adam.v, strict=True):
                tensors |= {f"m{k}.{name}": m, f"v{k}.{name}": v}
        history, salt = json.dumps([asdict(step) for step in self.history]), secrets.token_hex(16)
        with replacing(path) as temporary:
            tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
            metadata = {"identity": salted(identity, salt), "salt": salt, "history": history}
            save_tensors(tensors, temporary, metadata)

    def restore(self, path: Path, identity: str) -> None:
        """Go on where `save` left off.

        Raises:
            EdgeSdkError: the state is of another run, or damaged.
        """
        try:
            check_input(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                salt = metadata.get("salt")  # earlier versions kept the identity itself
                if metadata["identity"] != (identity if salt is None else salted(identity, salt)):
                    raise EdgeSdkError(
                        f"{path} is of a run with other settings, pictures or another model; repeat those, or remove "
                        f"{path.parent} to start anew"
                    )
                self.history = [UnlearnStep(**step) for step in _history(metadata["history"])]
                for name, parameter in self.trainable.parameters.items():
                    parameter.data.copy_(file.get_tensor(f"parameter.{name}"))
                for k, adam in enumerate(self.optimizer.directions):
                    adam.count = len(self.history)
                    for name, m, v in zip(self.trainable.parameters, adam.m, adam.v, strict=True):
                        m.copy_(file.get_tensor(f"m{k}.{name}"))
                        v.copy_(file.get_tensor(f"v{k}.{name}"))
        except EdgeSdkError:
            raise
        except Exception as error:  # safetensors' and ours, of a damaged file
            raise EdgeSdkError(f"{path} is damaged; remove {path.parent} to start anew") from error


def _history(text: str) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = parse_json(text, infinity=True)
    check(history, _HISTORY)
    if [step["step"] for step in history] != list(range(1, len(history) + 1)):
        raise ValueError("the steps are not numbered from 1")
    return history
