"""What the web page is made of, by address: its own files, onnxruntime-web, sample photos and one bundle.

Every file is opened and checked at the start, and read by its descriptor. The server serves this table, and
`web_site.write_site` writes it to a folder.
"""

import contextlib
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.held_file import HeldFile
from edge_sdk.pocket import PHOTOS
from edge_sdk.runtime.onnx.bundle import MANIFEST, Bundle

WEB = Path(__file__).parent / "web"
DIST = "node_modules/onnxruntime-web/dist"  # below WEB, where npm puts the runtime and a wheel carries it
RUNTIME_VERSION = "1.30.0"  # the one in package.json, which the golden vectors are compared with
# Modules end in .js in an address: some hosts send .mjs with a type that browsers refuse.
RUNTIME_FILES = {
    "ort.wasm.min.js": "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.js": "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
LICENCE = "onnxruntime-web.LICENSE.txt"
ROOMS = ("", "app", "runtime", "zo")  # folders of the page's own files
PAGE = (".css", ".html", ".js", ".svg")
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}


def missing() -> str | None:
    """Why the runtime of this installation cannot be used, if a file is not here."""
    return None if _has_runtime(WEB / DIST) else "onnxruntime-web is not installed"


def runtime_folder(given: Path | None = None) -> Path:
    """The folder of onnxruntime-web's files.

    Args:
        given: that folder, the npm package around it, or where `npm pack` was unpacked; None for the installation's.

    Raises:
        EdgeSdkError: a file is missing there.
    """
    folders = [WEB / DIST] if given is None else [given / part for part in ("", "dist", "package/dist", DIST)]
    for folder in folders:
        if _has_runtime(folder):
            return folder
    what = missing() if given is None else f"{given} holds no onnxruntime-web ({', '.join(RUNTIME_FILES.values())})"
    package = f"onnxruntime-web@{RUNTIME_VERSION}"
    raise EdgeSdkError(
        f"{what}; run make web in a checkout, or elsewhere npm install --prefix ort {package}, and give --runtime ort"
    )


def _has_runtime(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUNTIME_FILES.values())


def addresses(folder: Path, runtime: Path, open_files: contextlib.ExitStack) -> dict[str, HeldFile]:
    """All files of the page, by the path in the address.

    Args:
        folder: of the bundle.
        runtime: of `runtime_folder`.
        open_files: closes the files.

    Raises:
        EdgeSdkError: the folder is not a bundle that `Bundle.open` accepts, or a file changed meanwhile.
    """

    def held(path: Path, headers: dict[str, str], sha256: str | None = None) -> HeldFile:
        file = HeldFile(path, headers, sha256)
        open_files.callback(file.close)
        return file

    page = [path for room in ROOMS for path in (WEB / room).iterdir() if path.suffix in PAGE]
    files = {f"/{path.relative_to(WEB).as_posix()}": path for path in page}
    files |= {f"/onnxruntime-web/{name}": runtime / source for name, source in RUNTIME_FILES.items()}
    files["/onnxruntime-web/LICENSE.txt"] = WEB / LICENCE
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
