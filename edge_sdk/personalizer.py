"""Learn a token from a few photos with forward passes only.

    personalizer = Personalizer.from_pretrained("pocket")
    for step in personalizer.fit("my_photos", placeholder_token="<subject>"):
        print(step.step, step.loss)
    personalizer.save("run")

`edge_sdk.personalize` does the same with a run folder (`run_folder.py`): checkpoints, resume, ``run.json``, a preview.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import mu_floor
from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import LearnedEmbedding, save_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import Photos, load_photos
from edge_sdk.preparation import Prepared, initializer, prepare
from edge_sdk.progress import LOGGER, CountingObjective, OnProgress, Pace, silent
from edge_sdk.runtime.base import Runtime
from edge_sdk.runtime.open import open_runtime
from edge_sdk.system.files import disk_errors, make_folder
from edge_sdk.system.paths import expanded
from edge_sdk.zo import MuFloor, State, Step, evaluate, held_out_draws, run

HELD_OUT = "measuring the loss on held-out draws"  # the name of a stage


class Personalizer:
    """One model, and the embedding learned last.

    Attributes:
        on_progress: is called with a stage's name, how much of it is done and how much there is (0: not counted).
        notify: is told in one line each what the user should know; by default a warning of the logger "edge_sdk".
    """

    def __init__(self, model: Runtime) -> None:
        self.model = model
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
        cls, name_or_path: str, weights: str = "int8", execution: str = "integer", device: str = "cpu"
    ) -> "Personalizer":
        """Open "pocket", a diffusers folder, an integer checkpoint or a hub id.

        See `edge_sdk.runtime.pytorch.model.open_model`.
        """
        return cls(open_runtime(name_or_path, None, weights=weights, execution=execution, device=device))

    @classmethod
    def from_bundle(cls, folder: str | Path) -> "Personalizer":
        """Open what ``edge-sdk export`` wrote, for ONNX Runtime; see `edge_sdk.runtime.onnx.model.open_bundle`."""
        return cls(open_runtime(None, folder))

    def fit(
        self, photos: str | Path | Photos, config: PersonalizeConfig | None = None, **options: Any
    ) -> Iterator[Step]:
        """Learn from a folder of photos, step by step. Close the iterator whenever it is enough.

        Args:
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
        if idle := preset.without_effect(self.config.zo_options):
            prepared.notices.append(
                f"{', '.join(idle)}: without effect on optimizer {preset.optimizer}, of preset "
                f"{self.config.preset}; leave it out or choose the other --preset"
            )
        start = prepared.initial / prepared.scale
        for message in prepared.notices:
            self.notify(message)
        return self.resume(State.start(prepared.zo, self.config.seed, start, mu_min, prepared.basis))

    def prepare(self, photos: str | Path | Photos, config: PersonalizeConfig) -> Prepared:
        """All of `fit` up to the first forward pass of the denoiser."""
        self.config = config
        if not isinstance(photos, Photos):
            photos = load_photos(photos, config.resolution or self.model.resolution(), config.center_crop)
            for name, why in photos.skipped:
                self.notify(f"skipped {name}: {why}")
        self.prepared = prepare(self.model, photos, config, self.on_progress, self.validation_prompt)
        return self.prepared

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
            config.rows(prepared.objective.latents_shape),
            prepared.basis,
            on_progress=self.on_progress,
            pace=self.pace,
        )

    def resume(self, state: State) -> Iterator[Step]:
        """Go on from a state, with the photos and settings of the last `fit`."""
        self.state = state
        p = self.fitted()
        steps = run(p.objective, state, p.norm_range, self.config.rows(p.objective.latents_shape), parts=p.widths)
        return (replace(step, embedding=step.embedding * p.scale) for step in steps)

    def held_out_loss(self, vectors: np.ndarray | None = None) -> float:
        """Mean loss of vectors (K, D), by default the learned ones, on fixed draws that training never uses."""
        prepared, config = self.fitted(), self.config
        timesteps = (0, self.model.num_train_timesteps)  # all of them, so that losses of any settings can be compared
        draws = held_out_draws(prepared.objective, config.seed, config.eval_draws, timesteps)
        chosen = self.embedding.vectors if vectors is None else vectors
        rows = config.rows(prepared.objective.latents_shape)
        total = len(draws)
        self.on_progress(HELD_OUT, 0, total)
        objective = CountingObjective(
            prepared.objective, self.pace, lambda done: self.on_progress(HELD_OUT, done, total)
        )
        return float(evaluate(objective, chosen / prepared.scale, draws, rows).mean())

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
        vectors = state.result * prepared.scale
        return LearnedEmbedding(self.config.placeholder_token, vectors, metadata, prepared.widths)

    def save(self, folder: str | Path) -> Path:
        """Write ``learned_embeds.safetensors`` into a folder; both are for their owner alone."""
        path = expanded(folder) / "learned_embeds.safetensors"
        with disk_errors(path.parent):
            make_folder(path.parent)
        save_embedding(path, self.embedding)
        return path

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
