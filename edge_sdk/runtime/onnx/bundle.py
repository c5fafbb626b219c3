"""An exported bundle: everything that a reader must refuse is refused before any runtime opens a file."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.onnx import manifest as schema
from edge_sdk.runtime.onnx.manifest import AGAIN
from edge_sdk.system.inputs import open_input, read_input
from edge_sdk.system.json import parse_json
from edge_sdk.system.paths import expanded
from edge_sdk.zo.config import ZoConfig

MANIFEST = "manifest.json"
MAX_MANIFEST = 16 << 20  # bytes


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        manifest: as export/README.md describes it.
        sha256: of the manifest, and so of every file.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)
    sha256: str

    @classmethod
    def open(cls, folder: str | Path) -> "Bundle":
        """Read the manifest and check every file: present, listed, no link, of the size and hash that it says.

        Raises:
            EdgeSdkError: one line naming the entry or the file.
        """
        folder = expanded(folder)
        data = _read_manifest(folder)
        try:
            manifest = parse_json(data, infinity=True)  # the table of entries names the one that is not finite
        except ValueError as error:
            raise EdgeSdkError(f"{folder / MANIFEST} cannot be read as JSON ({error!s:.160}); {AGAIN}") from error
        schema.check(manifest, str(folder / MANIFEST))
        bundle = cls(folder, manifest, hashlib.sha256(data).hexdigest())
        bundle._check_paths()
        bundle._check_files()
        return bundle

    # what it says
    @property
    def is_pocket(self) -> bool:
        return self.manifest["model"]["family"] == "pocket"

    @property
    def is_xl(self) -> bool:
        return self.manifest["model"]["family"] == "stable-diffusion-xl"

    @property
    def side(self) -> int:
        """Of a picture in pixels."""
        return self.manifest["resolution"]

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        channels, height, width = self.manifest["latents"]
        return channels, height, width

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the parts of a vector, one a text encoder."""
        return tuple(one["width"] for one in self.manifest["embedding"])

    @property
    def scale(self) -> np.ndarray:
        """(D,) float32: a vector is this times the optimizer's variable."""
        return np.repeat(np.array([one["scale"] for one in self.manifest["embedding"]], np.float32), self.widths)

    @property
    def norm_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Least and largest norms of the parts of the optimizer's variable."""
        ranges = [one["norm_range"] for one in self.manifest["embedding"]]
        return tuple(low for low, _ in ranges), tuple(high for _, high in ranges)

    @property
    def num_train_timesteps(self) -> int:
        return self.manifest["scheduler"]["num_train_timesteps"]

    @property
    def zero_negative(self) -> bool:
        """SDXL only: an empty negative prompt stands for zeros; see `TextEncoderPair`."""
        return bool(self.manifest.get("force_zeros_for_empty_prompt", True))

    @property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """a and b of every timestep, (T,) float32 each: z_t = a x0 + b noise."""
        a, b = (np.array(self.manifest["scheduler"][name], np.float32) for name in "ab")
        return a, b

    def sampler(self) -> Ddim:
        """How the model is sampled."""
        entries = {name: value for name, value in self.manifest["scheduler"].items() if name not in ("a", "b")}
        known = {name: entries[name] for name in Ddim.__dataclass_fields__ if name in entries}
        return Ddim(prediction_type=self.manifest["prediction_type"], **known)

    def preset(self, name: str) -> ZoConfig:
        """The settings of the preset "fast" or "paper" for this model; mu is where the graph resolves it."""
        return schema.preset_of(self.manifest["presets"][name])

    def graph(self, name: str) -> Path:
        """The file of a graph; raises EdgeSdkError if the bundle has none of that name."""
        if name not in self.manifest["graphs"]:
            raise EdgeSdkError(
                f"{self.folder} has no graph {name}; it has {', '.join(sorted(self.manifest['graphs']))}; {AGAIN}"
            )
        return self.folder / self.manifest["graphs"][name]["file"]

    def vector(self, encoder: int, word: int) -> np.ndarray:
        """A row of an encoder's embedding table, (D,) float32; the table itself stays in its file."""
        table = self.manifest["embedding"][encoder]["table"]
        where = {"mode": "r", "offset": table["offset"], "shape": tuple(table["shape"])}
        rows = np.memmap(self.folder / table["file"], np.dtype(table["dtype"]), **where)
        return np.array(rows[word], np.float32)

    def principal_directions(self, count: int) -> np.ndarray:
        """Those of the vocabulary, (R, D) float32, in the optimizer's variable; R is ``count`` or all there are.

        See `edge_sdk.runtime.pytorch.text.principal_directions`; there are as many as the preset `fast` searches.
        """
        entry = self.manifest["principal_directions"]
        return np.fromfile(self.folder / entry["file"], "<f4").reshape(entry["count"], -1)[:count].astype(np.float32)

    # what is checked
    def _check_paths(self) -> None:
        """Every path is relative and below the folder, and whatever is opened by name is a listed file."""
        files = self.manifest["files"]
        graphs = {graph["file"] for graph in self.manifest["graphs"].values()}
        principal = self.manifest["principal_directions"]
        data = {principal["file"], *(one["table"]["file"] for one in self.manifest["embedding"])}
        folders = {one["folder"] for one in self.manifest["tokens"]}
        for path in sorted({*files, *graphs, *data, *folders}):
            bad = "\\" in path or ":" in path or "\0" in path or any(p in ("", ".", "..") for p in path.split("/"))
            if bad or path == MANIFEST:
                raise EdgeSdkError(
                    f"{self.folder / MANIFEST} names the path {path!r:.80}; paths are relative, below the folder, with "
                    f"/ between names; {AGAIN}"
                )
        of_folders = {path.rpartition("/")[0] for path in files}
        packages = {path for path in graphs if any(file.startswith(f"{path}/") for file in files)}  # of Core ML
        for path in sorted((graphs - packages - {*files}) | (data - {*files}) | (folders - of_folders)):
            raise EdgeSdkError(f"{self.folder / MANIFEST} uses {path} but does not list it among its files; {AGAIN}")
        for one in self.manifest["embedding"]:
            table = one["table"]
            end = table["offset"] + np.dtype(table["dtype"]).itemsize * one["vocab_size"] * one["width"]
            if end > files[table["file"]]["bytes"]:
                raise EdgeSdkError(f"{self.folder / MANIFEST}: a table goes beyond the end of {table['file']}; {AGAIN}")
        held, wanted = files[principal["file"]]["bytes"], 4 * principal["count"] * principal["width"]
        if held != wanted:
            raise EdgeSdkError(
                f"{self.folder / MANIFEST}: {principal['file']} has {held} bytes and {principal['count']} directions "
                f"of {principal['width']} numbers take {wanted}; {AGAIN}"
            )

    def _check_files(self) -> None:
        listed = self.manifest["files"]
        found = dict(_regular_files(self.folder))
        if missing := sorted(set(listed) - set(found)):
            raise EdgeSdkError(f"{self.folder / missing[0]} is missing, which {MANIFEST} lists; copy the bundle again")
        if more := sorted(set(found) - set(listed) - {MANIFEST}):
            raise EdgeSdkError(f"{self.folder / more[0]} is not listed in {MANIFEST}; remove it, or {AGAIN}")
        for name, entry in listed.items():
            if found[name] != entry["bytes"]:
                raise EdgeSdkError(
                    f"{self.folder / name} has {found[name]} bytes and {MANIFEST} says {entry['bytes']}; "
                    "copy the bundle again"
                )
        for name, entry in listed.items():
            with open_input(self.folder / name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry["sha256"]:
                raise EdgeSdkError(
                    f"{self.folder / name} is not the file that {MANIFEST} lists (its sha256 differs); "
                    "copy the bundle again"
                )


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if path.is_symlink():
            raise EdgeSdkError(f"{path} is a link; a bundle holds files only, copy it again")
        return read_input(path, MAX_MANIFEST)
    except OSError as error:
        raise EdgeSdkError(
            f"{path} cannot be read ({error.strerror or error}); give the folder that edge-sdk export has written"
        ) from error


def _regular_files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file below a folder: its path with / and its bytes.

    Raises:
        EdgeSdkError: a link, or something else that is neither file nor folder.
    """
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                yield path.relative_to(folder).as_posix(), info.st_size
            elif not stat.S_ISDIR(info.st_mode):
                kind = "a link" if stat.S_ISLNK(info.st_mode) else "not a file"
                raise EdgeSdkError(f"{path} is {kind}; a bundle holds files and folders only, copy it again")
