"""An exported bundle: everything that a reader must refuse is refused before any runtime opens a file."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edge_sdk.diffusion.ddim import Ddim
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.onnx import manifest as schema
from edge_sdk.runtime.onnx.manifest import AGAIN
from edge_sdk.system.inputs import open_input, read_input
from edge_sdk.system.json import parse_json
from edge_sdk.system.paths import expanded, is_leftover
from edge_sdk.zo.config import ZoConfig

MANIFEST = "manifest.json"
MAX_MANIFEST = 16 << 20  # bytes
DATA = (".onnx", ".bin", ".f32", ".mlmodel", ".mlpackage")  # suffixes of what a bundle is made of


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        manifest: as export/README.md describes it.
        sha256: of the manifest, and so of every file.
        paths: of the manifest and of every file that it lists: what their names led to when they were checked.
        leftovers: paths of what lies in the folder and is no part of the bundle, such as ``.DS_Store``.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)
    sha256: str
    paths: dict[str, Path] = field(default_factory=dict, repr=False)
    leftovers: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: str | Path) -> "Bundle":
        """Read the manifest and check every file: present, listed, of the size and hash that it says.

        A file may be a link, as the hub's client makes them: what counts is what it leads to. Leftovers of desktops,
        of git and of the hub's client are left alone.

        Raises:
            EdgeSdkError: one line naming the entry or the file.
        """
        folder = expanded(folder)
        path, data = _read_manifest(folder)
        try:
            manifest = parse_json(data, infinity=True)  # the table of entries names the one that is not finite
        except ValueError as error:
            raise EdgeSdkError(f"{folder / MANIFEST} cannot be read as JSON ({error!s:.160}); {AGAIN}") from error
        schema.check(manifest, str(folder / MANIFEST))
        bundle = cls(folder, manifest, hashlib.sha256(data).hexdigest(), {MANIFEST: path})
        bundle._check_paths()
        bundle._check_files()
        return replace(bundle, leftovers=tuple(sorted(bundle._unlisted())))

    # what it says
    @property
    def is_pocket(self) -> bool:
        return self.manifest["model"]["family"] == "pocket"

    @property
    def target(self) -> str | None:
        """The processor that the graphs are made for, "qnn" or "ane"; None for any."""
        return self.manifest.get("target", {}).get("name")

    def rows(self, name: str) -> int | None:
        """Rows that a graph takes in a call, neither more nor fewer; None where it takes any number."""
        sizes = {entry["shape"][0] for entry in self.manifest["graphs"][name]["outputs"].values()}
        rows = sizes.pop() if len(sizes) == 1 else None
        return rows if isinstance(rows, int) else None

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

    def function(self, name: str) -> str | None:
        """Which function of its file a graph is, Core ML only; None for the only one."""
        return self.manifest["graphs"][name].get("function")

    def vector(self, encoder: int, word: int) -> np.ndarray:
        """A row of an encoder's embedding table, (D,) float32; the table itself stays in its file."""
        table = self.manifest["embedding"][encoder]["table"]
        where = {"mode": "r", "offset": table["offset"], "shape": tuple(table["shape"])}
        rows = np.memmap(self.paths[table["file"]], np.dtype(table["dtype"]), **where)
        return np.array(rows[word], np.float32)

    def principal_directions(self, count: int) -> np.ndarray:
        """Those of the vocabulary, (R, D) float32, in the optimizer's variable; R is ``count`` or all there are.

        See `edge_sdk.runtime.pytorch.text.principal_directions`; there are as many as the preset `fast` searches.
        """
        entry = self.manifest["principal_directions"]
        return np.fromfile(self.paths[entry["file"]], "<f4").reshape(entry["count"], -1)[:count].astype(np.float32)

    def variance_share(self, count: int) -> float | None:
        """Of the vocabulary's variance, the share along the first ``count`` directions; None in older bundles."""
        of_all = self.manifest["principal_directions"].get("variance_share")
        squares = (self.principal_directions(self.manifest["principal_directions"]["count"]) ** 2).sum(axis=1)
        return None if of_all is None else float(of_all * squares[:count].sum() / squares.sum())

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
        for name, entry in listed.items():
            self.paths[name], size = self._resolved(name)
            if size != entry["bytes"]:
                raise EdgeSdkError(
                    f"{self.folder / name} has {size} bytes and {MANIFEST} says {entry['bytes']}; copy the bundle again"
                )
        for name, entry in listed.items():
            with open_input(self.paths[name]) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry["sha256"]:
                raise EdgeSdkError(
                    f"{self.folder / name} is not the file that {MANIFEST} lists (its sha256 differs); "
                    "copy the bundle again"
                )

    def _resolved(self, name: str) -> tuple[Path, int]:
        """The file that a listed name leads to, and its bytes."""
        path = self.folder / name
        for parent in list(PurePosixPath(name).parents)[:-1]:
            if (self.folder / parent).is_symlink():
                raise EdgeSdkError(
                    f"{self.folder / parent} is a link to a folder; copy the bundle again as plain files"
                )
        try:
            info = path.stat()
        except OSError as error:
            what = "leads nowhere" if path.is_symlink() else "is missing"
            raise EdgeSdkError(f"{path} {what}, which {MANIFEST} lists; copy the bundle again") from error
        if not stat.S_ISREG(info.st_mode):
            raise EdgeSdkError(f"{path} is not a file; a bundle holds files and folders only, copy it again")
        return path.resolve(), info.st_size

    def _unlisted(self) -> Iterator[str]:
        """Paths of what the manifest does not list and nobody opens.

        Raises:
            EdgeSdkError: it could be taken for a part of the bundle, or is neither file nor folder.
        """
        listed = {MANIFEST, *self.manifest["files"]}
        opened = {one["folder"] for one in self.manifest["tokens"]}
        for root, folders, files in os.walk(self.folder):
            place = Path(root).relative_to(self.folder).as_posix()
            for name in [name for name in folders if is_leftover(name)]:
                folders.remove(name)  # and nothing below it is looked at
                yield _joined(place, name)
            for name in (*folders, *files):
                path, where = Path(root, name), _joined(place, name)
                if where in listed or (name in folders and not path.is_symlink()):
                    continue
                if is_leftover(name):
                    yield where
                    continue
                if not path.is_file():
                    kind = "a link to a folder" if path.is_dir() else "not a file"
                    raise EdgeSdkError(f"{path} is {kind}; a bundle holds files and folders only, copy it again")
                inside = any(part.endswith(".mlpackage") for part in where.split("/"))
                if inside or place in opened or path.suffix in DATA:
                    raise EdgeSdkError(f"{path} is not listed in {MANIFEST}; remove it, or {AGAIN}")
                yield where


def _joined(place: str, name: str) -> str:
    return name if place == "." else f"{place}/{name}"


def _read_manifest(folder: Path) -> tuple[Path, bytes]:
    """The file that the manifest's name leads to, and its bytes."""
    path = folder / MANIFEST
    try:
        resolved = Path(os.path.realpath(path))  # of links in a circle one that cannot be read
        return resolved, read_input(resolved, MAX_MANIFEST)
    except OSError as error:
        raise EdgeSdkError(
            f"{path} cannot be read ({error.strerror or error}); give the folder that edge-sdk export has written"
        ) from error
