"""What trains the benchmarks' small models: AdamW, an average of the weights that ships, checkpoints to go on from."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edge_sdk.system.memory import use_cuda

MOMENTS = ("exp_avg", "exp_avg_sq")
WARM_UP = 200  # steps


class Trainer:
    """A module in training.

    Attributes:
        average: exponential moving average of the weights, by name; what ships.
        running: loss of about the last hundred steps.
        seconds: what the trainer was told at the last checkpoint.
    """

    def __init__(self, module: nn.Module, learning_rate: float, decay: float = 0.999, device: str = "cpu") -> None:
        if device == "cuda":
            use_cuda()
        self.module = module.to(device, memory_format=torch.channels_last)
        self.average = {name: value.clone() for name, value in module.state_dict().items()}
        self.step, self.running, self.seconds = 0, 1.0, 0.0
        self._rate, self._decay = learning_rate, decay
        self._optimizer = torch.optim.AdamW(
            module.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )

    def run(
        self, loss: Callable[[np.random.Generator], torch.Tensor], steps: int, seed: int, state: Path, save_every: int
    ) -> None:
        """Train to a number of steps, from the checkpoint ``state`` if there is one.

        Args:
            loss: of one batch, given random numbers of that step's own.
        """
        begun = time.monotonic()
        self.restore(state)
        size = sum(p.numel() for p in self.module.parameters()) / 1e6
        print(f"{size:.2f} M parameters, from step {self.step}", flush=True)
        while self.step < steps:
            self.descend(loss(np.random.default_rng([seed, self.step])), self.step / steps)
            if self.step % 200 == 0:
                seconds = time.monotonic() - begun
                print(f"step {self.step} loss {self.running:.4f} seconds {seconds:.0f}", flush=True)
            if self.step % save_every == 0 or self.step == steps:
                self.save(state)

    def descend(self, loss: torch.Tensor, done: float, fall: float = 0.3) -> None:
        """One step.

        Args:
            done: share of the training that lies behind; the rate falls to 0 over the last ``fall`` of it.
        """
        rate = self._rate * min(1, (self.step + 1) / WARM_UP) * min(1, (1 - done) / fall + 0.01)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self._optimizer.step()
        decay = min(self._decay, (self.step + 1) / (self.step + 10))
        for name, value in self.module.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.step, self.running = self.step + 1, 0.99 * self.running + 0.01 * loss.item()

    def save(self, path: Path, seconds: float = 0.0) -> None:
        """Everything that is needed to go on, but for the caller's random numbers."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for name, parameter in self.module.named_parameters():
            tensors[f"weight.{name}"] = parameter.detach()
            tensors |= {f"{key}.{name}": self._optimizer.state[parameter][key] for key in MOMENTS}
        temporary = path.with_suffix(".tmp")
        about = {"step": str(self.step), "seconds": str(seconds)}
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, about)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one."""
        if not path.exists():
            return
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            about = file.metadata()
        self.step, self.seconds = int(about["step"]), float(about.get("seconds", 0))
        for name, parameter in self.module.named_parameters():
            parameter.data.copy_(tensors[f"weight.{name}"])
            moments = {key: torch.empty_like(parameter).copy_(tensors[f"{key}.{name}"]) for key in MOMENTS}
            self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step)).to(parameter.device), **moments}
        for name, value in self.average.items():
            value.copy_(tensors[f"average.{name}"])


def stratified_timesteps(count: int, timesteps: int, rng: np.random.Generator) -> torch.Tensor:
    """One timestep in each of ``count`` equal ranges, (count,) int64."""
    return torch.from_numpy(((np.arange(count) + rng.random(count)) / count * timesteps).astype(np.int64))
