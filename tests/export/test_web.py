"""The web runtimes, and what the page's modules share with Python: checked in Node and in a headless Chromium."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.export import chromium, web_page, web_runtimes, web_server
from edge_sdk.export.web_page import DIST, RUNTIME_FILES, RUNTIME_VERSION, WEB, missing, runtime_folder
from edge_sdk.export.web_server import serving
from tests.runtime.test_bundle_folder import hub_cache

GOLDEN = Path(__file__).parents[1] / "golden"
Bundles = Callable[[str, str], Path]

needs_runtime = pytest.mark.skipif(missing() is not None, reason=str(missing()))
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_chromium = pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing()))


@needs_node
def test_the_twin_in_javascript_passes_the_golden_files() -> None:
    """`export/web/tests` reads tests/golden; no Python is called. Graphs are run where onnxruntime-web is installed."""
    command = ["node", "--test", "--test-reporter=tap", "tests/"]
    environment = {**os.environ, "EDGE_GOLDEN": str(GOLDEN)}
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=300, env=environment)
    failed = [line for line in done.stdout.splitlines() if line.strip().startswith("not ok")]
    assert done.returncode == 0 and failed == [], f"{failed}\n{done.stdout[-3000:]}{done.stderr}"
    (passed,) = (int(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("# pass "))
    assert passed >= (70 if missing() is None else 68)


def packaged() -> set[Path]:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["edge_sdk"]
    own = (pattern.removeprefix("export/") for pattern in patterns if pattern.startswith("export/"))
    return {path for pattern in own for path in WEB.parent.glob(pattern)}


def test_tests_of_the_page_are_not_packaged() -> None:
    assert WEB / "zo" / "loop.js" in packaged() and WEB / "runtime" / "verify.mjs" in packaged()
    assert [path for path in packaged() if "tests" in path.parts[len(WEB.parts) :] or ".test." in path.name] == []


@needs_runtime
def test_of_the_runtime_the_three_files_that_the_page_loads_are_packaged_with_their_licence() -> None:
    """Other builds of it lie beside them, with names that begin alike, and are five times as large."""
    assert {path for path in packaged() if "node_modules" in path.parts} == {
        WEB / DIST / name for name in RUNTIME_FILES.values()
    }
    licence = WEB / "onnxruntime-web.LICENSE.txt"
    assert licence in packaged() and "MIT License" in licence.read_text()
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert wanted == RUNTIME_VERSION
    assert f"v{RUNTIME_VERSION}\n" in (WEB / DIST / "ort.wasm.min.mjs").read_text(encoding="utf-8")[:200]


# the bundle


RUNS = [
    pytest.param(web_runtimes.node, marks=[needs_node, needs_runtime], id="node"),
    pytest.param(web_runtimes.chromium, marks=[needs_chromium, needs_runtime], id="chromium"),
]


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("run", RUNS)
def test_the_embedded_model_computes_what_pytorch_does(run: Callable, weights: str, bundle_of: Bundles) -> None:
    found = run(bundle_of("pocket", weights))
    assert found.missing is None and "onnxruntime-web 1." in found.runtime
    assert set(found.differences) == {"zo_loss", "text_encoder", "unet", "vae_encoder", "vae_decoder"}
    assert found.bounds["zo_loss"] == 1e-5
    wrong = {graph: x for graph, x in found.differences.items() if not x <= found.bounds[graph]}
    assert wrong == {}
    assert all(x > 0 for x in found.differences.values()) and all(x > 0 for x in found.milliseconds.values())


@needs_node
@needs_runtime
def test_graphs_of_two_text_encoders_run(bundle_of: Bundles) -> None:
    found = web_runtimes.node(bundle_of("sdxl", "int8"))
    assert {graph for graph, x in found.differences.items() if not x <= found.bounds[graph]} == set()


@needs_node
@needs_runtime
def test_a_wrong_golden_value_is_seen(copy_of: Path) -> None:
    golden = json.loads((copy_of / "golden.json").read_text())
    case = next(one for one in golden["cases"] if one["graph"] == "zo_loss")
    case["outputs"]["loss"]["values"][0] *= 1.01
    (copy_of / "golden.json").write_text(json.dumps(golden))
    said(copy_of, "golden.json")
    found = web_runtimes.node(copy_of)
    assert found.differences["zo_loss"] == pytest.approx(0.0099, rel=0.01) and found.differences["unet"] < 1e-5


def said(bundle: Path, name: str) -> None:
    """Put a file's new size and hash into the manifest."""
    import hashlib

    manifest = json.loads((bundle / "manifest.json").read_text())
    data = (bundle / name).read_bytes()
    manifest["files"][name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def flipped(bundle: Path) -> None:
    data = bytearray((bundle / "weights.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "weights.bin").write_bytes(data)


def cut(bundle: Path) -> None:
    (bundle / "zo_loss.onnx").write_bytes((bundle / "zo_loss.onnx").read_bytes()[:-1])


def newer(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text()) | {"schema_version": 4}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def outside(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["../golden.json"] = manifest["files"]["golden.json"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def linked_to_device(bundle: Path) -> None:
    (bundle / "weights.bin").unlink()
    (bundle / "weights.bin").symlink_to("/dev/zero")


@needs_node
@needs_runtime
@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (flipped, "sha256"),
        (cut, "bytes"),
        (newer, "schema version 4"),
        (outside, "../golden.json"),
        (linked_to_device, "not a file"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_bundle_is_refused_in_one_line(broken: Callable, named: str, copy_of: Path) -> None:
    broken(copy_of)
    with pytest.raises(EdgeSdkError, match=named) as caught:
        web_runtimes.node(copy_of)
    assert "\n" not in str(caught.value) and " at " not in str(caught.value)


@needs_node
@needs_runtime
def test_a_bundle_in_the_hubs_cache_runs_and_is_served(bundle_of: Bundles, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of("pocket", "int8"), tmp_path / "bundle"))
    (folder / ".DS_Store").write_bytes(b"\0\5\x16\7")
    hub_cache(folder)
    found = web_runtimes.node(folder)
    assert all(x <= found.bounds[graph] for graph, x in found.differences.items()) and len(found.differences) == 5
    with serving(folder) as url, urllib.request.urlopen(f"{url}bundle/weights.bin") as answer:
        assert answer.read() == (bundle_of("pocket", "int8") / "weights.bin").read_bytes()


@pytest.mark.parametrize("run", [web_runtimes.node, web_runtimes.chromium], ids=["node", "chromium"])
def test_a_runtime_that_is_not_here_is_never_said_to_agree(
    run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(tmp_path)
    assert found.missing is not None and "not installed" in found.missing and found.differences == {}


def test_without_playwright_the_reason_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "playwright", None)  # as if it were not installed
    run = web_runtimes.chromium(tmp_path)
    assert run.missing == "playwright is not installed, so no browser was tried; run pip install playwright"
    with pytest.raises(EdgeSdkError, match="pip install playwright"), chromium.launched():
        pass


@needs_chromium
def test_a_browser_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho cannot >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EdgeSdkError, match="chromium does not start") as caught, chromium.launched():
        pass
    assert "\n" not in str(caught.value)


def runtime_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in RUNTIME_FILES.values():
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    "place", ["", "dist", "package/dist", DIST], ids=["files", "package", "npm pack", "npm install"]
)
def test_a_folder_of_the_runtime_is_taken_as_npm_leaves_it(place: str, tmp_path: Path) -> None:
    folder = runtime_in(tmp_path / "ort" / place)
    assert runtime_folder(tmp_path / "ort") == folder
    (folder / "ort.wasm.min.mjs").unlink()
    with pytest.raises(EdgeSdkError, match="holds no onnxruntime-web") as caught:
        runtime_folder(tmp_path / "ort")
    assert "\n" not in str(caught.value) and f"onnxruntime-web@{RUNTIME_VERSION}" in str(caught.value)


def test_without_a_runtime_the_reason_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web_page, "WEB", tmp_path)
    assert web_page.missing() == "onnxruntime-web is not installed"
    with pytest.raises(EdgeSdkError, match="npm install --prefix ort") as caught, web_server.serving(tmp_path):
        pass
    assert "--runtime ort" in str(caught.value) and "site-packages" not in str(caught.value)
