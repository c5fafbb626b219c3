"""The page as a static folder: what is in it, whole or not at all, and in a browser that trusts its host little."""

import functools
import http.server
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.embedding import load_embedding
from edge_sdk.export import chromium, web_page
from edge_sdk.export.held_file import HeldFile
from edge_sdk.export.web_page import missing
from edge_sdk.export.web_site import write_site
from edge_sdk.pocket import BUNDLE
from edge_sdk.runtime.onnx.bundle import Bundle
from tests.export.page import Demo

needs_chromium = pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing()))
pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites") / "site"
    assert write_site(BUNDLE, folder) == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return folder


def test_it_holds_the_page_its_runtime_and_the_bundle(site: Path) -> None:
    assert Bundle.open(site / "bundle").sha256 == Bundle.open(BUNDLE).sha256
    runtime = {"LICENSE.txt", "ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm"}
    assert set(os.listdir(site / "onnxruntime-web")) == runtime
    assert len(os.listdir(site / "samples")) == 5
    assert {path.suffix for path in site.glob("*") if path.is_file()} == {".html"}
    assert {path.suffix for path in site.glob("app/*")} == {".css", ".js", ".svg"}


def test_every_module_that_a_module_imports_is_there(site: Path) -> None:
    imports = [
        (path, name)
        for path in site.rglob("*.js")
        if path.parent.name != "onnxruntime-web"
        for name in re.findall(r"(?:from|import) '(\..*?)'", path.read_text())
    ]
    assert len(imports) > 20
    assert [f"{path.name}: {name}" for path, name in imports if not (path.parent / name).resolve().is_file()] == []


def test_no_name_in_it_is_one_that_hosts_leave_out(site: Path) -> None:
    """Some leave out node_modules, hidden files and names with an underscore, and send .mjs as a download."""
    names = {part for path in site.rglob("*") for part in path.relative_to(site).parts}
    assert [name for name in names if name.startswith((".", "_")) or name == "node_modules" or ".mjs" in name] == []


def test_others_may_read_it(site: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in site.rglob("*") if path.is_file()} == {0o666 & ~umask}


def some_file(place: Path) -> None:
    place.write_text("mine")


def some_folder(place: Path) -> None:
    place.mkdir()
    (place / "index.html").write_text("mine")


@pytest.mark.parametrize("take", [some_file, some_folder], ids=["file", "folder"])
def test_a_place_that_is_taken_is_left_alone(take: Callable[[Path], None], tmp_path: Path) -> None:
    take(tmp_path / "site")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(EdgeSdkError, match="use another --site"):
        write_site(BUNDLE, tmp_path / "site")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_site_inside_its_bundle_is_refused(copy_of: Path) -> None:
    with pytest.raises(EdgeSdkError, match="inside the bundle"):
        write_site(copy_of, copy_of / "site")
    Bundle.open(copy_of)


def test_an_empty_folder_and_missing_ones_above_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "a" / "b"):
        write_site(BUNDLE, place)
        assert (place / "index.html").exists()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_what_breaks_off_leaves_nothing(fault: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = []

    def break_off(file: HeldFile, length: int) -> Iterator[bytes]:
        written.append(file)
        if len(written) == 20:
            raise fault
        return chunks(file, length)

    chunks = HeldFile.chunks
    monkeypatch.setattr(HeldFile, "chunks", break_off)
    with pytest.raises((EdgeSdkError, KeyboardInterrupt)) as caught:
        write_site(BUNDLE, tmp_path / "site")
    assert isinstance(caught.value, KeyboardInterrupt) or "the disk is full" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_the_page_is_installed(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in web_page.WEB.iterdir()}
    write_site(BUNDLE, tmp_path / "site")
    assert {path: path.stat().st_mtime_ns for path in web_page.WEB.iterdir()} == before


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hosted(folder: Path) -> Iterator[int]:
    """Python's own web server, which sends no header of isolation or policy; yields the port."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@needs_chromium
def test_a_browser_learns_from_it_over_http_in_a_network(site: Path, tmp_path: Path) -> None:
    """A name that is not this computer's: no secure context, so no crypto.subtle, no isolation and no threads."""
    names = "--host-resolver-rules=MAP phone.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with hosted(site) as port, chromium.launched(names) as browser:
        demo = Demo(browser, f"http://phone.example:{port}/?threads=2")
        assert demo.page.evaluate("[isSecureContext, crossOriginIsolated, !!crypto.subtle]") == [False, False, False]
        demo.click("samples")
        demo.wait_for("looked")
        demo.set_steps(2)
        demo.click("start")
        demo.wait_for("learned")
        demo.download("download", tmp_path / "learned_embeds.safetensors")
        (learned,) = demo.heard("learned")
        assert learned["steps"] == 2 and learned["after"] < learned["before"]
        assert load_embedding(tmp_path / "learned_embeds.safetensors").token == "<subject>"
        own = f"http://phone.example:{port}/"
        assert {url for url in demo.requests if not url.startswith((own, f"blob:{own}"))} == set()
        assert demo.problems == []
