"""An audit: evidence of forgetting, of integrity, and of what an attack brings back, against limits fixed beforehand.

What it can say is that an output is suppressed under these tests. It cannot say that a picture's influence on the
weights is gone.
"""

import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_sdk import __version__
from edge_sdk.diffusion import folder as model_files
from edge_sdk.errors import EdgeSdkError
from edge_sdk.images import skip_notices
from edge_sdk.system.files import RunLock, check_output_dir, write_bytes, write_json
from edge_sdk.system.json import read_json
from edge_sdk.system.paths import expanded
from edge_sdk.unlearning.audit.components import compare
from edge_sdk.unlearning.audit.distinct import distinct
from edge_sdk.unlearning.audit.evidence import Subject, collect
from edge_sdk.unlearning.audit.limits import Limits, checks
from edge_sdk.unlearning.audit.recovery import control_of
from edge_sdk.unlearning.audit.report import page
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures, read, refuse_overlap, salted_hash
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from edge_sdk.unlearning.patch import REQUESTS, requests_of
from edge_sdk.unlearning.similarity import Similarity, shared_notice

SCHEMA_VERSION = 4
RECORD, PAGE = "audit.json", "audit.html"
LEAST_RETAINED = 20  # with fewer, any picture is the one most like more than 5 % of samples, which is `Limits.hit_rate`
WORDING = (
    "These figures say that the targets are suppressed under the tests named here. They do not prove that the "
    "pictures' influence on the weights is gone."
)
HASHES = (
    "Targets are named by salted hashes. The salt is stored beside them: the hashes show no picture, but whoever has a "
    "candidate picture can test it, and where the possible pictures are few, all of them. Requests and audits of one "
    "model share a salt, so that they can be linked."
)


