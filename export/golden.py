"""Golden vectors of a bundle: PyTorch's outputs on the weights that the graphs have, and what the graphs are worth.

The reference is `edge_sdk.diffusion` with the same integers and float activations (`fused`), or float weights.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from edge_sdk.diffusion.conditioning import add_time_ids
from edge_sdk.diffusion.prompts import TEMPLATES
from edge_sdk.export.cases import listed, value_of
from edge_sdk.export.graphs import Networks
from edge_sdk.runtime.pytorch.model import Model
from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective
from edge_sdk.zo import Draw, Stream, fast

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # inputs of a graph by name -> outputs by name
Bounds = dict[str, dict[str, float]]  # largest relative difference, by graph ("*" for all others) and runtime
LISTED = 1024  # values of an output that are listed
PLACEHOLDER = "<subject>"


class Reference:
    """A model as PyTorch runs it, and inputs made by the portable generator.

    Args:
        side: of pictures in pixels.
        seed: of the inputs.
        vectors: K, of the token.
        rows: that a call of `zo_loss` takes, each on a picture and with a token of its own.
    """

    def __init__(self, model: Model, side: int, seed: int, vectors: int = 1, rows: int = 1) -> None:
        self.model, self.seed, self.text = model, seed, model.load_text()
        self.vectors, self.rows = vectors, rows
        self.networks = networks = Networks.of(model, self.text, side)
        self.kind = "pocket" if model.is_pocket else "object"
        prompt = TEMPLATES[self.kind][0].format(PLACEHOLDER)
        self.ids = torch.from_numpy(self.text.tokenize([prompt], {PLACEHOLDER: vectors}))  # (1, T)
        self.sizes = torch.from_numpy(add_time_ids([(networks.side, networks.side)], (networks.side, networks.side)))

    def ids_of(self, count: int) -> np.ndarray:
        """Ids of some rows (count, T): those of row b name the vectors from b K on, in every encoder's section."""
        lengths = [config.max_position_embeddings for config in self.networks.text]
        words = np.repeat([config.vocab_size for config in self.networks.text], lengths)  # (T,)
        ids = np.repeat(self.ids.numpy(), count, axis=0)
        return np.where(ids >= words, ids + self.vectors * np.arange(count)[:, None], ids)

    def prompt_inputs(self, learned: dict[str, Any], rows: int) -> dict[str, Any]:
        inputs = {"input_ids": listed(self.ids_of(rows)), "learned": learned}
        return inputs | ({"sizes": listed(self.sizes.numpy().repeat(rows, 0))} if self.networks.is_xl else {})

    def random(self, step: int, shape: Sequence[int], scale: float = 1.0, **more: Any) -> dict[str, Any]:
        """A random input: ``step`` tells it from the others."""
        source = {"seed": self.seed, "stream": int(Stream.NOISE), "step": step}
        return {"shape": list(shape), "dtype": "float32", "normals": source, "scale": scale, **more}

    def objective(self) -> StableDiffusionObjective:
        """The loss on latents that are standard normal, as `zo_loss` computes it; a picture a row of a call."""
        latents = torch.from_numpy(value_of(self.random(0, (self.rows, *self.networks.latents))))
        return StableDiffusionObjective(
            self.text,
            self.model.load("unet"),
            self.networks.schedule,
            Latents(latents, torch.zeros_like(latents)),
            self.ids.numpy(),
            self.vectors,
            self.sizes.numpy().repeat(self.rows, 0),
        )

    def draw(self, timestep: int, row: int = 0) -> Draw:
        """On a row's picture, with its noise."""
        noise = value_of(self.random(1, (row + 1, *self.networks.latents)))[row]
        return Draw(row, 0, timestep, noise, np.zeros_like(noise))

    @cached_property
    def std(self) -> float:
        """The vocabulary's standard deviation; it takes a look at the whole table."""
        return self.text.vocabulary_std()

    @cached_property
    def principal(self) -> np.ndarray:
        """The vocabulary's principal directions in the optimizer's variable, (R, D) float32; another look."""
        return self.text.principal_directions(fast(1.0, self.text.width).zo_directions)

    def variable(self, step: int) -> np.ndarray:
        """A token (K, D) of the vocabulary's size, as the optimizer's variable."""
        return self.variables(step, 1)[0]

    def variables(self, step: int, count: int) -> np.ndarray:
        """Tokens (count, K, D); the first is that of `variable`."""
        flat = value_of(self.random(step, (count * self.vectors, self.text.width), self.std))
        return flat.reshape(count, self.vectors, -1)


