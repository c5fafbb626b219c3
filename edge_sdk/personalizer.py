"""Learn a token from a few photos with forward passes only.

    personalizer = Personalizer.from_pretrained("pocket")
    for step in personalizer.fit("my_photos", placeholder_token="<subject>"):
        print(step.step, step.loss)
    personalizer.save("run")

`edge_sdk.personalize` does the same with a run folder (`run_folder.py`): checkpoints, resume, ``run.json``, a preview.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from edge_sdk import mu_floor
from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import GenerateOptions, check_generate_options, generate_on
from edge_sdk.images import skip_notices
from edge_sdk.learning import Learning
from edge_sdk.option_types import Device, Execution, FitOptions, PredictionType, Residency, Weights
from edge_sdk.photos import PhotoSource, read_photos
from edge_sdk.preparation import Prepared, initializer, prepare
from edge_sdk.progress import LOGGER, CountingObjective, OnProgress, Pace, silent
from edge_sdk.runtime.base import Runtime
from edge_sdk.runtime.open import open_runtime
from edge_sdk.runtime.pytorch import memory_budget
from edge_sdk.runtime.pytorch.model import Model
from edge_sdk.system.files import disk_errors, make_folder
from edge_sdk.system.paths import expanded
from edge_sdk.zo import MuFloor, State, evaluate, held_out_draws, run

if TYPE_CHECKING:
    from PIL import Image

HELD_OUT = "measuring the loss on held-out draws"  # the name of a stage


class Personalizer:
    """One model, and the embedding learned last.

    Attributes:
        on_progress: is called with a stage's name, how much of it is done and how much there is (0: not counted).
        notify: is told in one line each what the user should know; by default a warning of the logger "edge_sdk".
    """

    def __init__(self, model: Runtime, memory_budget_mb: float | None = None, residency: str | None = None) -> None:
        """
        Args:
            memory_budget_mb, residency: see `from_pretrained`.
        """
        self.model, self.memory_budget_mb, self.residency = model, memory_budget_mb, residency
        self.config = PersonalizeConfig()
        self.prepared: Prepared | None = None
        self.state: State | None = None
        self.mu_floor: MuFloor | None = None  # what the last `fit` measured
        self.pace = Pace()  # of forward passes that measure
        self.on_progress: OnProgress = silent
        self.notify: Callable[[str], None] = LOGGER.warning  # is told, line by line, what the user should know
        self.validation_prompt: str | None = None  # that a caller will draw with the learned token

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        weights: Weights = "int8",
        execution: Execution = "integer",
        device: Device = "cpu",
        *,
        residency: Residency | None = None,
        memory_budget_mb: float | None = None,
        prediction_type: PredictionType | None = None,
    ) -> "Personalizer":
        """Open "pocket", a diffusers folder, a single file, an integer checkpoint or a hub id; no weight is read yet.

        Args:
            weights: an integer checkpoint has its own, and any other request is refused.
            execution: "integer": products of integers; "fused": float activations on integer weights.
            residency: where the weights of an integer checkpoint are: "resident" (the default), "mapped" or
                "streamed"; see `edge_sdk.quantization.load_component`.
            memory_budget_mb: most resident memory of the process, in 10^6 bytes. It chooses what is not given of
                ``residency`` and of `fit`'s ``max_batch``.
            prediction_type: of a single file that does not say; None for its family's usual one.

        Raises:
            EdgeSdkError: there is no such model, or it cannot be used; see `edge_sdk.runtime.pytorch.model.open_model`.
        """
        runtime = open_runtime(
            str(name_or_path),
            None,
            weights=weights,
            execution=execution,
            device=device,
            residency=residency,
            prediction_type=prediction_type,
        )
        return cls(runtime, memory_budget_mb, residency)

    @classmethod
    def from_bundle(cls, folder: str | Path) -> "Personalizer":
        """Open what ``edge-sdk export`` wrote, for ONNX Runtime; see `edge_sdk.runtime.onnx.model.open_bundle`."""
        return cls(open_runtime(None, folder))

    @classmethod
    def from_pipeline(
        cls, pipe: object, weights: Weights = "int8", execution: Execution = "integer", device: Device = "cpu"
    ) -> "Personalizer":
        """Quantize a pipeline of diffusers that is loaded already; see `edge_sdk.runtime.pytorch.pipeline`.

        The pipeline stays as it is. `LearnedEmbedding.load_into` gives it the word that was learned.
        """
        from edge_sdk.runtime.pytorch.pipeline import open_pipeline

        return cls(open_pipeline(pipe, weights=weights, execution=execution, device=device))

    def fit(
        self, photos: PhotoSource, config: PersonalizeConfig | None = None, **options: Unpack[FitOptions]
    ) -> Learning:
        """Learn from photos, step by step. Close the iterator whenever it is enough.

        Args:
            photos: a folder, or a list of paths, PIL pictures or arrays; see `edge_sdk.photos.read_photos`.
            config: all settings; or give ``options``, any of `PersonalizeConfig` and `ZoConfig` by name.

        The floor of mu is measured first. A ``zo_mu`` below it is refused; a preset's own is raised to it, which
        `Prepared.notices` says.

        Raises:
            EdgeSdkError: at once, before the first step, for anything wrong with photos, model or settings.
        """
        prepared = self.prepare(photos, config or PersonalizeConfig.from_options(**options))
        self.mu_floor = self.calibrate_mu()
        how, preset, mu_min = f"{self.model.weights} {self.model.execution}", prepared.zo, self.mu_floor.mu_min
        if "zo_mu" in self.config.zo_options:
            mu_floor.refuse_below(preset, mu_min, how)
        prepared.zo = mu_floor.raised(preset, mu_min, prepared.vocabulary_std)
        prepared.notices += mu_floor.notices(preset, prepared.zo, mu_min, how)
        if prepared.zo.timestep_range != (0, self.model.num_train_timesteps):
            low, high = prepared.zo.timestep_range
            prepared.notices.append(
                f"the losses of steps are over timesteps {low} to {high - 1}; compare runs by the held-out losses, "
                "which are over all timesteps"
            )
        if idle := preset.without_effect(self.config.zo_options):
            prepared.notices.append(
                f"{', '.join(idle)}: without effect on optimizer {preset.optimizer}, of preset "
                f"{self.config.preset}; leave it out or choose the other --preset"
            )
        start = prepared.initial / prepared.scale
        for message in prepared.notices:
            self.notify(message)
        return self.resume(State.start(prepared.zo, self.config.seed, start, mu_min, prepared.basis))

    def prepare(self, photos: PhotoSource, config: PersonalizeConfig) -> Prepared:
        """All of `fit` up to the first forward pass of the denoiser."""
        if self.memory_budget_mb is not None:
            config, choice = self.limit_memory(config, self.memory_budget_mb)
            self.notify(f"memory budget {self.memory_budget_mb:g} MB: {choice}")
        self.config = config
        resolution = config.resolution or self.model.resolution()
        read = read_photos(photos, resolution, config.center_crop, config.use_captions)
        if read is not photos:
            for message in skip_notices(read.skipped):
                self.notify(message)
        self.prepared = prepare(self.model, read, config, self.on_progress, self.validation_prompt)
        return self.prepared

    def limit_memory(
        self, config: PersonalizeConfig, budget_mb: float, preview_rows: int = 0, validates: bool = False
    ) -> tuple[PersonalizeConfig, memory_budget.Choice]:
        """Choose residency and rows a call so that a run stays within a budget; the settings with them in place.

        Raises:
            EdgeSdkError: the leanest way does not fit, or the model is a bundle. See `memory_budget.choose`.
        """
        model = self.model
        if not isinstance(model, Model):
            raise EdgeSdkError("memory_budget_mb is given beside a bundle, which decides it; leave out one of them")
        side = config.resolution or model.resolution()
        choice = memory_budget.choose(
            model, side, budget_mb, self.residency, config.max_batch, preview_rows, validates=validates
        )
        self.model = replace(model, residency=choice.residency)
        return replace(config, residency=choice.residency, max_batch=choice.max_batch), choice

    def calibrate_mu(self, vectors: np.ndarray | None = None) -> MuFloor:
        """Measure the floor of mu at vectors (K, D), by default the initializer's; takes 12 or 108 forward passes."""
        prepared, config = self.fitted(), self.config
        chosen = prepared.initial if vectors is None else vectors
        return mu_floor.measure(
            prepared.objective,
            chosen / prepared.scale,
            prepared.zo,
            prepared.vocabulary_std,
            config.seed,
            config.rows(prepared.objective.latents_shape, prepared.objective.rows),
            prepared.basis,
            on_progress=self.on_progress,
            pace=self.pace,
        )

    def resume(self, state: State) -> Learning:
        """Go on from a state, with the photos and settings of the last `fit`."""
        self.state = state
        p = self.fitted()
        steps = run(
            p.objective,
            state,
            p.norm_range,
            self.config.rows(p.objective.latents_shape, p.objective.rows),
            parts=p.widths,
        )
        scaled = (replace(step, embedding=step.embedding * p.scale) for step in steps)
        title = f"{self.config.placeholder_token} from {len(p.photos.pixels)} photo(s) on {self._how()}"
        return Learning(scaled, state.step, p.zo.max_train_steps, self.held_out_loss, title)

    def held_out_loss(self, vectors: np.ndarray | None = None) -> float:
        """Mean loss of vectors (K, D), by default the learned ones, on fixed draws that training never uses."""
        prepared, config = self.fitted(), self.config
        timesteps = (0, self.model.num_train_timesteps)  # all of them, so that losses of any settings can be compared
        draws = held_out_draws(prepared.objective, config.seed, config.eval_draws, timesteps)
        chosen = self.embedding.vectors if vectors is None else vectors
        rows = config.rows(prepared.objective.latents_shape, prepared.objective.rows)
        total = len(draws)
        self.on_progress(HELD_OUT, 0, total)
        objective = CountingObjective(
            prepared.objective, self.pace, lambda done: self.on_progress(HELD_OUT, done, total)
        )
        return float(evaluate(objective, chosen / prepared.scale, draws, rows).mean())

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        embeddings: Sequence[str | Path | LearnedEmbedding] = (),
        **options: Unpack[GenerateOptions],
    ) -> "list[Image.Image]":
        """Draw pictures with what has been learned so far, also in the middle of a run; see `generation.generate`.

        Args:
            embeddings: more words, for the prompt or the negative prompt.
            options: those of `generation.GenerateOptions`.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        check_generate_options(prompts, options)
        objective = None
        if self.state is not None:
            embeddings, objective = [self.embedding, *embeddings], self.fitted().objective
            options = {"resolution": self.fitted().photos.pixels.shape[3], **options}
        return generate_on(
            self.model,
            prompts,
            embeddings,
            objective=objective,
            notify=self.notify,
            on_progress=self.on_progress,
            **options,
        )

    @property
    def embedding(self) -> LearnedEmbedding:
        """What has been learned so far."""
        state = self.started()
        metadata = {
            "placeholder_token": self.config.placeholder_token,
            "initializer_token": initializer(self.model, self.config),
            "model_sha256": self.fitted().fingerprints["model"],
            "weights": self.model.weights,
            "execution": self.model.execution,
            "preset": self.config.preset,
            "steps": str(state.step),
            "seed": str(self.config.seed),
        }
        prepared = self.fitted()
        vectors = np.asarray(state.result * prepared.scale, np.float32)
        return LearnedEmbedding(self.config.placeholder_token, vectors, metadata, prepared.widths)

    def save(self, folder: str | Path) -> Path:
        """Write ``learned_embeds.safetensors`` into a folder; both are for their owner alone."""
        path = expanded(folder) / "learned_embeds.safetensors"
        with disk_errors(path.parent):
            make_folder(path.parent)
        save_embedding(path, self.embedding)
        return path

    def __repr__(self) -> str:
        learned = f", {self.config.placeholder_token} at step {self.state.step}" if self.state else ""
        return f"Personalizer({self._how()}{learned})"

    def _how(self) -> str:
        return f"{self.model.label} ({self.model.weights} {self.model.execution})"

    def fitted(self) -> Prepared:
        """What the last `fit` prepared; raises EdgeSdkError before the first one."""
        if self.prepared is None:
            raise EdgeSdkError("nothing has been learned yet; call fit first")
        return self.prepared

    def started(self) -> State:
        """The state of the run at hand; raises EdgeSdkError before the first `fit`."""
        if self.state is None:
            raise EdgeSdkError("nothing has been learned yet; call fit first")
        return self.state