def audit(
    before: str,
    after: str,
    forget_data_dir: str | Path,
    retain_data_dir: str | Path,
    output_dir: str | Path,
    limits: Limits,
    control_data_dir: str | Path | None = None,
    similarity_name: str = "pixels",
    count: int = 256,
    prompt: str = "",
    resolution: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    include_images: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Measure two models and write ``audit.json`` and ``audit.html``; returns the record.

    What an interrupted audit left in the folder, limits without a verdict, is replaced.

    Args:
        control_data_dir: pictures that neither model has seen, beside which recovery is judged; None for the retained
            picture least like the targets, mirrored.
        count: free samples that are drawn of each model.
        include_images: show the targets and their reconstructions; without it no picture of a target is stored.

    Raises:
        EdgeSdkError: a model or folder that cannot be used, models that differ in more than the denoiser's weights,
            too few retained pictures, or a prompt that no request was made with.
    """
    config = UnlearnConfig(prompt=prompt, resolution=resolution, seed=seed, device=device, retention="data")
    similarity, folder = Similarity(similarity_name), expanded(output_dir)
    base, repaired = (load_denoiser(name, resolution, device) for name in (before, after))
    components = compare(base, repaired)
    requests = requests_of(repaired.folder)
    other_prompts = count_other_prompts(requests, repaired, prompt)
    targets = read(base, forget_data_dir, "forget_data_dir")
    retained = read_retained(base, retain_data_dir, targets, notify)
    for message in shared_notice(similarity, retained.pixels):
        notify(message)
    control = control_of(base, targets, retained, control_data_dir, similarity)
    base.condition(prompt)  # what a text encoder lacks is said before anything is written
    salt = bytes.fromhex(requests[-1]["salt"]) if requests else secrets.token_bytes(16)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"edge-sdk {__version__}",
        "wording": WORDING,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "passed": None,
        "before_sha256": model_files.fingerprint(base.folder),
        "after_sha256": model_files.fingerprint(repaired.folder),
        "same_components": components,
        "hashes": HASHES,
        "salt": salt.hex(),
        "targets": [salted_hash(pixels, salt) for pixels in targets.pixels],
        "requests": len(requests),
        "unaudited": count_unaudited(requests, targets),
        "unrecorded": count_unrecorded(requests, requests_of(base.folder)),
        "other_prompts": other_prompts,
        "retained": len(retained),
        "control": "retained pictures least like targets, mirrored" if control_data_dir is None else "given pictures",
        "control_to_targets": float(similarity(control.pixels, targets.pixels).max()),
        "similarity": similarity.name,
        "samples": count,
        "prompt": prompt,
        "seed": seed,
        "limits": asdict(limits),
    }
    with RunLock(folder):
        remove_unfinished(folder)
        check_output_dir(folder, run_files=(RECORD, PAGE))
        write_json(folder / RECORD, record)  # the limits, before any figure
        subject = Subject(base, repaired, targets, retained, control)
        figures, pictured = collect(subject, config, similarity, count, notify)
        record |= figures
        record["checks"] = checks(record, limits)
        record["passed"] = all(check["passed"] for check in record["checks"])
        write_bytes(folder / PAGE, page(record, pictured, include_images).encode())
        write_json(folder / RECORD, record)
        (folder / ".lock").unlink(missing_ok=True)
    return record


def remove_unfinished(folder: Path) -> None:
    """Make room where an audit was interrupted: its record has limits and no verdict."""
    try:
        finished = read_json(folder / RECORD, "")["passed"] is not None
    except (EdgeSdkError, KeyError):
        return  # there is none, or it is not of an audit that was interrupted
    if not finished:
        (folder / RECORD).unlink(missing_ok=True)
        (folder / PAGE).unlink(missing_ok=True)


def read_retained(base: Denoiser, folder: str | Path, targets: Pictures, notify: Callable[[str], None]) -> Pictures:
    """The distinct pictures of a folder.

    Raises:
        EdgeSdkError: a target is among them, or there are fewer than `LEAST_RETAINED`.
    """
    retained = read(base, folder, "retain_data_dir")
    for message in skip_notices(retained.skipped):
        notify(message)
    refuse_overlap(targets, retained)
    kept = distinct(retained.pixels, targets.pixels)
    if len(kept) < LEAST_RETAINED:
        raise EdgeSdkError(
            f"retain_data_dir {folder} holds {len(kept)} distinct pictures ({len(retained)} files, of which copies "
            f"count once, and those of targets not at all); an audit needs {LEAST_RETAINED} or more: give more pictures"
        )
    if len(kept) < len(retained):
        notify(f"{len(kept)} of {len(retained)} retained pictures are distinct, and used")
    return retained[kept]


def count_unaudited(requests: list[dict[str, Any]], targets: Pictures) -> int:
    """How many pictures of earlier requests, known by their salted hashes, are not among the targets."""
    return sum(
        len(
            set(request["targets"]) - {salted_hash(pixels, bytes.fromhex(request["salt"])) for pixels in targets.pixels}
        )
        for request in requests
    )


def count_unrecorded(requests: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> int:
    """How many requests a repaired model has no record of: those of its base, and 1 if it has none at all.

    Without a record nothing is known of the pictures that must stay forgotten, nor of the prompt.
    """
    return len([request for request in earlier if request not in requests]) + (not requests)


def count_other_prompts(requests: list[dict[str, Any]], repaired: Denoiser, prompt: str) -> int:
    """How many requests were made with another prompt; 0 of a model without prompts.

    Raises:
        EdgeSdkError: none was made with this one.
    """
    if not repaired.is_conditional:
        return 0
    prompts = [request.get("config", {}).get("prompt") for request in requests]
    known = [one for one in prompts if one is not None]
    if known and prompt not in known:
        raise EdgeSdkError(
            f"prompt is {prompt!r:.80}, and {repaired.folder / REQUESTS} says that the model was unlearned with "
            f"{known[-1]!r:.200}; give that as --prompt"
        )
    return sum(one != prompt for one in prompts)
