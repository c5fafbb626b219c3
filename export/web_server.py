"""The web demonstration's server: the page, one bundle and onnxruntime-web, to this computer only.

Every address it answers is in a table that is made at the start, so there is no path to escape by and nothing to list.
The files are opened and checked at the start, too; one that is changed afterwards is no longer served.
"""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.pocket import PHOTOS
from edge_sdk.runtime.onnx.bundle import MANIFEST, Bundle
from export.held_file import HeldFile
from export.http_server import HOST, Limits, Server, running

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


def addresses(folder: Path, open_files: contextlib.ExitStack) -> dict[str, HeldFile]:
    """All that is served, by its path in the address.

    Args:
        folder: of the bundle.
        open_files: closes the files.

    Raises:
        EdgeSdkError: the runtime is not installed, the folder is not a bundle that `Bundle.open` accepts, or a file
            changed meanwhile.
    """

    def held(path: Path, headers: dict[str, str], sha256: str | None = None) -> HeldFile:
        file = HeldFile(path, headers, sha256)
        open_files.callback(file.close)
        return file

    if why := missing():
        raise EdgeSdkError(why)
    page = [path for part in (WEB, WEB / "zo") for path in part.iterdir() if path.suffix in PAGE]
    files = {f"/{path.relative_to(WEB).as_posix()}": path for path in page}
    files |= {f"/{RUNTIME}/{name}": WEB / RUNTIME / name for name in RUNTIME_FILES}
    files |= {f"/samples/{path.name}": path for path in PHOTOS.glob("*.png")}
    files["/"] = WEB / "index.html"
    bundle = Bundle.open(folder)
    if bundle.manifest["format"] != "onnx":
        raise EdgeSdkError(f"{folder} is for {bundle.manifest['format']}; export one with --format onnx for a browser")
    hashes = {MANIFEST: bundle.sha256} | {name: entry["sha256"] for name, entry in bundle.manifest["files"].items()}
    table = {address: held(path, {"Content-Type": TYPES[path.suffix]}) for address, path in files.items()}
    return table | {f"/bundle/{name}": held(bundle.paths[name], _as_data(name), hashes[name]) for name in hashes}


def _as_data(name: str) -> dict[str, str]:
    """Headers of a bundle's file: whatever its name, it is never a page, a style or a script of this origin."""
    return {
        "Content-Type": TYPES[".json"] if name.endswith(".json") else "application/octet-stream",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }


@contextlib.contextmanager
def serving(bundle: Path, port: int = 0, limits: Limits | None = None) -> Iterator[str]:
    """Serve while within; yields the page's address. Port 0 is any that is free.

    Raises:
        EdgeSdkError: the runtime is not installed, the folder is not a bundle, or the port cannot be had.
    """
    with contextlib.ExitStack() as stack:
        table = addresses(bundle, stack)
        try:
            listener = stack.enter_context(socket.create_server((HOST, port)))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise EdgeSdkError(f"port {port} cannot be used ({why}); give another --port, or 0 for any") from error
        server = Server(listener, table, HEADERS, limits or Limits())
        stack.enter_context(running(server))
        yield f"http://{HOST}:{server.port}/"
