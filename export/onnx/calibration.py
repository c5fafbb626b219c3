"""Ranges of activations, from noise and from what the model itself generates: no user's photo is ever in them."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from edge_sdk.diffusion.prompts import TEMPLATES
from edge_sdk.export.golden import PLACEHOLDER, Reference
from edge_sdk.export.graphs import Graph
from edge_sdk.export.onnx.qdq import EMBEDDING
from edge_sdk.export.onnx.qnn import SHARED, Ranges, ops_of, session
from edge_sdk.export.onnx.rounding import STANDARD, Range, Recipe
from edge_sdk.export.presets import initializers
from edge_sdk.export.weight_file import WeightFile
from edge_sdk.export.weights import Weights
from edge_sdk.runtime.pytorch.generate import condition, decode, denoise
from edge_sdk.system.memory import release
from edge_sdk.zo import fast

Inputs = dict[str, np.ndarray]
STREAM = 27  # of numpy's generator, beside the seed
GUIDANCE = 4.0
LARGE = 1024  # h w of latents
TABLE_ROOM = 2.0  # learned vectors may go beyond the largest number of the vocabulary by this factor


def is_large(reference: Reference) -> bool:
    """Whether a forward pass takes seconds."""
    return reference.networks.latents[1] * reference.networks.latents[2] >= LARGE


class Samples:
    """Latents that the model generates, and inputs made of them and of noise.

    Args:
        count: of pictures; fewer where they are large.
        steps: of the sampler for each.
    """

    def __init__(self, reference: Reference, count: int | None = None, steps: int = 12) -> None:
        self.reference, self.random = reference, np.random.default_rng([reference.seed, STREAM])
        count = count or (2 if is_large(reference) else 8)
        text, kind = reference.text, "pocket" if reference.kind == "pocket" else "object"
        self.words = list(initializers([text])) or ["a"]  # type: ignore[list-item]
        self.prompts = [template.format(PLACEHOLDER) for template in TEMPLATES[kind]]
        prompts = [self._choice(self.prompts).replace(PLACEHOLDER, self._choice(self.words)) for _ in range(count)]
        noise = self._normal((count, *reference.networks.latents))
        unet = reference.model.load("unet")
        drawn = [
            denoise(unet, reference.networks.schedule, *condition(text, [prompt], "", []), one[None], steps, GUIDANCE)
            for prompt, one in zip(prompts, noise, strict=True)
        ]
        self.latents = torch.cat(drawn).numpy()  # (N, C, h, w)

    def losses(self, rows: int, count: int) -> Iterator[Inputs]:
        """Inputs of `zo_loss`: timesteps evenly over all, tokens that are words moved along the principal directions.

        Every fourth row has noise for latents, and every fourth a token of noise.
        """
        reference, text = self.reference, self.reference.text
        total = reference.networks.schedule.num_train_timesteps
        times = self.random.permutation((2 * np.arange(count) + 1) * total // (2 * count))
        radius = fast(reference.std, text.width).trust_radius
        scale, k = np.asarray(text.scale, np.float32), reference.vectors
        for first in range(0, count, rows):
            ids, learned = [], []
            for row in range(rows):
                prompt = text.tokenize([self._choice(self.prompts)], {PLACEHOLDER: k})
                ids.append(np.where(prompt >= text.vocab_size, prompt + row * k, prompt))  # type: ignore[attr-defined]
                token = text.initial_embedding(self._choice(self.words), k)
                move = self._normal((k, len(reference.principal)))
                move *= self.random.uniform(0, 2) * radius / max(float(np.linalg.norm(move)), 1e-12)
                token = token / scale + move @ reference.principal
                if row % 4 == 1:
                    token = self._normal(token.shape) * reference.std
                learned.append(token * scale)
            latents = self.latents[self.random.integers(len(self.latents), size=rows)]
            noise = self._normal((2, rows, *reference.networks.latents))
            latents[::4] = noise[1, ::4]
            yield {
                "input_ids": np.concatenate(ids),
                "learned": np.concatenate(learned).astype(np.float32),
                "latents": latents,
                "noise": noise[0],
                "timestep": times[first : first + rows].astype(np.int64),
            }

    def pictures(self) -> Iterator[Inputs]:
        """Inputs of the VAE's encoder: what the decoder makes of the samples, and noise."""
        for pixels in decode(self.reference.model.load("vae"), torch.from_numpy(self.latents)):
            yield {"pixels": (pixels.transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32)}
        side = self.reference.networks.side
        yield {"pixels": np.clip(self._normal((1, 3, side, side)) / 2, -1, 1)}

    def decoded(self) -> Iterator[Inputs]:
        """Inputs of the VAE's decoder."""
        yield from ({"latents": one[None]} for one in self.latents)
        yield {"latents": self._normal((1, *self.reference.networks.latents))}

    def _choice(self, values: list[str]) -> str:
        return values[self.random.integers(len(values))]

    def _normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.standard_normal(shape, dtype=np.float32)


