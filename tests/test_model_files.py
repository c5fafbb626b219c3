"""Model folders: what is found, what is refused and in which words; no byte of a file raises anything else."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edge_sdk.diffusion import folder as model_files
from edge_sdk.diffusion.folder import check, check_finite, find, read_header
from edge_sdk.diffusion.weight_files import weight_files
from edge_sdk.embedding import load_embedding
from edge_sdk.errors import EdgeSdkError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sd1_folder, tmp_path / "model")


def refused(message: str) -> Any:
    return pytest.raises(EdgeSdkError, match=rf"\A[^\n]*{message}[^\n]*\Z")


def file_of(header: Any, body: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_stock_folder_of_every_family_is_accepted(sd1_folder: Path, sd2_folder: Path, sdxl_folder: Path) -> None:
    assert find(str(sd1_folder)) == sd1_folder
    assert check(sd1_folder) is None and check(sd2_folder) is None and check(sdxl_folder) is None
    assert model_files.parts(sd1_folder) == ("text_encoder", "unet", "vae")
    assert model_files.parts(sdxl_folder) == ("text_encoder", "text_encoder_2", "unet", "vae")
    assert model_files.tokenizers(sdxl_folder) == ("tokenizer", "tokenizer_2")
    assert weight_files(sd1_folder / "unet") == [sd1_folder / "unet" / WEIGHTS]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no model folder ./nowhere; give 'pocket', a diffusers folder, or a hub id"),
        ("a/b/c", "no model folder a/b/c"),
        ("../model", "no model folder"),
        (__file__, "is a file; give the folder"),
        ("m" * 5000, "no model folder|too long"),
        ("m\0m", "no model folder"),
        ("edge-sdk-tests/no-such-model", "is not among the models that were downloaded before"),
    ],
    ids=["missing", "deep", "parent", "file", "too long", "null byte", "hub id offline"],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with refused(message):
        find(name)


def test_an_integer_checkpoint_says_its_weights(model: Path) -> None:
    for part in model_files.PARTS:
        weight_files(model / part)[0].rename(model / part / "integer_model.safetensors")
    mark = model / model_files.INTEGER_MARK
    mark.write_text(json.dumps({"schema_version": 1, "weights": "int4"}))
    assert check(model) == "int4"
    for change in ({"schema_version": 2}, {"weights": "int3"}, {"weights": ["int8"]}):
        mark.write_text(json.dumps({"schema_version": 1, "weights": "int4"} | change))
        with refused("is not of schema version 1; make it again: edge-sdk quantize"):
            check(model)


@pytest.mark.parametrize(
    "missing",
    ["model_index.json", "tokenizer", "scheduler/scheduler_config.json", "unet", "vae/config.json", "text_encoder"],
)
def test_a_missing_part_is_named(missing: str, model: Path) -> None:
    shutil.rmtree(model / missing) if (model / missing).is_dir() else (model / missing).unlink()
    with refused(missing):
        check(model)


def test_missing_weights_are_named(model: Path) -> None:
    (model / "unet" / WEIGHTS).unlink()
    with refused(f"unet has no safetensors weights; expected {WEIGHTS}"):
        check(model)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
def test_pickles_are_refused_with_the_way_to_convert(suffix: str, model: Path) -> None:
    (model / "unet" / WEIGHTS).rename(model / "unet" / f"weights{suffix}")
    with refused(f"weights{suffix} is a pickle, .*never opened; convert the model to safetensors"):
        check(model)


@pytest.mark.parametrize("missing", ["text_encoder_2", "text_encoder_2/config.json", "tokenizer_2", "text_encoder"])
def test_a_missing_part_of_sdxl_is_named(missing: str, sdxl_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "model")
    shutil.rmtree(folder / missing) if (folder / missing).is_dir() else (folder / missing).unlink()
    with refused(missing):
        check(folder)


def test_a_second_text_encoder_of_another_kind_is_refused(sdxl_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sdxl_folder, tmp_path / "model")
    edit_json(folder / "text_encoder_2/config.json", architectures=["T5EncoderModel"])
    with refused(r"text_encoder_2 is a .*T5EncoderModel.*; supported is CLIPTextModelWithProjection"):
        check(folder)


@pytest.mark.parametrize(("family", "kind"), [("sd1", "text_time"), ("sdxl", None)], ids=["SD", "SDXL"])
def test_a_denoiser_of_the_other_family_is_refused(
    family: str, kind: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(request.getfixturevalue(f"{family}_folder"), tmp_path / "model")
    edit_json(folder / "unet/config.json", addition_embed_type=kind)
    with refused(f"unet has addition_embed_type {kind!r} in a folder of {1 if kind else 2} text encoder"):
        check(folder)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("unet", {"_class_name": "UNet3DConditionModel"}),
        ("vae", {"_class_name": ["AutoencoderKL"]}),
        ("text_encoder", {"architectures": ["T5EncoderModel"]}),
        ("text_encoder", {"architectures": 5}),
        ("text_encoder", {"architectures": {"a": "CLIPTextModel"}}),
    ],
    ids=["another class", "a list", "another architecture", "a number", "an object"],
)
def test_a_part_of_another_kind_is_refused(part: str, changes: dict[str, Any], model: Path) -> None:
    edit_json(model / part / "config.json", **changes)
    with refused(f"{part}.*supported is {model_files.PART_CLASSES[part]}"):
        check(model)


@pytest.mark.parametrize("name", ["model_index.json", "scheduler/scheduler_config.json", "vae/config.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "list", "null", "not UTF-8", "nested", "huge number"],
)
def test_corrupt_json_is_named(name: str, content: bytes, model: Path) -> None:
    (model / name).write_bytes(content)
    with refused(name):
        check(model)


@pytest.fixture
def sharded(model: Path) -> Path:
    """The index of a denoiser in several files, as stock diffusers saves it."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    (model / "unet" / WEIGHTS).unlink()
    unet.save_pretrained(model / "unet", max_shard_size="500KB")
    return model / "unet" / f"{WEIGHTS}.index.json"


