"""Pictures of a run: the sheet before and after, and a prompt drawn while the run learns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edge_sdk.config import check_text
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import sample, starting_noise
from edge_sdk.images import contact_sheet, enlarge, save_png, to_pil
from edge_sdk.personalizer import Personalizer
from edge_sdk.progress import OnProgress, silent
from edge_sdk.runtime.base import Runtime
from edge_sdk.system.files import make_folder

PREVIEW_PICTURES = 5
PREVIEW_STEPS = 10  # more change its pictures little, see benchmarks/speed/README.md
PREVIEW_GUIDANCE = 4.0
VALIDATION_STEPS = 10  # between two pictures, where the user does not say
VALIDATION_INFERENCE_STEPS = 25  # of a picture
PREVIEW, VALIDATION = "drawing preview.png", "drawing the validation prompt"  # names of stages


def preview_rows(model: Runtime) -> int:
    """Pictures in a row of a preview."""
    return PREVIEW_PICTURES if model.is_pocket else 1


def draw_preview(
    personalizer: Personalizer, steps: int = PREVIEW_STEPS, on_progress: OnProgress = silent
) -> Image.Image:
    """A sheet of three rows: the photos, pictures from the initial vectors, pictures from the learned ones.

    The objective of the run is closed.
    """
    drawn = before_and_after(personalizer, steps, on_progress=on_progress)
    photos = personalizer.fitted().photos.pixels[:PREVIEW_PICTURES]
    rows = [("photos", [to_pil(pixels) for pixels in photos])]
    rows += [(label, [to_pil(p) for p in pictures]) for label, pictures in zip(("before", "after"), drawn, strict=True)]
    return contact_sheet(rows)


def before_and_after(
    personalizer: Personalizer, steps: int, keep_objective: bool = False, on_progress: OnProgress = silent
) -> list[np.ndarray]:
    """Pictures of the initial and of the learned vectors, (N, H, W, 3) uint8 each, see `edge_sdk.generation.sample`."""
    prepared, model, learned = personalizer.fitted(), personalizer.model, personalizer.embedding
    prompt = model.training_prompts(personalizer.config.learnable_property, learned.token)[0]
    noise = starting_noise(personalizer.config.seed, preview_rows(model), prepared.objective.latents_shape)
    both = [LearnedEmbedding(learned.token, v, widths=learned.widths) for v in (prepared.initial, learned.vectors)]
    return sample(
        model,
        [(prompt, [embedding]) for embedding in both],
        noise,
        prepared.photos.pixels.shape[3],
        steps=steps,
        guidance_scale=PREVIEW_GUIDANCE,
        objective=prepared.objective,
        keep_objective=keep_objective,
        stage=PREVIEW,
        on_progress=on_progress,
    )


@dataclass(frozen=True)
class Validation:
    """A prompt that is drawn every few steps, with the token as it is then."""

    prompt: str
    every: int  # steps

    @classmethod
    def of(cls, prompt: str | None, every: int | None) -> "Validation | None":
        """None without a prompt.

        Raises:
            EdgeSdkError: steps without a prompt, an empty prompt, or no positive number of steps.
        """
        if prompt is None:
            if every is not None:
                raise EdgeSdkError(f"validation_steps is {every}, but there is no --validation_prompt; give both")
            return None
        if not prompt.strip():
            raise EdgeSdkError(
                "validation_prompt is empty; give a sentence with the placeholder token, or leave it out"
            )
        check_text("validation_prompt", prompt)
        if every is not None and every < 1:
            raise EdgeSdkError(f"validation_steps is {every}; it must be at least 1")
        return cls(prompt, VALIDATION_STEPS if every is None else every)

    @property
    def forwards(self) -> int:
        """Forward passes of one picture."""
        return 2 * VALIDATION_INFERENCE_STEPS

    def draw(
        self, personalizer: Personalizer, steps: int = VALIDATION_INFERENCE_STEPS, on_progress: OnProgress = silent
    ) -> np.ndarray:
        """One picture, (H, W, 3) uint8, always from the same noise. The VAE is loaded for it and let go."""
        prepared = personalizer.fitted()
        (pictures,) = sample(
            personalizer.model,
            [(self.prompt, [personalizer.embedding])],
            starting_noise(personalizer.config.seed, 1, prepared.objective.latents_shape),
            prepared.photos.pixels.shape[3],
            steps=steps,
            guidance_scale=PREVIEW_GUIDANCE,
            objective=prepared.objective,
            keep_objective=True,
            stage=VALIDATION,
            on_progress=on_progress,
        )
        return pictures[0]

    def save(self, folder: Path, step: int, picture: np.ndarray) -> None:
        """Write ``validation/step-000010.png`` into a run's folder."""
        place = folder / "validation"
        make_folder(place)
        save_png(enlarge(to_pil(picture)), place / f"step-{step:06d}.png")
