"""The web demonstration's server: the page, one bundle and onnxruntime-web, to this computer only.

Every address it answers is in a table that is made at the start, so there is no path to escape by and nothing to list.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import PHOTOS
from edge_sdk.runtime.onnx.bundle import MANIFEST, Bundle

HOST = "127.0.0.1"
WEB = Path(__file__).parent / "web"
RUNTIME = "node_modules/onnxruntime-web/dist"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
PAGE = (".css", ".html", ".js", ".svg")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    # These three make the page cross-origin isolated: the runtime may then use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def missing() -> str | None:
    """Why the page cannot be served, if something is not here."""
    absent = [name for name in RUNTIME_FILES if not (WEB / RUNTIME / name).is_file()]
    return f"onnxruntime-web is not installed; run npm ci in {WEB}" if absent else None


def addresses(bundle: Path) -> dict[str, Path]:
    """All that is served, by its path in the address.

    Raises:
        EdgeSdkError: the runtime is not installed, or the folder is not a bundle that `Bundle.open` accepts.
    """
    if why := missing():
        raise EdgeSdkError(why)
    page = [path for folder in (WEB, WEB / "zo") for path in folder.iterdir() if path.suffix in PAGE]
    files = [*page, *(WEB / RUNTIME / name for name in RUNTIME_FILES)]
    found = {f"/{path.relative_to(WEB).as_posix()}": path for path in files}
    found["/"] = WEB / "index.html"
    found |= {f"/samples/{path.name}": path for path in PHOTOS.glob("*.png")}
    opened = Bundle.open(bundle)
    if opened.manifest["format"] != "onnx":
        raise EdgeSdkError(f"{bundle} is for {opened.manifest['format']}; export one with --format onnx for a browser")
    return found | {f"/bundle/{name}": bundle / name for name in (MANIFEST, *opened.manifest["files"])}


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from the server's table."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        if self.headers.get("Host") not in self.server.names:  # another site's name that was pointed here
            return self._fail(HTTPStatus.FORBIDDEN)
        try:
            path = self.server.addresses[self.path.partition("?")[0]]
            file = open(path, "rb")  # noqa: SIM115, closed below
        except (KeyError, OSError):
            return self._fail(HTTPStatus.NOT_FOUND)
        with file:
            self._head(HTTPStatus.OK, TYPES.get(path.suffix, "application/octet-stream"), path.stat().st_size)
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def _fail(self, status: HTTPStatus) -> None:
        self._head(status, "text/plain", 0)

    def _head(self, status: HTTPStatus, kind: str, length: int) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, table: dict[str, Path]) -> None:
        super().__init__((HOST, port), _Handler)
        self.addresses = table
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection early is no error."""


@contextmanager
def serving(bundle: Path, port: int = 0) -> Iterator[str]:
    """Serve while within; yields the page's address. Port 0 is any that is free.

    Raises:
        EdgeSdkError: the runtime is not installed, the folder is not a bundle, or the port cannot be had.
    """
    table = addresses(bundle)
    try:
        server = _Server(port, table)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise EdgeSdkError(f"port {port} cannot be used ({why}); give another --port, or 0 for any") from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