def observed(
    name: str, graph: Graph, weights: Callable[[str], Weights], calls: Iterable[Inputs], recipe: Recipe
) -> dict[str, Range]:
    """Ranges of all places of a graph, run with float activations on integer weights."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with WeightFile(folder / "weights.bin") as file:
            ops = ops_of(graph, weights, file, None)
            names = [output for place, value in ops.places.items() for output in ops.observe(value, place)]
            ops.rename()
            outputs = {output: ((None,), "float32") for output in names}
            (folder / f"{name}.onnx").write_bytes(ops.model(name, graph.inputs, outputs))  # type: ignore[arg-type]
        opened = session(folder / f"{name}.onnx")
        rows = np.concatenate([np.stack(opened.run(names, call)) for call in calls], axis=1)  # (2 places, rows)
        del opened
    least = np.quantile(rows[::2], 1 - recipe.quantile, axis=1) * recipe.room
    most = np.quantile(rows[1::2], recipe.quantile, axis=1) * recipe.room
    return {place: (float(low), float(high)) for place, low, high in zip(ops.places, least, most, strict=True)}


def calibrate(
    reference: Reference,
    graphs: dict[str, Graph],
    weights: Callable[[str], Weights],
    samples: Samples,
    count: int | None = None,
    recipe: Recipe = STANDARD,
) -> Ranges:
    """Ranges of every graph's activations.

    Args:
        graphs: of fixed sizes, by name.
        count: rows of `zo_loss` to look at; by default 132, or 12 where latents are large.
    """
    count = count or (12 if is_large(reference) else 132)
    rows = graphs["zo_loss"].inputs["timestep"][0][0]
    assert isinstance(rows, int)
    calls = {
        "zo_loss": lambda: samples.losses(rows, -(-count // rows) * rows),
        "vae_encoder": samples.pictures,
        "vae_decoder": samples.decoded,
    }
    ranges: Ranges = {}
    for name, make in calls.items():
        ranges[name] = observed(name, graphs[name], weights, make(), recipe)
        release()
    largest = TABLE_ROOM * max(float(np.abs(weights(part).table()).max()) for part in reference.model.text_encoders)
    ranges["zo_loss"] |= {EMBEDDING: (-largest, largest), "input.learned": (-largest, largest)}
    ranges |= {name: ranges[whole] for name, whole in SHARED.items()}
    return ranges | {"unet": _of_unet(graphs, weights, ranges["zo_loss"])}


def _of_unet(graphs: dict[str, Graph], weights: Callable[[str], Weights], ranges: dict[str, Range]) -> dict[str, Range]:
    """What the denoiser is given where it is alone: the text encoder's last result, and latents with noise."""
    with tempfile.TemporaryDirectory() as place, WeightFile(Path(place) / "weights.bin") as file:
        hidden = list(ops_of(graphs["text_encoder"], weights, file, None).places)[-1]
    sample = [name for name in ranges if name.startswith("text_encoder.")][-1]
    return ranges | {"input.hidden": ranges[hidden], "input.sample": ranges[sample]}
