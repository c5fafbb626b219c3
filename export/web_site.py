"""The web page as a static folder, which any host can serve."""

import contextlib
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.web_page import addresses, runtime_folder
from edge_sdk.system.files import SHIPPED, disk_errors, make_folder, whole_folder

CHUNK = 1 << 20  # bytes


def write_site(bundle: Path, site: Path, runtime: Path | None = None) -> int:
    """Write the page, onnxruntime-web and a bundle, whole or not at all; returns the bytes written.

    Args:
        site: a new folder, or an empty one.
        runtime: see `runtime_folder`.

    Raises:
        EdgeSdkError: the runtime is not here, ``bundle`` is not a bundle for a browser, ``site`` holds something or
            cannot be written, or a file changed while it was copied.
    """
    refuse_taken_site(site)
    if bundle.resolve() in site.resolve().parents:
        raise EdgeSdkError(f"{site} is inside the bundle, which holds no other files; use another --site")
    with contextlib.ExitStack() as stack:
        files = addresses(bundle, runtime_folder(runtime), stack)
        del files["/"]  # a host serves index.html for it
        with disk_errors(site):
            make_folder(site.resolve().parent, SHIPPED)
            with whole_folder(site.resolve(), SHIPPED) as new:
                for address, file in files.items():
                    path = new / address.removeprefix("/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "wb") as out:
                        out.writelines(file.chunks(CHUNK))
        return sum(file.size for file in files.values())


def refuse_taken_site(site: Path) -> None:
    """Raises EdgeSdkError if a folder is not a place for a site: it holds something, or cannot be replaced."""
    with disk_errors(site):
        place = site.resolve()
        if place == Path.cwd() or place.is_mount():
            raise EdgeSdkError(f"{site} cannot be replaced by a site; give a new folder as --site")
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise EdgeSdkError(f"{site} already exists and is not an empty folder; use another --site")
