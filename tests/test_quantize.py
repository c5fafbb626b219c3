"""A float folder to an integer checkpoint that computes the same as quantizing on the fly."""

import json
import os
import shutil
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_sdk.errors import EdgeSdkError
from edge_sdk.generate import generate
from edge_sdk.model_files import INTEGER_MARK, PARTS
from edge_sdk.models import Model, open_model
from edge_sdk.quantization import integer_layers
from edge_sdk.quantize import quantize
from edge_sdk.zo import draw
from tests.diffusion.test_objective import objective_of


@pytest.fixture(scope="module", params=["int8", "int4"])
def made(
    request: pytest.FixtureRequest, sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("checkpoints") / request.param
    return folder, quantize(str(sd1_folder), folder, request.param)


@pytest.fixture
def copied(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def opened(folder: Path) -> Model:
    return open_model(str(folder), json.loads((folder / INTEGER_MARK).read_text())["weights"])


def weight_bytes(folder: Path, part: str) -> int:
    return sum(path.stat().st_size for path in (folder / part).glob("*.safetensors"))


def test_the_record_is_what_the_folder_holds(made: tuple[Path, dict[str, Any]], sd1_folder: Path) -> None:
    folder, record = made
    assert json.loads((folder / INTEGER_MARK).read_text()) == record
    assert record["schema_version"] == 1 and record["weights"] == folder.name and record["vae_weights"] == "int8"
    assert record["source_sha256"] == open_model(str(sd1_folder)).fingerprint()
    assert record["bytes"] == sum(weight_bytes(folder, part) for part in PARTS)
    source = open_model(str(sd1_folder), "none")
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    layers = [m for part in PARTS for m in source.load(part).modules() if isinstance(m, kinds)]
    assert record["integer_weights"] == sum(layer.weight.numel() for layer in layers)


def test_the_folder_has_the_layout_of_its_source(made: tuple[Path, dict[str, Any]], sd1_folder: Path) -> None:
    folder, _ = made
    for part in PARTS:
        assert sorted(p.name for p in (folder / part).iterdir()) == ["config.json", "integer_model.safetensors"]
        assert (folder / part / "config.json").read_bytes() == (sd1_folder / part / "config.json").read_bytes()
    for name in ("tokenizer", "scheduler"):
        for path in (sd1_folder / name).iterdir():
            assert (folder / name / path.name).read_bytes() == path.read_bytes()
    assert (folder / "model_index.json").read_bytes() == (sd1_folder / "model_index.json").read_bytes()


def test_the_weights_take_a_quarter_or_an_eighth_of_float(made: tuple[Path, dict[str, Any]], sd1_folder: Path) -> None:
    folder, record = made
    share = weight_bytes(folder, "unet") / weight_bytes(sd1_folder, "unet")
    assert share < {"int8": 0.4, "int4": 0.3}[record["weights"]]
    ideal = {"int8": 1.0, "int4": 0.5}[record["weights"]]
    layers = integer_layers(opened(folder).load("unet")).values()
    assert sum(layer.q.numel() * layer.q.element_size() for layer in layers) == ideal * sum(e.elements for e in layers)


def test_every_part_is_loaded_as_integers(made: tuple[Path, dict[str, Any]]) -> None:
    folder, record = made
    model = opened(folder)
    assert model.stored_as_integers and model.execution == "integer"
    for part in PARTS:
        wanted = "int8" if part == "vae" else record["weights"]
        module = model.load(part)
        assert {layer.weights for layer in integer_layers(module).values()} == {wanted}
        assert not any(isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)) for m in module.modules())


def test_losses_are_those_of_the_model_quantized_on_the_fly(
    made: tuple[Path, dict[str, Any]], sd1_folder: Path
) -> None:
    folder, record = made
    stored, fly = objective_of(opened(folder)), objective_of(open_model(str(sd1_folder), record["weights"]))
    draws = draw(fly, 0, 0, 4, (0, 1000))
    embeddings = np.random.default_rng(0).standard_normal((4, 2, 32)).astype(np.float32)
    np.testing.assert_allclose(stored.losses(embeddings, draws), fly.losses(embeddings, draws), rtol=1e-6)


def test_pictures_are_those_of_the_model_quantized_on_the_fly(
    made: tuple[Path, dict[str, Any]], sd1_folder: Path
) -> None:
    folder, record = made
    stored, fly = (
        np.asarray(generate("a photo of a dog", str(model), weights=record["weights"], num_inference_steps=3)[0], int)
        for model in (folder, sd1_folder)
    )
    assert (stored == fly).all()


