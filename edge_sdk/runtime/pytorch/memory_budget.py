"""``memory_budget_mb``: an estimate of a run's peak memory from configs alone, and the settings that stay below it.

All figures are MB (10^6 bytes) of resident memory of the whole process. A run is a row of stages, and its peak is the
largest of them: the photos through the VAE, training, and for a preview its pictures through denoiser and VAE. Each
stage is what the process holds already, the weights that are in memory then, and activations. Sizes of weights are
exact: the modules are built without weights. Activations are counted at the places where most of them live at once;
the counts were fitted to measured peaks, and are meant to err upwards.
"""

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.memory import rss_mb

if TYPE_CHECKING:
    from edge_sdk.runtime.pytorch.model import Model

BATCHES = (16, 8, 4, 2, 1)  # rows a call, what is tried
BATCHES_BESIDE = (33, 17, 9, 5, 3, 2)  # the same of rows beside a base: a step of 33 in 1, 2, 4, 8, 16 or 32 calls
BASE_ROWS = 3.6  # rows that take as much as a base, what its layers computed in a stage, and the row at hand
QUANTO_MB = 10  # what quantizing float weights imports
MODULES_MB = 40  # objects of the modules, tokenizer, photos, the allocator's free blocks
IMPORTED_MB = 40  # code that only imports ran, let go before a part of an integer checkpoint is loaded
TILES_MB = 16  # columns and tiles of the kernels
WHOLE, BANDS = 3.1, 25  # activations of the VAE's encoder at its peak; MB of the bands themselves
DECODER = 5.4  # full-size activations of the decoder at its peak
TEXT = 8.0  # hidden layers of the text encoder at their peak


@dataclass(frozen=True)
class Choice:
    """How to run within a budget."""

    residency: str
    max_batch: int
    preview: bool  # whether preview.png can be drawn as well
    estimate_mb: float

    def __str__(self) -> str:
        rows = f"{self.max_batch} row{'s' if self.max_batch > 1 else ''} a call"
        return f"weights {self.residency}, {rows}, an estimated peak of {self.estimate_mb:.0f} MB"


@dataclass(frozen=True)
class _Weights:
    """Bytes of one part, or of several that are loaded together, in MB."""

    integers: float  # what is streamed
    largest: float  # of these, in one layer
    table: float  # the token embeddings
    rest: float

    def held(self, residency: str) -> float:
        """What is in memory between calls, the largest layer of a call included."""
        return self.rest + (self.largest if residency == "streamed" else self.integers + self.table)


