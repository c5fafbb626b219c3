"""`edge-sdk demo --web`: the page from one command, and one line for what cannot be served."""

import json
import os
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.cli.demo import OF_THE_PAGE
from edge_sdk.export import web_page
from edge_sdk.export.web_page import missing
from tests.cli.test_main import call, refused, start

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
    **{f"--{name} without the page": ([f"--{name}", "1"], "add --web") for name in OF_THE_PAGE},
    "a folder that is no bundle": (["--web", "--bundle", "tests"], "manifest.json"),
    "a folder that is not there": (["--web", "--bundle", "nowhere"], "nowhere"),
    "both": (["--web", "--bundle", "x", "--output_dir", "y"], "both"),
    "a name as host": (["--web", "--host", "photos.example"], "give an IPv4 address of this computer"),
    "an address of version 6 as host": (["--web", "--host", "::"], "give an IPv4 address of this computer"),
    "a host of somebody else": (["--web", "--host", "198.51.100.7"], "198.51.100.7 cannot be used"),
    "a runtime that is none": (["--web", "--runtime", "tests"], "tests holds no onnxruntime-web"),
    "a site that is served": (["--web", "--site", "x", "--port", "8000"], "leave --port out"),
    "a site with a host": (["--web", "--site", "x", "--host", "0.0.0.0"], "leave --host out"),
    "a site in a folder that is taken": (["--web", "--site", "tests"], "not an empty folder; use another --site"),
    "a site in this folder": (["--web", "--site", "."], "give a new folder as --site"),
    "a site of no bundle": (["--web", "--site", "new-site", "--bundle", "tests"], "manifest.json"),
}


@needs_runtime
@pytest.mark.parametrize(("argv", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refused(capsys, "demo", *argv)
    assert not Path("new-site").exists() and not Path("x").exists()


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
    monkeypatch.setattr(web_page, "WEB", tmp_path)
    assert "--runtime ort" in refused(capsys, "demo", "--web", "--output_dir", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@needs_runtime
def test_with_a_host_the_page_is_served_to_the_network_and_says_so(tmp_path: Path) -> None:
    process = start("demo", "--web", "--host", "0.0.0.0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == (
        "everyone in the network can open the page and this bundle; photos stay in the browser they are chosen in\n"
    ), line + process.communicate()[1]
    line = process.stdout.readline()
    addresses = re.findall(r"http://[\w.-]+:\d+/", line)
    assert line == f"open {' or '.join(addresses)} in a browser; Ctrl-C ends it\n" and addresses
    port = addresses[0].rpartition(":")[2]
    for url in {f"http://127.0.0.1:{port}"} | {url for url in addresses if "ADDRESS" not in url}:
        with urllib.request.urlopen(url) as page:
            assert b"Your photos stay in this page" in page.read()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 0


@needs_runtime
def test_a_site_is_written_and_nothing_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("demo", "--web", "--site", tmp_path / "site") == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"wrote {tmp_path}/site (") and "python -m http.server -d" in out
    assert {"index.html", "app", "runtime", "zo", "bundle", "onnxruntime-web", "samples"} <= set(
        os.listdir(tmp_path / "site")
    )
