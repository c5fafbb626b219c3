"""Golden vectors: what is broken is said in one line each, and nothing passes that compares nothing."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.cli.main import main
from export import verify

Change = Callable[[dict[str, Any]], object]


def test_core_ml_names_where_it_runs_and_no_folder() -> None:
    bundle: Any = None  # which is not looked at
    assert str(verify.coreml(bundle, [])) == "Core ML: not here (runs on Apple devices only)"


@pytest.fixture
def python_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verify.RUNTIMES, "onnx", verify.RUNTIMES["onnx"][:1])


def rewrite(bundle: Path, text: str) -> None:
    """A golden file with its hash in the manifest, as somebody who means harm would leave it."""
    (bundle / "golden.json").write_text(text)
    manifest = json.loads((bundle / "manifest.json").read_text())
    data = (bundle / "golden.json").read_bytes()
    manifest["files"]["golden.json"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def first_of(cases: list[dict[str, Any]], graph: str) -> dict[str, Any]:
    return next(case for case in cases if case["graph"] == graph)


def tensor(graph: str, kind: str, name: str, **entries: Any) -> Change:
    return lambda golden: first_of(golden["cases"], graph)[kind][name].update(entries)


BROKEN: dict[str, tuple[Change, str]] = {
    "shape": (tensor("unet", "inputs", "sample", shape=[1, 4, 8]), "inputs.sample.shape is [1, 4, 8]"),
    "huge shape": (tensor("unet", "inputs", "sample", shape=[10**9, 4, 8, 8]), "inputs.sample.shape.0 is 1000000000"),
    "large shape": (tensor("unet", "inputs", "hidden", shape=[10**6, 24, 32]), "of more than 4194304 values"),
    "shape of texts": (tensor("unet", "outputs", "predicted", shape=["1"]), "outputs.predicted.shape.0 is '1'"),
    "negative size": (tensor("unet", "outputs", "predicted", shape=[-1, 4, 8, 8]), "shape.0 is -1"),
    "dtype": (tensor("unet", "inputs", "sample", dtype="object"), "inputs.sample.dtype is 'object', not one of"),
    "stream": (tensor("unet", "inputs", "sample", normals={"seed": 0, "stream": 9, "step": 1}), "normals.stream is 9"),
    "seed": (tensor("unet", "inputs", "sample", normals={"seed": -1, "stream": 1, "step": 1}), "normals.seed is -1"),
    "stride": (tensor("unet", "outputs", "predicted", stride=0), "outputs.predicted.stride is 0"),
    "other stride": (tensor("unet", "outputs", "predicted", stride=7), "its shape and stride make 37"),
    "no values": (tensor("unet", "outputs", "predicted", values=[]), "outputs.predicted.values is []"),
    "values of texts": (tensor("text_encoder", "inputs", "input_ids", values=["x"]), "values.0 is 'x'"),
    "no bounds": (lambda g: g["cases"][0].pop("bounds"), "bounds is missing"),
    "bound of zero": (lambda g: g["cases"][0].update(bounds={"onnxruntime": 0}), "bounds.onnxruntime is 0"),
    "bound that keeps all": (lambda g: g["cases"][0].update(bounds={"onnxruntime": 1e9}), "onnxruntime is 100"),
    "bound of another runtime": (lambda g: g["cases"][0].update(bounds={"x": 0.1}), "has no bound for onnxruntime"),
    "unknown graph": (lambda g: g["cases"][0].update(graph="gan"), "graph is 'gan'; the bundle has"),
    "input left out": (lambda g: first_of(g["cases"], "unet")["inputs"].pop("sample"), "differ in 'sample'"),
    "inputs a list": (lambda g: g["cases"][0].update(inputs=[]), "inputs is [], not an object"),
    "words beyond the vocabulary": (
        lambda g: first_of(g["cases"], "text_encoder")["inputs"]["input_ids"]["values"].__setitem__(0, 10**6),
        "the bundle's graph text_encoder cannot be run",
    ),
    "another value": (
        lambda g: first_of(g["cases"], "unet")["outputs"]["predicted"]["values"].__setitem__(0, 100.0),
        "worst relative",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_case_fails_in_one_line(
    change: Change, message: str, copy_of: Path, python_only: None, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = json.loads((copy_of / "golden.json").read_text())
    change(golden)
    rewrite(copy_of, json.dumps(golden))
    assert main(["verify", str(copy_of)]) == 1
    out, err = capfd.readouterr()
    assert err == "" and out.count("\n") == 1 and "FAILED" in out and message in out


UNREADABLE: dict[str, tuple[str | Change, str]] = {
    "NaN": (tensor("unet", "outputs", "predicted", values=[float("nan")]), "NaN is no number of JSON"),
    "deep": ("[" * 100_000, "nested more than"),
    "a list": ("[]", "holds list, not an object"),
    "no cases": (lambda g: g.update(cases=[]), "cases is [], not a list of 1 to"),
    "cases an object": (lambda g: g.update(cases={"a": 1}), "cases is an object of 1"),
    "a case a text": (lambda g: g["cases"].append("x"), "is 'x', not an object"),
    "no outputs": (lambda g: g["cases"][1].update(outputs={}), "case 1 has no outputs"),
    "outputs missing": (lambda g: [case.pop("outputs") for case in g["cases"]], "case 0 has no outputs"),
    "schema": (lambda g: g.update(schema_version="1"), "schema_version is '1', not 1"),
    "schema true": (lambda g: g.update(schema_version=True), "schema_version is True, not 1"),
}


@pytest.mark.parametrize(("change", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_golden_file_that_cannot_be_read_is_refused(
    change: str | Change, message: str, copy_of: Path, python_only: None, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = json.loads((copy_of / "golden.json").read_text())
    if isinstance(change, str):
        text = change
    else:
        change(golden)
        text = json.dumps(golden)
    rewrite(copy_of, text)
    assert main(["verify", str(copy_of)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_every_broken_case_has_a_line(copy_of: Path, python_only: None, capfd: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((copy_of / "golden.json").read_text())
    for case in golden["cases"][:3]:
        case["outputs"] = copy.deepcopy(case["outputs"])
        next(iter(case["outputs"].values()))["shape"] = None
    rewrite(copy_of, json.dumps(golden))
    assert main(["verify", str(copy_of)]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["golden.json"] * 3 and "case 2: outputs" in lines[2]