class Estimator:
    """The stages of a personalization run of a model at one resolution.

    Args:
        side: of a photo in pixels.
        base_mb: what the process holds before any weight is loaded; measured by default.
    """

    def __init__(self, model: "Model", side: int, base_mb: float | None = None) -> None:
        self.model, self.is_difference = model, model.activations == "difference"
        parts = {part: model.shapes(part) for part in model.parts}
        self.unet, self.vae = parts["unet"].config, parts["vae"].config
        encoders = [parts[part] for part in model.text_encoders]
        self.text = max((encoder.config for encoder in encoders), key=lambda config: config.intermediate_size)
        self.weights = {"text": _sizes(*encoders), "unet": _sizes(parts["unet"]), "vae": _sizes(parts["vae"])}
        self.pixels = side * side
        self.latents = (side // model.vae_scale()) ** 2
        quantizes = not model.stored_as_integers and model.weights != "none" and "optimum" not in sys.modules
        self.base_mb = (rss_mb() if base_mb is None else base_mb) + MODULES_MB + (QUANTO_MB if quantizes else 0)
        self.base_mb -= IMPORTED_MB if model.stored_as_integers else 0

    def training(self, residency: str, rows: int) -> float:
        """The peak up to the last step, ``rows`` at a time through the denoiser."""
        text, unet, vae = (self.weights[part] for part in ("text", "unet", "vae"))
        encoding = self.base_mb + text.held(residency) + vae.held(residency) + self._encode(residency)
        reading = self.base_mb + text.held(residency) + text.table + unet.rest  # of the whole vocabulary
        return max(encoding, reading, self._denoising(residency, rows))

    def preview(self, residency: str, rows: int) -> float:
        """The peak of drawing ``rows`` guided pictures afterwards, one at a time through the VAE."""
        text, vae = self.weights["text"], self.weights["vae"]
        decode = DECODER * 4e-6 * self.vae.block_out_channels[0] * self.pixels
        decoding = self.base_mb + text.held(residency) + vae.held(residency) + decode
        return max(decoding, self._denoising(residency, 2 * rows, True))

    def validation(self, residency: str) -> float:
        """The peak of drawing a guided picture in the middle of a run: the VAE comes beside all that training holds."""
        held = sum(self.weights[part].held(residency) for part in ("text", "unet", "vae"))
        decode = DECODER * 4e-6 * self.vae.block_out_channels[0] * self.pixels
        return max(self.base_mb + held + TILES_MB + decode, self._denoising(residency, 2, True))

    def _denoising(self, residency: str, rows: int, pictures: bool = False) -> float:
        held = self.weights["text"].held(residency) + self.weights["unet"].held(residency)
        text = TEXT * 4e-6 * self.text.max_position_embeddings * self.text.intermediate_size
        row, beside = (4e-6 * elements for elements in self._denoiser_elements())
        alone = self.base_mb + held + TILES_MB + rows * (text + row)
        if not self.is_difference or pictures:
            return alone
        return self.base_mb + held + TILES_MB + rows * text + BASE_ROWS * row + (rows - 1) * beside

    def _denoiser_elements(self) -> tuple[float, float]:
        """Floats of one row where most are alive: on the way up, with the skips still to be used.

        The second number is of a row beside a base between two stages: its activation, and skips of a byte a number.

        There a residual block has its input with its skip, joined and normalized where they are small, and its output
        twice; attention has its input three times, keys and values; an upsampled input is there beside its output.
        """
        from edge_sdk.diffusion.networks.unet_blocks import WHOLE_ELEMENTS

        config, levels = self.unet, len(self.unet.down_blocks)
        area = [self.latents / 4**i for i in range(levels)]
        skips: list[tuple[int, float]] = []  # the first is computed again when it is used
        for i, block in enumerate(config.down_blocks):
            skips += [(block.channels, area[i])] * len(block.depths)
            skips += [(block.channels, area[i + 1])] if i < levels - 1 else []
        most, beside, before = 0.0, 0.0, config.block_out_channels[-1]
        for pixels, up in zip(reversed(area), config.up_blocks, strict=True):
            outer = up.channels
            for _ in up.depths:
                inner = before + (skips.pop()[0] if skips else config.block_out_channels[0])
                waiting = sum(channels * size for channels, size in skips)
                copies = 3 if inner * pixels <= WHOLE_ELEMENTS else 1
                alive = max(copies * inner + 2 * outer, inner + before, 5 * outer)
                most = max(most, pixels * alive + waiting)
                beside = max(beside, pixels * max(before, outer) + waiting / 4)
                before = outer
        return most, beside

    def _encode(self, residency: str) -> float:
        channels = self.vae.block_out_channels
        whole = 4e-6 * channels[0] * self.pixels
        if residency == "streamed":
            from edge_sdk.diffusion.networks.vae import WHOLE_ELEMENTS

            last = 4e-6 * channels[-1] * self.latents  # no level after it, so never in bands
            return min(WHOLE * whole, WHOLE * max(last, 4e-6 * WHOLE_ELEMENTS) + BANDS) + TILES_MB
        return WHOLE * whole + TILES_MB


def choose(
    model: "Model",
    side: int,
    budget_mb: float,
    residency: str | None = None,
    max_batch: int | None = None,
    preview_rows: int = 0,
    estimator: Estimator | None = None,
    validates: bool = False,
) -> Choice:
    """The fastest way to personalize within a budget; nothing large is allocated.

    Weights are resident if they fit, else streamed, which only an integer checkpoint can be; then as many rows a call
    as fit. What the user has named is kept. ("mapped" leaves it to the system how much of the file is in memory, so it
    is counted like "resident" and taken only if named.)

    Args:
        preview_rows: pictures in a row of the preview, 0 for none.
        validates: a picture is drawn while the run learns; it must fit.

    Raises:
        EdgeSdkError: the budget is no positive number, or the leanest way does not fit.
    """
    if not (budget_mb > 0 and math.isfinite(budget_mb)):
        raise EdgeSdkError(f"memory_budget_mb is {budget_mb:g}; it must be above 0")
    stages = estimator or Estimator(model, side)
    kinds = (residency,) if residency else ("resident", "streamed") if model.stored_as_integers else ("resident",)
    batches = (max_batch,) if max_batch else BATCHES_BESIDE if stages.is_difference else BATCHES
    ways = [
        (max(stages.training(kind, rows), stages.validation(kind) if validates else 0), kind, rows)
        for kind in kinds
        for rows in batches
    ]
    for needed, kind, rows in ways:
        if needed <= budget_mb:
            drawing = stages.preview(kind, preview_rows)
            drawn = preview_rows > 0 and drawing <= budget_mb
            return Choice(kind, rows, drawn, max(needed, drawing) if drawn else needed)
    needed, kind, rows = min(ways)
    raise EdgeSdkError(
        f"memory_budget_mb is {budget_mb:g}; the leanest way here (weights {kind}, {rows} a call) needs an estimated "
        f"{math.ceil(needed)} MB; give that, {_advice(model, residency, max_batch)}"
    )


def _advice(model: "Model", residency: str | None, max_batch: int | None) -> str:
    if not model.stored_as_integers:
        return "or stream the weights of an integer checkpoint, which edge-sdk quantize makes"
    if residency not in (None, "streamed") or max_batch not in (None, 1):
        return "or leave out --residency and --max_batch"
    return "or a smaller --resolution"


def _sizes(*modules: Any) -> _Weights:
    from edge_sdk.quantization.checkpoint import HALF

    tensors = [item for module in modules for item in module.state_dict().items()]
    sizes = [(name, 1e-6 * tensor.numel() * tensor.element_size()) for name, tensor in tensors]
    integers = [size for name, size in sizes if name.endswith(".q")]
    table = sum(size for name, size in sizes if name.endswith(HALF))
    total = sum(size for _, size in sizes)
    return _Weights(sum(integers), max(integers, default=0.0), table, total - sum(integers) - table)
