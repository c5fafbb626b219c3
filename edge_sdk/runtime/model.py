"""A bundle as a model that a token can be learned on: what `edge_sdk.models.Model` is for PyTorch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import Photos
from edge_sdk.memory import bound_heap
from edge_sdk.prepared import Prepared, basis, initializer, pocket_notices, prompt_ids, settings
from edge_sdk.runtime import generate
from edge_sdk.runtime.bundle import Bundle
from edge_sdk.runtime.objective import OnnxObjective, encode_images
from edge_sdk.runtime.session import Session
from edge_sdk.runtime.text import BundleText


def open_bundle(folder: str | Path) -> "BundleModel":
    """Check a bundle for ONNX Runtime; no weight is loaded yet.

    Raises:
        EdgeSdkError: it is damaged or of another schema version or runtime; see `Bundle.open`.
    """
    bundle = Bundle.open(folder)
    if bundle.manifest["format"] != "onnx":
        raise EdgeSdkError(
            f"{folder} is a bundle for {bundle.manifest['format']}; this command runs onnx; make one with edge-sdk "
            "export --format onnx"
        )
    bound_heap()
    return BundleModel(bundle)


@dataclass(frozen=True)
class BundleModel:
    """A checked bundle, see `edge_sdk.prepared.Personalizable`. Its weights stay in their file, mapped."""

    bundle: Bundle
    residency: str = "mapped"
    device: str = "cpu"
    packages: tuple[str, ...] = ("onnxruntime", "tokenizers", "numpy")

    @property
    def label(self) -> str:
        return self.bundle.manifest["model"]["name"]

    @property
    def weights(self) -> str:
        return self.bundle.manifest["weights"]

    @property
    def execution(self) -> str:
        return self.bundle.manifest["execution"]

    @property
    def is_pocket(self) -> bool:
        return self.bundle.is_pocket

    @property
    def initializer_token(self) -> str | None:
        return self.bundle.manifest["initializer_token"]

    def resolution(self) -> int:
        return self.bundle.side

    def latents_shape(self, side: int) -> tuple[int, int, int]:
        """(C, h, w); raises EdgeSdkError for pictures of another side than the graphs have."""
        if side != self.bundle.side:
            raise EdgeSdkError(
                f"resolution is {side}; the graphs of {self.bundle.folder} are for {self.bundle.side}; "
                f"leave it out, or export a bundle with --resolution {side}"
            )
        return self.bundle.latents_shape

    def training_prompts(self, kind: str, placeholder: str) -> Sequence[str]:
        """Those of the manifest, so that every runtime learns from the same ones.

        Raises:
            EdgeSdkError: the bundle has none of this kind.
        """
        prompts = self.bundle.manifest["prompts"]
        name = "pocket" if self.is_pocket else kind
        if name not in prompts:
            raise EdgeSdkError(f"{self.bundle.folder} has no prompts for {name}; it has {', '.join(sorted(prompts))}")
        return [prompt["text"].replace("{}", placeholder) for prompt in prompts[name]]

    def prepare(self, photos: Photos, config: PersonalizeConfig) -> Prepared:
        """Encode the photos, close the VAE, then load the graph of the loss.

        Raises:
            EdgeSdkError: photos are not of the bundle's size, the runtime cannot load a graph, or initializer or
                placeholder do not fit the vocabulary.
        """
        bundle, side = self.bundle, self.bundle.side
        self.latents_shape(photos.pixels.shape[2])
        text = BundleText(bundle)
        text.check_placeholder(config.placeholder_token)
        initial = text.initial_embedding(initializer(self, config), config.num_vectors)
        ids = prompt_ids(self, text, photos, config)
        vocabulary_std = bundle.manifest["vocabulary_std"]
        preset = bundle.preset(config.preset)
        zo = settings(config, vocabulary_std, sum(bundle.widths), bundle.num_train_timesteps, preset)
        along = basis(zo, bundle.principal_directions, config.num_vectors)

        latents, notices = encode_images(bundle, photos.pixels), []
        if self.is_pocket:
            with Session(bundle, "vae_decoder") as decoder:
                notices = pocket_notices(generate.decode(decoder, latents.mean), photos)
        sizes = generate.picture_sizes(photos.sizes, side)
        loss = Session(bundle, "zo_loss")
        objective = OnnxObjective(bundle, loss, latents, ids, config.num_vectors, sizes if bundle.is_xl else None)
        fingerprints = {
            "model": bundle.manifest["model"]["sha256"],
            "bundle": bundle.sha256,
            "photos": hashlib.sha256(photos.pixels.tobytes() + ids.tobytes() + sizes.tobytes()).hexdigest(),
            "token": f"{config.placeholder_token} from {initializer(self, config)}",
        }
        return Prepared(
            objective, zo, initial, bundle.widths, bundle.scale, bundle.norm_range, vocabulary_std, photos,
            fingerprints, along, notices,
        )  # fmt: skip

    def draw(
        self, prompt: str, negative_prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray, steps: int,
        guidance_scale: float,
    ) -> np.ndarray:  # fmt: skip
        """Pictures (N, H, W, 3) uint8 from noise, one session at a time."""
        return generate.draw(self.bundle, prompt, negative_prompt, [embeddings], noise, steps, guidance_scale)[0]

    def preview(
        self, prepared: Prepared, prompt: str, embeddings: Sequence[LearnedEmbedding], noise: np.ndarray, steps: int,
        guidance_scale: float,
    ) -> list[np.ndarray]:  # fmt: skip
        """Pictures with each embedding; the graph of the loss is closed first."""
        prepared.objective.loss.close()
        return generate.draw(self.bundle, prompt, "", [[e] for e in embeddings], noise, steps, guidance_scale)