def test_sharded_weights_are_accepted(sharded: Path) -> None:
    files = weight_files(sharded.parent)
    assert len(files) > 1 and files == sorted(sharded.parent.glob("*.safetensors"))
    assert check(sharded.parents[1]) is None


@pytest.mark.parametrize(
    "shards",
    [
        {"a": "../vae/" + WEIGHTS},
        {"a": "/etc/passwd"},
        {"a": "gone.safetensors"},
        {"a": ""},
        {"a": 5},
        {"a": []},
        {},
        ["a"],
        None,
        "a",
    ],
    ids=["parent", "absolute", "missing", "empty name", "number", "list of names", "none", "list", "null", "text"],
)
def test_a_bad_list_of_shards_is_refused(shards: Any, sharded: Path) -> None:
    edit_json(sharded, weight_map=shards)
    with refused(r"safetensors\.index\.json"):
        check(sharded.parents[1])


ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
DAMAGED: dict[str, bytes] = {
    "empty file": b"",
    "length only": struct.pack("<Q", 5),
    "longer than the file": struct.pack("<Q", 2**63) + b"{}",
    "not JSON": file_of(b"{{{"),
    "nested": file_of(b"[" * 100_000),
    "list": file_of([]),
    "number for a tensor": file_of({"a": 1}),
    "no offsets": file_of({"a": {"dtype": "F32", "shape": [1, 2]}}, bytes(8)),
    "three offsets": file_of({"a": ENTRY | {"data_offsets": [0, 4, 8]}}, bytes(8)),
    "gap": file_of({"a": ENTRY | {"data_offsets": [4, 12]}}, bytes(12)),
    "overlap": file_of({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "shape too large": file_of({"a": ENTRY | {"shape": [3, 2]}}, bytes(8)),
    "negative shape": file_of({"a": ENTRY | {"shape": [-1, -2]}}, bytes(8)),
    "fraction as shape": file_of({"a": ENTRY | {"shape": [1.0, 2]}}, bytes(8)),
    "fraction as offset": file_of({"a": ENTRY | {"data_offsets": [0.0, 8.0]}}, bytes(8)),
    "unknown dtype": file_of({"a": ENTRY | {"dtype": "F31"}}, bytes(8)),
    "other dtype": file_of({"a": ENTRY | {"dtype": "F16"}}, bytes(8)),
    "bytes missing": file_of({"a": ENTRY}, bytes(7)),
    "bytes left over": file_of({"a": ENTRY}, bytes(9)),
    "metadata that is a list": file_of({"__metadata__": ["x"], "a": ENTRY}, bytes(8)),
    "metadata that is null": file_of({"__metadata__": None, "a": ENTRY}, bytes(8)),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("read", [read_header, check_finite, load_embedding], ids=lambda f: f.__name__)
def test_a_damaged_weight_file_is_refused(read: Callable[[Path], Any], case: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(DAMAGED[case])
    with refused(r"w\.safetensors"):
        read(path)


def test_a_weight_file_cut_short_is_refused_by_the_check(model: Path) -> None:
    path = model / "vae" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with refused(f"vae/{WEIGHTS} is cut short or damaged .*; download it again"):
        check(model)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 40) | st.floats() | st.sampled_from(["F32", "F16", "I8", "x", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "dtype"]), inner, max_size=2),
    max_leaves=4,
)
WEIRD_ENTRY = st.fixed_dictionaries(
    {"dtype": st.just("F32") | JSON, "shape": st.just([1, 2]) | JSON, "data_offsets": st.just([0, 8]) | JSON}
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), WEIRD_ENTRY | JSON, max_size=2) | JSON)
def test_no_header_raises_anything_but_a_one_line_error(header: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(file_of(header, bytes(8)))
    for read in (read_header, check_finite, load_embedding):
        try:
            read(path)
        except EdgeSdkError as error:
            assert "\n" not in str(error)


def test_random_bit_flips_in_a_header_raise_nothing_but_one_line_errors(model: Path, tmp_path: Path) -> None:
    whole, rng, path = (model / "vae" / WEIGHTS).read_bytes(), np.random.default_rng(0), tmp_path / "w.safetensors"
    (length,) = struct.unpack("<Q", whole[:8])
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(8 + length)] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            check_finite(path)
        except EdgeSdkError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("at", [0, 9_999], ids=["first", "last"])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(
    at: int, dtype: torch.dtype, bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "CHUNK", 1 << 10)
    tensor = torch.full((10_000,), torch.finfo(dtype).max, dtype=dtype)
    tensors = {"count": torch.full((3,), -1), "weight": tensor}
    save_file(tensors, tmp_path / "w.safetensors")
    check_finite(tmp_path / "w.safetensors")
    tensor[at] = bad
    save_file(tensors, tmp_path / "w.safetensors")
    with refused(r"w\.safetensors holds a number that is not finite in weight; download it again"):
        check_finite(tmp_path / "w.safetensors")