def refused(model: str | Path, output: Path, weights: str = "int8") -> str:
    with pytest.raises(EdgeSdkError) as error:
        quantize(str(model), output, weights)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_integer_checkpoint_is_not_quantized_again(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, record = made
    assert "give the float model" in refused(folder, tmp_path / "again", record["weights"])
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("weights", ["none", "int2", ""])
def test_weights_that_are_not_integers_are_refused(weights: str, sd1_folder: Path, tmp_path: Path) -> None:
    assert "must be int8 or int4" in refused(sd1_folder, tmp_path / "q", weights)
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("taken", ["model_index.json", INTEGER_MARK])
def test_a_folder_that_holds_a_model_is_left_as_it_is(taken: str, sd1_folder: Path, tmp_path: Path) -> None:
    (tmp_path / taken).write_text("mine")
    assert f"already holds {taken}; use another --output_dir" in refused(sd1_folder, tmp_path)
    assert (tmp_path / taken).read_text() == "mine" and not (tmp_path / "unet").exists()


LEFT = {
    "a whole part": ["unet/integer_model.safetensors", "unet/config.json"],
    "a part that this model has not": ["text_encoder_2/integer_model.safetensors", "tokenizer_2/vocab.json"],
    "half a part of an earlier version": ["vae/.integer_model.safetensors.1.tmp"],
    "all but the index": ["unet/integer_model.safetensors", "tokenizer/merges.txt", "scheduler/x", INTEGER_MARK],
    "a temporary folder": [f".edge-sdk-{'0' * 32}.tmp/unet/integer_model.safetensors"],
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_what_a_killed_run_left_is_removed(left: list[str], sd1_folder: Path, tmp_path: Path) -> None:
    for name in left:
        (tmp_path / "q" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "q" / name).write_bytes(b"half")
    (tmp_path / "q" / "notes.txt").write_text("mine")
    quantize(str(sd1_folder), tmp_path / "q")
    quantize(str(sd1_folder), tmp_path / "clean")
    found, clean = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("q", "clean")
    )
    assert found.pop(Path("notes.txt")) == b"mine" and found == clean


@pytest.mark.parametrize("name", ["unet/mine.txt", "parts/integer_model.safetensors"])
def test_what_is_not_of_a_killed_run_is_left_alone(name: str, sd1_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "q" / name).parent.mkdir(parents=True)
    (tmp_path / "q" / name).write_text("mine")
    if name.startswith("unet"):
        assert "cannot be written" in refused(sd1_folder, tmp_path / "q")
    else:
        quantize(str(sd1_folder), tmp_path / "q")
    assert (tmp_path / "q" / name).read_text() == "mine"


@pytest.mark.parametrize(("mask", "modes"), [(0o022, {0o644, 0o755}), (0o027, {0o640, 0o750})], ids=["022", "027"])
def test_a_checkpoint_is_readable_as_the_umask_says(
    mask: int, modes: set[int], sd1_folder: Path, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        quantize(str(sd1_folder), tmp_path / "new" / "q")
    finally:
        os.umask(before)
    paths = [path for path in (tmp_path / "new").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == modes


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def with_header_edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"shape":[', b'"shape":[9', 1))


def with_another_schema(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"schema_version":"3"', b'"schema_version":"7"'))


def with_a_nan_scale(path: Path) -> None:
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    start = 8 + length + next(v["data_offsets"][0] for k, v in header.items() if k.endswith(".scale"))
    data[start : start + 4] = np.float32("nan").tobytes()
    path.write_bytes(data)


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage", [cut_short, with_header_edited, with_another_schema, with_a_nan_scale, missing], ids=lambda d: d.__name__
)
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_checkpoint_is_refused_in_a_line(damage: Any, part: str, copied: Path) -> None:
    path = copied / part / "integer_model.safetensors"
    damage(path)
    with pytest.raises(EdgeSdkError) as error:
        opened(copied).load(part)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_config_of_another_shape_is_refused_in_a_line(copied: Path) -> None:
    path = copied / "text_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 48}))
    with pytest.raises(EdgeSdkError, match=r"does not fit its config.json"):
        opened(copied).load("text_encoder")


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"weights": "int2"}], ids=["schema", "weights"])
def test_a_mark_of_another_version_is_refused(change: dict[str, Any], copied: Path) -> None:
    path = copied / INTEGER_MARK
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EdgeSdkError, match="make it again"):
        open_model(str(copied))
