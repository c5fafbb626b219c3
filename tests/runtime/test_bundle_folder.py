"""Folders that bundles come in: the hub's cache, clones, what desktops leave behind. None of it stops a run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk import Personalizer
from edge_sdk.cli.main import main
from edge_sdk.config import PersonalizeConfig
from edge_sdk.export import verify
from edge_sdk.generation import generate
from edge_sdk.runtime.onnx.bundle import Bundle

Change = Callable[[Path], None]


def hub_cache(folder: Path) -> None:
    """As the hub's client keeps it: a snapshot of links to blobs."""
    cache = folder.parent / "models--acme--bundle"
    snapshot = cache / "snapshots" / ("0" * 40)
    (cache / "blobs").mkdir(parents=True)
    for i, file in enumerate(sorted(file for file in folder.rglob("*") if file.is_file())):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(file.rename(cache / "blobs" / f"{i:064x}"), link.parent))
    shutil.rmtree(folder)
    folder.symlink_to(snapshot)


def each_elsewhere(folder: Path) -> None:
    """Every file a link to a folder of its own, which the runtime would not follow by itself."""
    for i, file in enumerate(sorted(file for file in folder.rglob("*") if file.is_file())):
        place = folder.parent / f"disk{i}"
        place.mkdir()
        file.symlink_to(file.rename(place / file.name))


def weights_elsewhere(folder: Path) -> None:
    shutil.move(folder / "weights.bin", folder.parent / "large.bin")
    (folder / "weights.bin").symlink_to("../large.bin")


def left_behind(*names: str) -> Change:
    def apply(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"\0\5\x16\7")

    return apply


LEFTOVERS = {
    "Finder": (".DS_Store", "._manifest.json", "tokenizer/.DS_Store", "tokenizer/._tokenizer.json", "Icon\r"),
    "Explorer": ("Thumbs.db", "desktop.ini", "tokenizer/Desktop.ini", "ehthumbs.db"),
    "an unpacker": ("__MACOSX/._bundle", "__MACOSX/tokenizer/._vocab.json"),
    "the hub's client": (".gitattributes", "README.md", ".cache/huggingface/download/unet.onnx.metadata"),
    "git": (".git/config", ".git/objects/pack/x.bin", ".gitignore", "LICENSE", ".github/x.yml"),
    "others": (".directory", ".nfs0001", "@eaDir/x", "lost+found/x", "preview.png", "docs/how.md", ".Trash-0/x.onnx"),
}
LAYOUTS: dict[str, Change] = {
    "the hub's cache": hub_cache,
    "weights on another disk": weights_elsewhere,
    "every file elsewhere": each_elsewhere,
    **{name: left_behind(*names) for name, names in LEFTOVERS.items()},
}


@pytest.fixture(scope="module")
def plain(bundle_of: Callable[[str, str], Path]) -> bytes:
    return picture(bundle_of("sd1", "int8"))


def picture(folder: Path) -> bytes:
    (drawn,) = generate("a photo of a dog", bundle=folder, num_inference_steps=1, notify=lambda line: None)
    return drawn.tobytes()


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_the_bundle_runs_as_before(change: Change, copy_of: Path, plain: bytes, photos: Path) -> None:
    change(copy_of)
    assert picture(copy_of) == plain
    config = PersonalizeConfig(initializer_token="dog", zo_options={"max_train_steps": 1, "zo_mu": 0.1}, eval_draws=1)
    assert len(list(Personalizer.from_bundle(copy_of).fit(photos, config))) == 1


@pytest.mark.parametrize("names", LEFTOVERS.values(), ids=LEFTOVERS)
def test_verify_names_what_is_no_part_of_the_bundle(
    names: tuple[str, ...], copy_of: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(verify.RUNTIMES, "onnx", verify.RUNTIMES["onnx"][:1])
    assert main(["verify", str(copy_of)]) == 0 and capsys.readouterr().err == ""
    left_behind(*names)(copy_of)
    assert main(["verify", str(copy_of)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: not part of the bundle and not opened: ")
    tops = {name.split("/")[0] if name[0] in ".@_l" else name for name in names}
    assert all(top.strip() in line for top in tops if top != "tokenizer")
    assert main(["verify", "--quiet", str(copy_of)]) == 0 and capsys.readouterr() == ("", "")


def test_a_folder_of_a_thousand_leftovers_is_one_line(copy_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verify.RUNTIMES, "onnx", ())
    left_behind(*(f"._{i}" for i in range(1000)))(copy_of)
    lines: list[str] = []
    verify.verify(copy_of, lines.append)
    assert len(lines) == 1 and len(lines[0]) < 200 and lines[0].endswith("and 990 more")


@pytest.fixture
def core_ml(copy_of: Path) -> Path:
    """A bundle with a graph that is a package, as for Core ML."""
    manifest = json.loads((copy_of / "manifest.json").read_text())
    data = copy_of / "unet.mlpackage" / "Data" / "model"
    data.parent.mkdir(parents=True)
    (copy_of / "unet.onnx").rename(data)
    manifest["files"]["unet.mlpackage/Data/model"] = manifest["files"].pop("unet.onnx")
    manifest["graphs"]["unet"]["file"] = "unet.mlpackage"
    (copy_of / "manifest.json").write_text(json.dumps(manifest))
    return copy_of


PACKAGES: dict[str, Change] = {
    "the hub's cache": hub_cache,
    "Finder": left_behind("unet.mlpackage/.DS_Store", "unet.mlpackage/Data/.DS_Store", "unet.mlpackage/._Data"),
    "an unpacker": left_behind("unet.mlpackage/__MACOSX/._x"),
}


@pytest.mark.parametrize("change", PACKAGES.values(), ids=PACKAGES)
def test_a_package_within_may_be_looked_into(change: Change, core_ml: Path) -> None:
    change(core_ml)
    assert Bundle.open(core_ml).graph("unet") == core_ml / "unet.mlpackage"
