"""Writing a bundle: whole or not at all, and one line for what cannot be done."""

import json
import math
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import mu_floor
from edge_sdk.cli.main import main
from edge_sdk.config import PersonalizeConfig
from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.bundle import _new_bundle, export
from edge_sdk.export.golden import Reference
from edge_sdk.export.onnx import writer
from edge_sdk.export.presets import measured_presets
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.model import open_bundle
from edge_sdk.runtime.onnx.text import BundleText
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.zo import MuFloor, ZoConfig
from tests.export import bundles

Bundles = Callable[[str, str], Path]
KEYS = ("count", "width")


def test_the_manifest_names_every_file_and_its_hash(bundle_of: Bundles) -> None:
    folder = bundle_of("sdxl", "int8")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(files) == there - {"manifest.json"}
    assert {entry["role"] for entry in files.values()} == {"graph", "weights", "tokenizer", "golden", "directions"}


def test_what_an_app_needs_is_in_the_manifest(bundle_of: Bundles) -> None:
    manifest = json.loads((bundle_of("pocket", "int8") / "manifest.json").read_text())
    assert manifest["schema_version"] == 3 and manifest["format"] == "onnx" and manifest["weights"] == "int8"
    assert manifest["latents"] == [8, 8, 8] and len(manifest["scheduler"]["a"]) == 1000
    assert 0 < manifest["mu_min"] < manifest["vocabulary_std"]
    assert manifest["principal_directions"].pop("variance_share") == pytest.approx(0.55, abs=0.01)
    assert manifest["principal_directions"] == {"file": "principal_directions.f32", "count": 32, "width": 128}
    outputs = {"loss": {"shape": ["B"], "dtype": "float32"}, "residual": {"shape": ["B", 8, 8, 8], "dtype": "float32"}}
    assert manifest["graphs"]["zo_loss"]["outputs"] == outputs and next(iter(outputs)) == "loss"
    (prompt,), (tokens,) = manifest["prompts"]["pocket"], manifest["tokens"]
    assert prompt["text"] == "a picture of {}" and len(prompt["before"][0]) == 3 and prompt["after"] == [[]]
    assert tokens["length"] == manifest["graphs"]["zo_loss"]["inputs"]["input_ids"]["shape"][1]


@pytest.mark.parametrize("family", ["pocket", "sdxl"])
def test_presets_are_those_that_python_computes_for_the_model(family: str, bundle_of: Bundles) -> None:
    folder = bundle_of(family, "int8")
    manifest = json.loads((folder / "manifest.json").read_text())
    width = sum(one["width"] for one in manifest["embedding"])
    for preset in ("fast", "paper"):
        config = PersonalizeConfig(preset=preset)
        wanted = config.zo(manifest["vocabulary_std"], width)
        entry = manifest["presets"][preset]
        assert entry.pop("eval_draws") == config.eval_draws
        found = Bundle.open(folder).preset(preset)
        assert found == ZoConfig.from_dict(entry)
        assert found.zo_mu >= wanted.zo_mu and replace(found, zo_mu=wanted.zo_mu) == wanted
    assert manifest["presets"]["fast"]["zo_mu"] == 0.4 * manifest["vocabulary_std"] > manifest["mu_min"]


def test_a_floor_above_mu_raises_both_presets(bundle_of: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle_of("sd1", "int8")
    reference = Reference(open_model(str(folder.parent / "sd1"), "none"), 16, 0)
    floors = {"gauss_newton": 0.015, "adam": 0.002}
    floor = MuFloor(0.0, 0.0, 0.0, (), (), 0)
    monkeypatch.setattr(
        mu_floor, "measure", lambda objective, token, zo, *_, **__: replace(floor, mu_min=floors[zo.optimizer])
    )
    mu_min, presets = measured_presets(reference, lambda inputs: {})
    assert mu_min == 0.015 and presets["fast"]["zo_mu"] == 0.015 and presets["paper"]["zo_mu"] == 0.002


def test_a_model_without_a_floor_is_exported_and_it_is_said(
    sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "edge_sdk.export.bundle.measured_presets", lambda *given: (math.inf, measured_presets(*given)[1])
    )
    out = tmp_path / "bundle"
    assert main(["export", "--pretrained_model_name_or_path", str(sd1), "--output_dir", str(out)]) == 0
    assert "mu_min none found" in capsys.readouterr().out
    assert open_bundle(out).mu_min == math.inf


@pytest.mark.parametrize(("family", "word"), [("pocket", "person"), ("sdxl", None)])
def test_words_to_start_from_come_with_their_ids(family: str, word: str | None, bundle_of: Bundles) -> None:
    bundle = Bundle.open(bundle_of(family, "int8"))
    manifest, text = bundle.manifest, BundleText(bundle)
    assert manifest["initializer_token"] == word
    assert manifest["initializer_id"] == (None if word is None else manifest["initializers"][word])
    assert {"person", "dog", "mug"} <= set(manifest["initializers"]) and "sketch" not in manifest["initializers"]
    for name, ids in manifest["initializers"].items():
        assert ids == [tokenizer.word(name) for tokenizer in text.tokenizers]


def test_a_bundle_brings_the_directions_that_were_asked_for(tmp_path: Path) -> None:
    model = bundles.source(tmp_path, "sd1")
    with pytest.raises(EdgeSdkError, match="search_basis is 'best'; it must be one of principal, readable"):
        export(model, tmp_path / "bundle", search_basis="best")
    where = ["--pretrained_model_name_or_path", model, "--output_dir", str(tmp_path / "bundle"), "--quiet"]
    assert main(["export", *where, "--search_basis", "readable"]) == 0
    bundle, text = Bundle.open(tmp_path / "bundle"), open_model(model).load_text()
    brought = BundleText(bundle).search_directions(8)
    readable, principal = (text.search_directions(8, basis) for basis in ("readable", "principal"))
    assert np.square(unit(brought) @ unit(readable).T).sum() > 7.5 > np.square(unit(brought) @ unit(principal).T).sum()
    assert bundle.variance_share(8) == pytest.approx(text.variance_share(readable), rel=0.02)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_directions_are_the_vocabularys_in_the_optimizers_variable(family: str, bundle_of: Bundles) -> None:
    folder = bundle_of(family, "int8")
    count, width = (json.loads((folder / "manifest.json").read_text())["principal_directions"][k] for k in KEYS)
    found = np.fromfile(folder / "principal_directions.f32", "<f4").reshape(count, width)
    text, bundle = open_model(str(folder.parent / family)).load_text(), Bundle.open(folder)
    for searched in (5, 32):
        share = text.variance_share(text.search_directions(searched))
        assert bundle.variance_share(searched) == pytest.approx(share, rel=1e-3)
    del bundle.manifest["principal_directions"]["variance_share"]  # as older bundles have it
    assert bundle.variance_share(32) is None
    wanted = text.search_directions(32)
    assert found.shape == wanted.shape == (32, 32 if family == "sd1" else 80)
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())  # tables may be in half precision
    lengths = np.linalg.norm(found, axis=1)
    assert (np.diff(lengths) <= 0).all() and lengths[-1] > 0
    np.testing.assert_allclose(found @ found.T, np.diag(lengths**2), atol=1e-5)


