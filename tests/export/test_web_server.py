"""What the web demonstration's server serves: the page and a bundle, as they were when they were checked."""

import hashlib
import http.client
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import EdgeSdkError
from edge_sdk.export import web_server
from edge_sdk.export.web_page import missing
from edge_sdk.export.web_server import serving
from edge_sdk.runtime.onnx.bundle import Bundle

Bundles = Callable[[str, str], Path]
pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def server(bundle_of: Bundles) -> Iterator[http.client.HTTPConnection]:
    with serving(bundle_of("pocket", "int8")) as url:
        yield connection(url)


def connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=30)


def answer(server: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str) -> Any:
    server.request(method, path, headers=headers)
    got = server.getresponse()
    got.body = got.read()  # type: ignore[attr-defined]
    server.close()  # or it would be too old for a later test
    return got


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/zo/loop.js", "text/javascript; charset=utf-8"),
        ("/onnxruntime-web/ort.wasm.min.js", "text/javascript; charset=utf-8"),
        ("/onnxruntime-web/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/bundle/manifest.json", "application/json"),
        ("/bundle/weights.bin", "application/octet-stream"),
    ],
)
def test_files_come_with_their_types_and_the_headers_of_an_isolated_page(
    path: str, kind: str, server: http.client.HTTPConnection
) -> None:
    got = answer(server, path)
    assert got.status == 200 and got.getheader("Content-Type") == kind
    assert len(got.body) == int(got.getheader("Content-Length")) > 0
    assert got.getheader("Cross-Origin-Opener-Policy") == "same-origin"
    assert got.getheader("Cross-Origin-Embedder-Policy") == "require-corp"
    assert got.getheader("Content-Security-Policy").startswith("default-src 'none'; ")
    assert answer(server, path, "HEAD").body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/zo",
        "/zo/",
        "/bundle/",
        "/package.json",
        "/runtime/verify.mjs",
        "/app/",
        "/../bundle.py",
        "/bundle/../web_server.py",
        "/%2e%2e/bundle.py",
        "//etc/passwd",
        "/bundle//etc/passwd",
        "/node_modules/onnxruntime-web/package.json",
        "*",
    ],
)
def test_nothing_else_is_served_and_nothing_listed(path: str, server: http.client.HTTPConnection) -> None:
    got = answer(server, path)
    assert got.status == 404 and got.body == b""


def test_another_name_for_this_computer_is_refused(server: http.client.HTTPConnection) -> None:
    assert answer(server, "/", Host="photos.example").status == 403
    assert answer(server, "/", Host=f"localhost:{server.port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent(method: str, server: http.client.HTTPConnection) -> None:
    assert answer(server, "/", method).status == 501


@pytest.mark.parametrize("port", [-1, 70000, "taken"])
def test_a_port_that_cannot_be_had_is_said(
    port: int | str, server: http.client.HTTPConnection, bundle_of: Bundles
) -> None:
    bundle, number = bundle_of("pocket", "int8"), server.port if port == "taken" else int(port)
    with pytest.raises(EdgeSdkError, match=f"port {number} cannot be used"), serving(bundle, number):
        pass


@pytest.mark.parametrize("name", ["x.html", "x.js", "x.mjs", "x.svg", "x.css", "x.wasm", "x"])
def test_a_file_of_a_bundle_is_never_a_page_or_a_script(name: str, copy_of: Path) -> None:
    data = b"<script>alert(1)</script>"
    (copy_of / name).write_bytes(data)
    manifest = json.loads((copy_of / "manifest.json").read_text())
    manifest["files"][name] = {"role": "graph", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (copy_of / "manifest.json").write_text(json.dumps(manifest))
    with serving(copy_of) as url:
        got = answer(connection(url), f"/bundle/{name}")
    assert got.status == 200 and got.body == data
    assert got.getheader("Content-Type") == "application/octet-stream"
    assert got.getheader("X-Content-Type-Options") == "nosniff"
    assert got.getheader("Content-Security-Policy") == "default-src 'none'; frame-ancestors 'none'; sandbox"


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin"])
def test_a_bundle_that_changed_after_the_start_is_not_served(name: str, copy_of: Path) -> None:
    original = (copy_of / name).read_bytes()
    with serving(copy_of) as url:
        assert answer(connection(url), f"/bundle/{name}").body == original
        (copy_of / name).write_bytes(original[::-1])
        got = answer(connection(url), f"/bundle/{name}")
        assert got.status == 410 and got.body == b""


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin"])
@pytest.mark.parametrize("kind", ["bytes", "link", "pipe", "nothing"])
def test_a_bundle_that_changes_while_it_is_opened_is_refused(
    kind: str, name: str, copy_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_and_change(folder: Path) -> Bundle:
        bundle, path = check(folder), copy_of / name
        original = path.read_bytes()
        path.unlink()
        if kind == "bytes":
            path.write_bytes(original[::-1])
        elif kind == "link":
            (copy_of.parent / name).write_bytes(original)
            path.symlink_to(copy_of.parent / name)
        elif kind == "pipe":
            os.mkfifo(path)
        return bundle

    check = Bundle.open
    monkeypatch.setattr(Bundle, "open", open_and_change)
    with pytest.raises(EdgeSdkError, match=name) as caught, serving(copy_of):
        pass
    assert "\n" not in str(caught.value)


def test_no_file_stays_open(server: http.client.HTTPConnection, copy_of: Path) -> None:
    def count() -> int:
        return len(os.listdir("/dev/fd"))

    with serving(copy_of):
        pass  # what is opened once for the process is open by now
    before = count()
    with serving(copy_of):
        assert count() > before + 20
    assert count() == before
    with pytest.raises(EdgeSdkError), serving(copy_of, server.port):
        pass
    assert count() == before


def test_a_network_sees_the_page_at_the_address_that_it_connects_to_only(bundle_of: Bundles) -> None:
    """No name of another site, and no isolation: browsers ignore it over http, and complain."""
    with serving(bundle_of("pocket", "int8"), host="0.0.0.0") as url:
        (port,) = re.findall(r"http://0\.0\.0\.0:(\d+)/", url)
        for address in ("127.0.0.1", "127.0.0.2"):
            server = http.client.HTTPConnection(address, int(port), timeout=30)
            page = answer(server, "/")
            assert page.status == 200 and page.getheader("Content-Security-Policy").startswith("default-src 'none'; ")
            assert page.getheader("Cross-Origin-Opener-Policy") is None
            assert answer(server, "/", Host=f"photos.example:{port}").status == 403
            assert answer(server, "/", Host=f"127.0.0.3:{port}").status == 403


def test_by_default_only_this_computer_is_listened_to(server: http.client.HTTPConnection) -> None:
    other = http.client.HTTPConnection("127.0.0.2", server.port, timeout=30)
    with pytest.raises(ConnectionRefusedError):
        answer(other, "/")


def test_a_page_for_all_networks_is_shown_at_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "network_addresses", lambda: ["192.0.2.1", "198.51.100.7"])
    assert web_server.urls("http://0.0.0.0:80/") == ["http://192.0.2.1:80/", "http://198.51.100.7:80/"]
    assert web_server.urls("http://127.0.0.1:80/") == ["http://127.0.0.1:80/"]
    monkeypatch.setattr(web_server, "network_addresses", list)
    assert web_server.urls("http://0.0.0.0:80/") == ["http://ADDRESS-OF-THIS-COMPUTER:80/"]


def test_addresses_of_networks_are_ones_that_can_be_listened_at() -> None:
    for address in web_server.network_addresses():
        assert not address.startswith("127.")
        socket.create_server((address, 0)).close()
