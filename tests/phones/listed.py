"""A bundle's manifest after a file was changed on purpose."""

import hashlib
import json
from pathlib import Path


def list_again(folder: Path, name: str) -> None:
    """Enters a changed file into the manifest, with its size and hash."""
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / name).read_bytes()
    manifest["files"][name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
