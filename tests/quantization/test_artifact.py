"""Integer checkpoints: what is read is what was written, and damage is one line."""

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edge_sdk.errors import EdgeSdkError
from edge_sdk.quantization import integer_form, integer_layers, load_component, save_component
from edge_sdk.quantization.checkpoint import FILE_NAME
from edge_sdk.quantization.source import FloatWeights
from edge_sdk.runtime.pytorch.model import open_model

EXECUTIONS = pytest.mark.parametrize("execution", ["integer", "fused"])
RUNS: dict[str, Callable[[Any], torch.Tensor]] = {
    "unet": lambda m: m(torch.ones(1, 4, 8, 8).cumsum(3), torch.tensor(9), torch.ones(1, 5, 32)),
    "vae": lambda m: m.decode(m.encode(torch.ones(1, 3, 16, 16).cumsum(2) / 16)[0]),
    "text_encoder": lambda m: m(torch.arange(7)[None]),
}


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def written(model: nn.Module, folder: Path, weights: str) -> Path:
    """The checkpoint of a float module, by way of a float file."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "float.safetensors")
    form = integer_form(lambda: copy.deepcopy(model), weights, "integer")
    path = save_component(form, FloatWeights([folder / "float.safetensors"]), folder, weights, "abc")
    (folder / "float.safetensors").unlink()
    return path


@pytest.mark.parametrize(
    ("part", "weights"),
    [("unet", "int8"), ("unet", "int4"), ("vae", "int8"), ("text_encoder", "int8"), ("text_encoder", "int4")],
)
@pytest.mark.parametrize("residency", ["resident", "mapped", "streamed"])
def test_a_part_that_is_read_back_computes_what_the_float_one_does_when_quantized(
    part: str, weights: str, residency: str, sd1_folder: Path, tmp_path: Path
) -> None:
    opened = open_model(str(sd1_folder), weights)
    made: Any = opened.load(part)
    save_component(integer_form(opened.builder(part), weights, "integer"), opened.source(part), tmp_path, weights, "h")
    read: Any = load_component(opened.builder(part), tmp_path, "integer", residency)
    assert set(read.state_dict()) == set(made.state_dict()) and not read.training
    assert all((tensor == made.state_dict()[name]).all() for name, tensor in read.state_dict().items())
    with torch.inference_mode():
        for _ in range(2):  # what was dropped comes back
            assert (RUNS[part](read) == RUNS[part](made)).all()
        assert (RUNS[part](read) != RUNS[part](open_model(str(sd1_folder), "none").load(part))).any()


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(24, 3, bias=False))


@pytest.fixture(params=["int8", "int4"])
def saved(request: pytest.FixtureRequest, model: nn.Sequential, tmp_path: Path) -> Path:
    return written(model, tmp_path, request.param)


def refused(model: nn.Module, path: Path) -> str:
    with pytest.raises(EdgeSdkError) as error:
        load_component(lambda: copy.deepcopy(model), path.parent, "integer")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert "make it again with edge-sdk quantize" in str(error.value)
    return str(error.value)


def test_the_file_says_what_it_is_and_holds_no_float_weight(saved: Path) -> None:
    metadata, tensors = metadata_of(saved), load_file(saved)
    assert saved.name == FILE_NAME and metadata["schema_version"] == "3" and metadata["source_hash"] == "abc"
    assert tensors["0.q"].dtype == (torch.int8 if metadata["weights"] == "int8" else torch.uint8)
    exact = {"0.scale", "0.bias", "3.scale", "1.weight", "1.bias"}
    assert {name for name, tensor in tensors.items() if tensor.dtype == torch.float32} == exact
    assert sorted(entry.name for entry in saved.parent.iterdir()) == [FILE_NAME]


@EXECUTIONS
def test_the_execution_is_chosen_when_reading(saved: Path, model: nn.Sequential, execution: str) -> None:
    read = load_component(lambda: copy.deepcopy(model), saved.parent, execution)
    assert {layer.execution for layer in integer_layers(read).values()} == {execution}
    assert not any(parameter.requires_grad for parameter in read.parameters())


def test_a_file_that_is_not_there_is_said(model: nn.Sequential, tmp_path: Path) -> None:
    assert "cannot be read" in refused(model, tmp_path / FILE_NAME)


@pytest.mark.parametrize("kept", [0, 7, 100, -1], ids=["empty", "in the length", "in the header", "in the last byte"])
def test_a_file_cut_short_is_said(saved: Path, model: nn.Sequential, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    assert "cut short or" in refused(model, saved)


def rewritten_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


HEADERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no metadata": lambda h: h.pop("__metadata__"),
    "other schema version": lambda h: h["__metadata__"].update(schema_version="1"),
    "other weights": lambda h: h["__metadata__"].update(weights="int2"),
    "offsets outside": lambda h: h["0.q"].update(data_offsets=[0, 10**9]),
    "tensor renamed": lambda h: h.update({"0.p": h.pop("0.q")}),
    "shape transposed": lambda h: h["0.q"].update(shape=h["0.q"]["shape"][::-1]),
    "unknown type": lambda h: h["0.q"].update(dtype="X9"),
    "sign of the integers": lambda h: h["0.q"].update(dtype="U8" if h["0.q"]["dtype"] == "I8" else "I8"),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_an_edited_header_is_said(saved: Path, model: nn.Sequential, change: Callable[[dict[str, Any]], None]) -> None:
    rewritten_header(saved, change)
    refused(model, saved)


def test_the_weights_of_the_header_must_be_those_of_the_tensors(saved: Path, model: nn.Sequential) -> None:
    other = {"int8": "int4", "int4": "int8"}[metadata_of(saved)["weights"]]
    rewritten_header(saved, lambda header: header["__metadata__"].update(weights=other))
    assert "does not fit its config.json" in refused(model, saved)


TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "missing": lambda t: t.pop("3.scale"),
    "one too many": lambda t: t.update(extra=torch.ones(1)),
    "other shape": lambda t: t.update({"0.scale": t["0.scale"][:-1].clone()}),
    "float weights": lambda t: t.update({"3.q": t["3.q"].float()}),
    "NaN scale": lambda t: t["0.scale"].fill_(float("nan")),
    "infinite bias": lambda t: t["0.bias"][-1:].fill_(float("inf")),
    "NaN norm": lambda t: t["1.weight"][:1].fill_(float("nan")),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_belong_are_said(
    saved: Path, model: nn.Sequential, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    tensors, metadata = load_file(saved), metadata_of(saved)
    change(tensors)
    save_file(tensors, saved, metadata)
    refused(model, saved)


def test_weights_that_fill_pages_begin_on_pages(tmp_path: Path) -> None:
    path = written(nn.Sequential(nn.Linear(36, 5), nn.Linear(64, 64), nn.Linear(128, 64)), tmp_path, "int8")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (
        (8 + length) % 4096 == header["1.q"]["data_offsets"][0] % 4096 == header["2.q"]["data_offsets"][0] % 4096 == 0
    )


def test_another_architecture_is_said(saved: Path, model: nn.Sequential) -> None:
    assert "does not fit its config.json" in refused(model[:3], saved)