def test_a_rebuilt_bundle_is_the_same_to_the_byte(bundle_of: Bundles, tmp_path: Path) -> None:
    first = bundle_of("sd2", "int4")
    export(str(first.parent / "sd2"), tmp_path / "again", weights="int4")
    names = [p.relative_to(first) for p in first.rglob("*") if p.is_file()]
    assert all((tmp_path / "again" / name).read_bytes() == (first / name).read_bytes() for name in names)


def test_an_integer_checkpoint_gives_the_weights_of_its_float_model(
    bundle_of: Bundles, checkpoint_of: Callable[[str, str], Path], tmp_path: Path
) -> None:
    export(str(checkpoint_of("sd1", "int8")), tmp_path / "out", weights="int8")
    assert (tmp_path / "out" / "weights.bin").read_bytes() == (bundle_of("sd1", "int8") / "weights.bin").read_bytes()


def write_one(folder: Path) -> None:
    with _new_bundle(folder) as new:
        (new / "tokenizer").mkdir(mode=0o700)
        (new / "tokenizer" / "a").touch(mode=0o600)


@pytest.mark.parametrize(
    "left", [".out.1.tmp", f".edge-sdk-{'0' * 32}.tmp"], ids=["of an earlier version", "of this one"]
)
def test_half_a_bundle_that_a_killed_export_left_is_removed(left: str, tmp_path: Path) -> None:
    (tmp_path / left).mkdir()
    (tmp_path / left / "weights.bin").write_bytes(b"half")
    write_one(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / left).mkdir()
    with pytest.raises(EdgeSdkError, match="not an empty folder"):
        write_one(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_a_bundle_is_readable_as_the_umask_says_and_an_empty_folder_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(0o700)
    before = os.umask(0o027)
    try:
        for name in ("new", "mine"):
            write_one(tmp_path / name)
    finally:
        os.umask(before)
    modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    assert modes == {"new": 0o750, "mine": 0o700} | {
        f"{name}/tokenizer{file}": value for name in ("new", "mine") for file, value in (("", 0o750), ("/a", 0o640))
    }


def test_a_link_to_an_empty_folder_is_filled_and_the_folder_at_hand_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write_one(tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "tokenizer" / "a").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(EdgeSdkError, match="give a new folder as --output_dir"):
        write_one(Path("."))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["export", *arguments]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("edge-sdk: error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0]


@pytest.fixture
def sd1(tmp_path: Path) -> Path:
    return bundles.build(tmp_path / "model", "sd1")


def test_a_folder_that_holds_something_is_left_alone(
    capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    line = refused(capsys, "--pretrained_model_name_or_path", str(sd1), "--output_dir", str(out))
    assert "not an empty folder" in line and [p.name for p in out.iterdir()] == ["mine.txt"]


def test_a_seed_out_of_range_is_said_before_anything_is_quantized(
    capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sdk.export.bundle.quantize", lambda *_: pytest.fail("quantized"))
    for seed in (-1, 2**64):
        line = refused(
            capsys,
            "--pretrained_model_name_or_path",
            str(sd1),
            "--output_dir",
            str(tmp_path / "out"),
            "--seed",
            str(seed),
        )
        assert f"seed is {seed}; it must be at least 0 and below 2**64" in line and not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(
    capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert "cannot be written" in refused(capsys, "--pretrained_model_name_or_path", str(sd1), "--output_dir", str(out))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing(
    capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    class Full(writer.WeightFile):  # the real writer, on a device that is always full
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self._file.close()
            self._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115

    monkeypatch.setattr(writer, "WeightFile", Full)
    before = set(tmp_path.iterdir())
    line = refused(capsys, "--pretrained_model_name_or_path", str(sd1), "--output_dir", str(tmp_path / "out"))
    assert "the disk is full" in line and set(tmp_path.iterdir()) == before


def test_stable_diffusion_3_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], sd1: Path, tmp_path: Path
) -> None:
    index = json.loads((sd1 / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"]}
    (sd1 / "model_index.json").write_text(json.dumps(index))
    (sd1 / "unet").rename(sd1 / "transformer")
    line = refused(capsys, "--pretrained_model_name_or_path", str(sd1), "--output_dir", str(tmp_path / "out"))
    assert "unet" in line and not (tmp_path / "out").exists()
