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
from edge_sdk.runtime.rows import rows_of_ids
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
        search_basis: of `searched`, see `edge_sdk.config.PersonalizeConfig`.

    Attributes:
        rows: of a call of `zo_loss`, where that is fixed; the text encoder and the denoiser then take two.
    """

    rows: int | None = None

    def __init__(self, model: Model, side: int, seed: int, vectors: int = 1, search_basis: str | None = None) -> None:
        self.model, self.seed, self.text = model, seed, model.load_text()
        self.vectors, self.search_basis = vectors, search_basis
        self.networks = networks = Networks.of(model, self.text, side)
        self.kind = "pocket" if model.is_pocket else "object"
        prompt = TEMPLATES[self.kind][0].format(PLACEHOLDER)
        self.ids = torch.from_numpy(self.text.tokenize([prompt], {PLACEHOLDER: vectors}))  # (1, T)
        self.sizes = torch.from_numpy(add_time_ids([(networks.side, networks.side)], (networks.side, networks.side)))

    def prompt_inputs(self, learned: dict[str, Any]) -> dict[str, Any]:
        inputs = {"input_ids": listed(self.ids.numpy()), "learned": learned}
        return inputs | self.sizes_of(1)

    def sizes_of(self, rows: int) -> dict[str, Any]:
        """The input that only SDXL has."""
        return {"sizes": listed(self.sizes.numpy().repeat(rows, 0))} if self.networks.is_xl else {}

    def random(self, step: int, shape: Sequence[int], scale: float = 1.0, **more: Any) -> dict[str, Any]:
        """A random input: ``step`` tells it from the others."""
        source = {"seed": self.seed, "stream": int(Stream.NOISE), "step": step}
        return {"shape": list(shape), "dtype": "float32", "normals": source, "scale": scale, **more}

    def objective(self) -> StableDiffusionObjective:
        """The loss on latents that are standard normal, as `zo_loss` computes it."""
        latents = torch.from_numpy(value_of(self.random(0, (self.rows or 1, *self.networks.latents))))
        return StableDiffusionObjective(
            self.text,
            self.model.load("unet"),
            self.networks.schedule,
            Latents(latents, torch.zeros_like(latents)),
            self.ids.numpy(),
            self.vectors,
            np.repeat(self.sizes.numpy(), self.rows or 1, axis=0),
        )

    def draws(self, timestep: int) -> list[Draw]:
        """A draw for each row, of a picture of its own."""
        noise = value_of(self.random(1, (self.rows or 1, *self.networks.latents)))
        return [Draw(row, 0, timestep, one, np.zeros_like(one)) for row, one in enumerate(noise)]

    def ids_of_rows(self, rows: int) -> np.ndarray:
        """The prompt in each row, (B, T) int64, which names vectors of its own."""
        first = np.concatenate([np.full(one.length, one.vocab_size) for one in self.text.tokenizers])
        return rows_of_ids(np.repeat(self.ids.numpy(), rows, axis=0), first, self.vectors)

    @cached_property
    def std(self) -> float:
        """The vocabulary's standard deviation; it takes a look at the whole table."""
        return self.text.vocabulary_std()

    @cached_property
    def searched(self) -> np.ndarray:
        """The directions that `fast` searches, in the optimizer's variable, (R, D) float32; another look."""
        return self.text.search_directions(fast(1.0, self.text.width).zo_directions, self.search_basis)

    def variable(self, step: int) -> np.ndarray:
        """A token (K, D) of the vocabulary's size, as the optimizer's variable."""
        return self.variables(step, 1)[0]

    def variables(self, step: int, count: int) -> np.ndarray:
        """Tokens (B, K, D)."""
        flat = value_of(self.random(step, (count * self.vectors, self.text.width), self.std))
        return flat.reshape(count, self.vectors, -1)


def golden_cases(reference: Reference, bounds: Bounds, graphs: dict[str, Any]) -> list[dict[str, Any]]:
    """Cases for every graph, with their bounds; the denoiser and the VAE are in memory one after the other.

    Args:
        graphs: as the manifest describes them: a case has the outputs of its graph.
    """
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
        case["outputs"] = {name: case["outputs"][name] for name in graphs[case["graph"]]["outputs"]}
    return cases


