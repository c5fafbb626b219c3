"""`edge-sdk demo --web`: the page from one command, and one line for what cannot be served."""

import json
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.export import web_server
from edge_sdk.export.web_server import missing
from tests.cli.test_main import refused, start

needs_runtime = pytest.mark.skipif(missing() is not None, reason=str(missing()))
END = signal.SIGINT, signal.SIGTERM


@needs_runtime
@pytest.mark.parametrize("end", END, ids=lambda end: end.name)
def test_a_bundle_is_served_until_the_end_is_asked_for(end: signal.Signals, tmp_path: Path) -> None:
    process = start("demo", "--web", *(["--output_dir", tmp_path / "bundle"] if end == signal.SIGINT else []))
    assert process.stdout is not None
    if end == signal.SIGINT:  # else the bundle that ships is served
        assert process.stdout.readline() == "making a bundle of the embedded model\n"
    line = process.stdout.readline()
    found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/) in a browser; Ctrl-C ends it\n", line)
    assert found, line + process.communicate()[1]
    with urllib.request.urlopen(found[1]) as page:
        assert b"Your photos stay in this page" in page.read()
    with urllib.request.urlopen(f"{found[1]}bundle/manifest.json") as manifest:
        assert json.load(manifest)["model"]["name"] == "pocket"
    process.send_signal(end)
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 0
    assert (tmp_path / "bundle" / "weights.bin").exists() == (end == signal.SIGINT)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "a port without the page": (["--port", "8000"], "add --web"),
    "a bundle without the page": (["--bundle", "x"], "add --web"),
    "a folder that is no bundle": (["--web", "--bundle", "tests"], "manifest.json"),
    "a folder that is not there": (["--web", "--bundle", "nowhere"], "nowhere"),
    "both": (["--web", "--bundle", "x", "--output_dir", "y"], "both"),
}


@needs_runtime
@pytest.mark.parametrize(("argv", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refused(capsys, "demo", *argv)


@needs_runtime
@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_said(
    port: str, bundle_of: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "demo", "--web", "--bundle", bundle_of("pocket", "int8"), "--port", port)
    assert f"port {port} cannot be used" in line


def test_a_missing_runtime_is_said_before_a_bundle_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web_server, "WEB", tmp_path)
    assert f"npm ci in {tmp_path}" in refused(capsys, "demo", "--web", "--output_dir", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
