"""The text side of a bundle: its tokenizers as one, and rows of its embedding tables."""

from collections.abc import Sequence

import numpy as np

from edge_sdk.config import refuse_beside_bundle
from edge_sdk.diffusion.tokenizer import ClipTokenizer, load_tokenizer, padding_word
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.zo.loop import Bound


class BundleText:
    """What goes into the graphs as ``input_ids``: for SDXL the rows of both tokenizers side by side.

    Raises:
        EdgeSdkError: a tokenizer cannot be read, or its marks are not those that the manifest says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.widths, self.width = bundle, bundle.widths, sum(bundle.widths)
        self.tokenizers: list[ClipTokenizer] = []
        for one, tokens in zip(bundle.manifest["embedding"], bundle.manifest["tokens"], strict=True):
            folder = bundle.folder / tokens["folder"]
            made = ClipTokenizer(load_tokenizer(folder), one["vocab_size"], tokens["length"], padding_word(folder))
            if (made.bos, made.eos, made.pad) != (tokens["bos"], tokens["eos"], tokens["pad"]):
                raise EdgeSdkError(
                    f"{folder} marks beginning, end and padding with {made.bos}, {made.eos}, {made.pad}, and "
                    "manifest.json says otherwise; make the bundle again with edge-sdk export"
                )
            self.tokenizers.append(made)

    def tokenize(self, prompts: Sequence[str], placeholders: dict[str, int] | None = None) -> np.ndarray:
        """Prompts as ids (N, T) int64, see `ClipTokenizer.rows`."""
        return np.concatenate([each.rows(prompts, placeholders) for each in self.tokenizers], axis=1)

    def check_placeholder(self, placeholder: str) -> None:
        """Raises EdgeSdkError if the placeholder is already a word of a vocabulary."""
        for tokenizer in self.tokenizers:
            tokenizer.check_placeholder(placeholder)

    def initial_embedding(self, initializer_token: str, num_vectors: int) -> np.ndarray:
        """The initializer's rows of all tables, once per vector, (K, D) float32; not divided by the scale.

        Raises:
            EdgeSdkError: the initializer is not exactly one token.
        """
        words = [tokenizer.word(initializer_token) for tokenizer in self.tokenizers]
        vector = np.concatenate([self.bundle.vector(i, word) for i, word in enumerate(words)])
        return np.repeat(vector[None], num_vectors, axis=0)

    @property
    def scale(self) -> np.ndarray:
        """(D,) float32, see `edge_sdk.runtime.base.TextSide`."""
        return self.bundle.scale

    def vocabulary_std(self) -> float:
        """Standard deviation per dimension over the vocabulary, as it was measured at the export."""
        return self.bundle.manifest["vocabulary_std"]

    def norm_range(self) -> tuple[Bound, Bound]:
        """Least and largest norms of the sections of the optimizer's variable."""
        return self.bundle.norm_range

    def search_directions(self, count: int, basis: str | None = None) -> np.ndarray:
        """Those that the export chose, (R, D) float32, see `Bundle.principal_directions`.

        Raises:
            EdgeSdkError: a basis is named.
        """
        refuse_beside_bundle(search_basis=basis)
        return self.bundle.principal_directions(count)

    def variance_share(self, directions: np.ndarray) -> float | None:
        """Of the vocabulary's variance, see `Bundle.variance_share`."""
        return self.bundle.variance_share(len(directions))