def _text_and_losses(reference: Reference, timesteps: list[int]) -> list[dict[str, Any]]:
    networks, text, rows = reference.networks, reference.text, reference.rows or 1
    latents, noise = (reference.random(i, (rows, *networks.latents)) for i in range(2))
    variables = reference.variables(2, rows)
    scaled = variables * np.asarray(text.scale, np.float32)
    learned = listed(scaled.reshape(-1, text.width))
    prompt = reference.prompt_inputs(learned)
    pair = 1 if reference.rows is None else 2
    told = text.condition(reference.ids, torch.from_numpy(scaled[:1]), reference.sizes).repeated(pair)
    prompt["input_ids"] = listed(np.repeat(reference.ids.numpy(), pair, axis=0))
    hidden = {"hidden": told.hidden} | ({"pooled": told.added[0]} if told.added else {})
    only_text = {name: value for name, value in prompt.items() if name != "sizes"}
    cases = [_case("text_encoder", only_text, hidden)]
    objective = reference.objective()
    prompt |= {"input_ids": listed(reference.ids_of_rows(rows))} | reference.sizes_of(rows)
    for t in timesteps:
        residual = objective.residuals(variables, reference.draws(t)).reshape(rows, *networks.latents)
        outputs = {"loss": (residual.astype(np.float64) ** 2).mean(axis=(1, 2, 3)), "residual": residual}
        draw = {"latents": latents, "noise": noise, "timestep": listed(np.full(rows, t))}
        cases.append(_case("zo_loss", prompt | draw, outputs))
    t = timesteps[1]
    time = networks.schedule.times()[[t] * pair]
    noise = reference.random(1, (pair, *networks.latents))
    predicted = objective.unet(torch.from_numpy(value_of(noise)), time, *told)
    states = {name: listed(value.numpy()) for name, value in hidden.items()}
    sizes = reference.sizes_of(pair)
    sample = {"sample": noise, "timestep": listed(np.full(pair, t))}
    cases.append(_case("unet", sample | states | sizes, {"predicted": predicted}))
    return cases


def _case(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    found = {name: listed(np.asarray(value, np.float32), LISTED) for name, value in outputs.items()}
    return {"graph": graph, "inputs": inputs, "outputs": found}


class GraphObjective:
    """A `zo_loss` graph as an objective on the reference's latents and prompt.

    Args:
        run: the graph, for one row or for as many as the reference has.
    """

    num_images = num_prompts = 1

    def __init__(self, reference: Reference, run: Run) -> None:
        self._run, self._scale = run, np.asarray(reference.text.scale, np.float32)
        self.rows = rows = reference.rows or 1
        latents = value_of(reference.random(0, (1, *reference.networks.latents)))
        self._fixed = {"input_ids": reference.ids_of_rows(rows), "latents": np.repeat(latents, rows, axis=0)}
        if reference.networks.is_xl:
            self._fixed["sizes"] = np.repeat(reference.sizes.numpy(), rows, axis=0)
        self.num_train_timesteps = reference.networks.schedule.num_train_timesteps
        self.latents_shape = reference.networks.latents
        self.embedding_shape = (reference.vectors, reference.text.width)

    def losses(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        outputs = self._calls(embeddings, draws)
        if "loss" in outputs[0]:
            return np.concatenate([each["loss"] for each in outputs])[: len(draws)].astype(np.float64)
        return (self.residuals(embeddings, draws).astype(np.float64) ** 2).mean(axis=1)

    def residuals(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> np.ndarray:
        rows = np.concatenate([each["residual"] for each in self._calls(embeddings, draws)])
        return rows[: len(draws)].reshape(len(draws), -1)

    def _calls(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> list[dict[str, np.ndarray]]:
        """What the graph gives, call by call; the last one is filled with its last row."""
        out = []
        for first in range(0, len(draws), self.rows):
            chosen = np.minimum(np.arange(first, first + self.rows), len(draws) - 1)
            out.append(self._run(self.inputs(embeddings[chosen], [draws[row] for row in chosen])))
        return out

    def inputs(self, embeddings: np.ndarray, draws: Sequence[Draw]) -> dict[str, np.ndarray]:
        """What the graph is given for embeddings (B, K, D) of the optimizer on a draw each."""
        draw = {"noise": np.stack([d.noise for d in draws]), "timestep": np.array([d.timestep for d in draws])}
        return self._fixed | draw | {"learned": np.concatenate(embeddings * self._scale)}
