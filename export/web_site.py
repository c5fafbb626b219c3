"""The web page as a static folder, which any host can serve."""

import contextlib
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.web_page import addresses, runtime_folder
from edge_sdk.system.files import SHIPPED, disk_errors, free_place, make_folder, whole_folder

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
    place = free_place(site, "site")
    if bundle.resolve() in place.parents:
        raise EdgeSdkError(f"{site} is inside the bundle, which holds no other files; use another --site")
    with contextlib.ExitStack() as stack:
        files = addresses(bundle, runtime_folder(runtime), stack)
        del files["/"]  # a host serves index.html for it
        with disk_errors(site):
            make_folder(place.parent, SHIPPED)
            with whole_folder(place, SHIPPED) as new:
                for address, file in files.items():
                    path = new / address.removeprefix("/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "wb") as out:
                        out.writelines(file.chunks(CHUNK))
        return sum(file.size for file in files.values())
