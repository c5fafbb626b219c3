"""A bundle as a model that a token can be learned on: what `edge_sdk.runtime.pytorch.model.Model` is for PyTorch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.generate import DenoiserStage, TextStage, VaeStage
from edge_sdk.runtime.onnx.objective import Latents, OnnxObjective
from edge_sdk.runtime.onnx.session import Session
from edge_sdk.runtime.onnx.text import BundleText
from edge_sdk.system.memory import bound_heap
from edge_sdk.zo import ZoConfig


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
    """A checked bundle, see `edge_sdk.runtime.base.Runtime`. Its weights stay in their file, mapped."""

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

    @property
    def num_train_timesteps(self) -> int:
        return self.bundle.num_train_timesteps

    def preset(self, name: str) -> ZoConfig:
        """A preset of the manifest, so that every runtime uses the same numbers."""
        return self.bundle.preset(name)

    def weights_hash(self) -> str:
        """Identifies the bundle's weight files."""
        files = self.bundle.manifest["files"]
        weights = sorted(entry["sha256"] for entry in files.values() if entry["role"] == "weights")
        return hashlib.sha256("".join(weights).encode()).hexdigest()

    def fingerprints(self) -> dict[str, str]:
        """What identifies the model and its graphs."""
        return {"model": self.bundle.manifest["model"]["sha256"], "bundle": self.bundle.sha256}

    def load_text(self) -> BundleText:
        """Tokenizers and embedding tables; the text encoders are part of the graphs."""
        return BundleText(self.bundle)

    def load_objective(
        self, text: BundleText, latents: Latents, ids: np.ndarray, num_vectors: int, time_ids: np.ndarray
    ) -> OnnxObjective:
        """Load the graph of the loss, see `edge_sdk.runtime.base.Runtime`.

        Raises:
            EdgeSdkError: the bundle's graphs are for tokens of another number of vectors.
        """
        target = self.bundle.manifest.get("target", {"vectors": num_vectors})
        if target["vectors"] != num_vectors:
            raise EdgeSdkError(
                f"num_vectors is {num_vectors}; the graphs of {self.bundle.folder} are for {target['vectors']}; give "
                f"that, or export a bundle with --num_vectors {num_vectors}"
            )
        loss = Session(self.bundle, "zo_loss")
        return OnnxObjective(self.bundle, loss, latents, ids, num_vectors, time_ids if self.bundle.is_xl else None)

    def sampler(self) -> tuple[Ddim, tuple[np.ndarray, np.ndarray]]:
        """How the model is sampled, and a and b of every timestep, (T,) float32 each."""
        return self.bundle.sampler(), self.bundle.coefficients

    def text_stage(self, objective: OnnxObjective | None = None) -> TextStage:
        """The text encoders' graph; the graph of an objective is closed first."""
        if objective is not None:
            objective.close()
        return TextStage(self.bundle)

    def denoiser_stage(self, objective: OnnxObjective | None = None) -> DenoiserStage:
        """The denoiser's graph."""
        return DenoiserStage(self.bundle)

    def vae_stage(self) -> VaeStage:
        """The autoencoder's graphs."""
        return VaeStage(self.bundle)