def golden_cases(reference: Reference, bounds: Bounds) -> list[dict[str, Any]]:
    """Cases for every graph, with their bounds; the denoiser and the VAE are in memory one after the other."""
    cases = []
    networks, last = reference.networks, reference.networks.schedule.num_train_timesteps - 1
    with torch.inference_mode():
        cases += _text_and_losses(reference, [last // 10, last // 2, last])
        vae = reference.model.load("vae")
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        pixels = reference.random(5, (1, 3, networks.side, networks.side), 0.5, clip=[-1.0, 1.0])
        mean, std = vae.encode(torch.from_numpy(value_of(pixels)))
        outputs = {"mean": (mean - shift) * scale, "std": std * scale}
        cases.append(_case("vae_encoder", {"pixels": pixels}, outputs))
        latents = reference.random(0, (1, *networks.latents))
        decoded = vae.decode(torch.from_numpy(value_of(latents)) / scale + shift)
        cases.append(_case("vae_decoder", {"latents": latents}, {"pixels": decoded}))
    for case in cases:
        case["bounds"] = bounds.get(case["graph"], bounds["*"])
    return cases


def _text_and_losses(reference: Reference, timesteps: list[int]) -> list[dict[str, Any]]:
    networks, text, rows = reference.networks, reference.text, reference.rows
    latents, noise = (reference.random(i, (rows, *networks.latents)) for i in range(2))
    variables, scale = reference.variables(2, rows), np.asarray(text.scale, np.float32)
    learned = listed(variables[0] * scale)
    prompt = reference.prompt_inputs(learned, 1)
    told = text.condition(reference.ids, torch.from_numpy(value_of(learned))[None], reference.sizes)
    hidden = {"hidden": told.hidden} | ({"pooled": told.added[0]} if told.added else {})
    only_text = {name: value for name, value in prompt.items() if name != "sizes"}
    cases = [_case("text_encoder", only_text, hidden)]
    objective = reference.objective()
    of_rows = reference.prompt_inputs(listed(variables.reshape(-1, text.width) * scale), rows)
    for t in timesteps:
        drawn = [reference.draw(t, row) for row in range(rows)]
        residual = objective.residuals(variables, drawn).reshape(rows, *networks.latents)
        loss = (residual.astype(np.float64) ** 2).mean(axis=(1, 2, 3))
        draw = {"latents": latents, "noise": noise, "timestep": listed(np.full(rows, t))}
        cases.append(_case("zo_loss", of_rows | draw, {"loss": loss, "residual": residual}))
    t = timesteps[1]
    time = networks.schedule.times()[[t]]
    noise = reference.random(1, (1, *networks.latents))
    predicted = objective.unet(torch.from_numpy(value_of(noise)), time, *told)
    states = {name: listed(value.numpy()) for name, value in hidden.items()}
    sizes = {name: value for name, value in prompt.items() if name == "sizes"}
    sample = {"sample": noise, "timestep": listed(np.array([t]))}
    cases.append(_case("unet", sample | states | sizes, {"predicted": predicted}))
    return cases


def _case(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    found = {name: listed(np.asarray(value, np.float32), LISTED) for name, value in outputs.items()}
    return {"graph": graph, "inputs": inputs, "outputs": found}


class GraphObjective:
    """A `zo_loss` graph as an objective on the reference's first picture and its prompt.

    Args:
        run: the graph, for as many rows as the reference has; a call that is not full repeats its last one.
    """

    num_images = num_prompts = 1

    def __init__(self, reference: Reference, run: Run) -> None:
        self._run, self._scale, self._rows = run, np.asarray(reference.text.scale, np.float32), reference.rows
        latents = value_of(reference.random(0, (1, *reference.networks.latents)))
        self._fixed = {"input_ids": reference.ids_of(self._rows), "latents": latents.repeat(self._rows, 0)}
        if reference.networks.is_xl:
            self._fixed["sizes"] = reference.sizes.numpy().repeat(self._rows, 0)
        self.num_train_timesteps = reference.networks.schedule.num_train_timesteps
        self.latents_shape = reference.networks.latents
        self.embedding_shape = (reference.vectors, reference.text.width)

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return np.concatenate(self._calls("loss", embeddings, draws)).astype(np.float64)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        return np.concatenate(self._calls("residual", embeddings, draws)).reshape(len(draws), -1)

    def _calls(self, output: str, embeddings: np.ndarray, draws: Sequence[Draw]) -> list[np.ndarray]:
        starts, size = range(0, len(draws), self._rows), self._rows
        return [
            self._run(self.inputs(embeddings[i : i + size], draws[i : i + size]))[output][: len(draws) - i]
            for i in starts
        ]

    def inputs(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> dict[str, np.ndarray]:
        """What the graph is given for embeddings (B, K, D) of the optimizer on B draws, of at most a call's rows."""
        row = np.minimum(np.arange(self._rows), len(draws) - 1)
        learned = (embeddings[row] * self._scale).reshape(-1, self.embedding_shape[1])
        noise = np.stack([draws[r].noise for r in row])
        return self._fixed | {
            "noise": noise,
            "timestep": np.array([draws[r].timestep for r in row]),
            "learned": learned,
        }
