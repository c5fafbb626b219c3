"""An audit: evidence of forgetting, of integrity, and of what an attack brings back, against limits fixed beforehand.

What it can say is that an output is suppressed under these tests. It cannot say that a picture's influence on the
weights is gone.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk import __version__, model_files
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import RunLock, check_output_dir, write_bytes, write_json
from edge_sdk.unlearning import measure, recovery
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import Pictures, read, refuse_overlap, salted_hash
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from edge_sdk.unlearning.losses import Losses
from edge_sdk.unlearning.measure import Model
from edge_sdk.unlearning.patch import requests_of
from edge_sdk.unlearning.recovery import attacks, control_of
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.trainable import in_form

SCHEMA_VERSION = 3
UNFINISHED = "audit.unfinished.json"  # the record of an audit at work; one that was killed leaves it
FORMS = {"float": "none", "int8": "int8", "int4": "int4"}  # of the weights, in words and as `trainable` calls them
WHEN = ("before", "after")
NEIGHBOURS = 8  # retained pictures most like a target
WORST = 0.95  # quantile that stands for the worst tail
WORDING = (
    "These figures say that the targets are suppressed under the tests named here. They do not prove that the "
    "pictures' influence on the weights is gone."
)


@dataclass(frozen=True)
class Limits:
    """What must hold for every form of the weights; written into the report before anything is measured."""

    target_similarity: float = 0.8  # mean of reconstructions of a target from half of all timesteps on, at most
    target_change: float = -0.04  # of that, by unlearning: every target's must have fallen, and by no less
    hit_rate: float = 0.05  # upper 95 % bound of the share of free samples that are most like a target
    drift: float = 0.1  # mean, of samples from the same noise, at most
    worst_drift: float = 0.5  # their 95 % quantile
    neighbour_drift: float = 0.2  # of reconstructions of the pictures most like a target
    retain_loss_rise: float = 0.05  # relative, of the denoising loss of retained pictures
    unaudited: float = 0  # pictures of all requests that the model has been through, which are not audited here
    int8_change: float = 0.02  # of the target similarity, by rounding to int8
    int4_change: float = 0.05  # and to int4

    @classmethod
    def from_file(cls, path: str | Path | None) -> "Limits":
        """Raises EdgeSdkError if the file is not a JSON object of known names and numbers."""
        if path is None:
            return cls()
        known = {field.name for field in fields(cls)}
        try:
            given = json.loads(Path(path).read_text(), parse_constant=_no_number)
            if set(given) - known:
                raise ValueError(f"unknown limit {sorted(set(given) - known)[0]}")
            return replace(cls(), **{name: float(value) for name, value in given.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise EdgeSdkError(
                f"limits {path} cannot be used ({' '.join(str(error).split())[:120]}); give a JSON object of numbers "
                f"named {', '.join(sorted(known))}"
            ) from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


@dataclass(frozen=True)
class Pictured:
    """What the page shows beside the figures: arrays of pictures (N, 3, H, W)."""

    samples: dict[str, np.ndarray]  # (2, N, 3, H, W), before and after, by form
    like_target: dict[str, np.ndarray]  # (2, N) bool, which of those are most like a target
    reconstructions: dict[str, np.ndarray]  # a few of each target, before, and after by form: (N, few, 3, H, W)
    targets: np.ndarray


def audit(
    before: str, after: str, forget_data_dir: str | Path, retain_data_dir: str | Path, output_dir: str | Path,
    limits: Limits, control_data_dir: str | Path | None = None, similarity_name: str = "pixels", count: int = 256,
    prompt: str = "", resolution: int | None = None, seed: int = 0, device: str = "cpu", include_images: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure two models and write ``audit.json`` and ``audit.html``; returns the record.

    Args:
        control_data_dir: pictures that neither model has seen, beside which recovery is judged; None for the retained
            picture least like the targets, mirrored.
        count: free samples that are drawn of each model.
        include_images: show the targets and their reconstructions; without it no picture of a target is stored.

    Raises:
        EdgeSdkError: a model or folder that cannot be used, or models of different kinds.
    """
    from edge_sdk.unlearning.report import page

    config = UnlearnConfig(prompt=prompt, resolution=resolution, seed=seed, device=device, retention="data")
    similarity, folder = Similarity(similarity_name), Path(output_dir)
    base, repaired = (load_denoiser(name, resolution, device) for name in (before, after))
    refuse_others(base, repaired)
    targets = read(base, forget_data_dir, "forget_data_dir", whole=True)
    retained = read(base, retain_data_dir, "retain_data_dir")
    for name, why in retained.skipped:
        notify(f"skipped {name}: {why}")
    refuse_overlap(targets, retained)
    control = control_of(base, targets, retained, control_data_dir, similarity)
    base.condition(prompt)  # what a text encoder lacks is said before anything is written
    requests = requests_of(repaired.folder)
    salt = bytes.fromhex(requests[-1]["salt"]) if requests else secrets.token_bytes(16)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "created_by": f"edge-sdk {__version__}", "wording": WORDING,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "before_sha256": model_files.fingerprint(base.folder, whole=True),
        "after_sha256": model_files.fingerprint(repaired.folder, whole=True),
        "salt": salt.hex(), "targets": [salted_hash(pixels, salt) for pixels in targets.pixels],
        "requests": len(requests), "unaudited": unaudited(requests, targets),
        "control": "retained pictures least like targets, mirrored" if control_data_dir is None else "given pictures",
        "control_to_targets": float(similarity(control.pixels, targets.pixels).max()),
        "similarity": similarity.name, "samples": count, "prompt": prompt, "seed": seed, "limits": asdict(limits),
    }  # fmt: skip
    with RunLock(folder):
        check_output_dir(folder, run_files=("audit.json",))
        write_json(folder / UNFINISHED, record)  # the limits, before any figure
        found, shown = measured(base, repaired, targets, retained, control, config, similarity, count, notify)
        record |= found
        record["checks"] = checks(record, limits)
        record["passed"] = all(check["passed"] for check in record["checks"])
        write_bytes(folder / "audit.html", page(record, shown, include_images).encode())
        write_json(folder / "audit.json", record)  # last: without it an audit is not finished
        for name in (UNFINISHED, ".lock"):
            (folder / name).unlink(missing_ok=True)
    return record


def refuse_others(base: Denoiser, repaired: Denoiser) -> None:
    """Raises EdgeSdkError if one model cannot have been made from the other by unlearning."""
    made_as = [
        (one.kind, one.shape, one.schedule, {name: p.shape for name, p in one.module.named_parameters()})
        for one in (base, repaired)
    ]
    if made_as[0] != made_as[1]:
        said = [f"a {one.kind} of {one.shape}, {one.schedule.prediction_type}" for one in (base, repaired)]
        other = "" if said[0] != said[1] else " of other layers or another schedule"
        raise EdgeSdkError(
            f"{base.folder} is {said[0]}, {repaired.folder} is {said[1]}{other}; give a model and what unlearn made "
            "of it"
        )


def measured(
    base: Denoiser, repaired: Denoiser, targets: Pictures, retained: Pictures, control: Pictures, config: UnlearnConfig,
    similarity: Similarity, count: int, notify: Callable[[str], None],
) -> tuple[dict[str, Any], Pictured]:  # fmt: skip
    """All figures of an audit, and the pictures that go with them."""
    condition = base.condition(config.prompt)
    losses = Losses(base, targets.x0, targets.x0[:, None], retained.x0, config)
    found: dict[str, Any] = {"forgetting": {}, "samples_like_targets": {}, "integrity": {}, "attacks": {}}
    found["relearning_steps"] = [0, *recovery.RELEARNING]
    rebuilt: dict[str, np.ndarray] = {}
    drawn: dict[str, np.ndarray] = {}
    like: dict[str, Any] = {}

    for name, form in FORMS.items():
        notify(f"{name} weights: reconstructions, and {count} samples of each model")
        old, new = (Model(model, in_form(model.module, form), condition) for model in (base, repaired))
        with torch.no_grad():
            drawn[name] = np.stack([measure.samples(model, count, config.seed) for model in (old, new)])
            hits = np.stack(
                [
                    [measure.hits(similarity, samples, target, retained.pixels) for target in targets.pixels]
                    for samples in drawn[name]
                ]
            )  # (2, targets, N)
            like[name] = np.any(hits, axis=1)
            made = {
                when: measure.reconstructions(model, targets, config.seed)
                for when, model in zip(WHEN, (old, new), strict=True)
            }
            found["forgetting"][name] = {when: _remembered(made[when], targets, similarity) for when in WHEN}
            found["samples_like_targets"][name] = {
                when: [_rate(hit) for hit in of_targets] for when, of_targets in zip(WHEN, hits, strict=True)
            }
            rebuilt |= ({"before": made["before"]} if name == "float" else {}) | {name: made["after"]}
            found["integrity"][name] = _integrity(old, new, drawn[name], losses, targets, retained, similarity)
        notify(f"{name} weights: recovery attacks")
        found["attacks"][name] = attacks(old, new, form, targets, control, similarity, config)
    return found, Pictured(drawn, like, {name: values[:, 2, :4] for name, values in rebuilt.items()}, targets.pixels)


def _integrity(
    old: Model, new: Model, drawn: np.ndarray, losses: Losses, targets: Pictures, retained: Pictures,
    similarity: Similarity,
) -> dict[str, Any]:  # fmt: skip
    """What else moved, of weights in one form; ``drawn`` are both models' samples from the same noises."""
    moved = measure.drift(similarity, *drawn)
    by_bin = {name: measure.loss_by_timestep(model, losses) for name, model in (("before", old), ("after", new))}
    return {
        "drift": float(moved.mean()), "worst_drift": float(np.quantile(moved, WORST)),
        "kernel_distance": measure.kernel_distance(*map(similarity.features, drawn)),
        "loss_by_timestep": {name: values.tolist() for name, values in by_bin.items()},
        "retain_loss_rise": float(by_bin["after"].sum() / by_bin["before"].sum() - 1),
        "neighbour_drift": _neighbour_drift(old, new, targets, retained, similarity, losses.config.seed),
    }  # fmt: skip


def _remembered(made: np.ndarray, targets: Pictures, similarity: Similarity) -> dict[str, Any]:
    """How like targets their reconstructions (N, timesteps, noises, 3, H, W) are."""
    values = measure.similarities(similarity, made, targets.pixels)
    late = values[:, [measure.TIMESTEPS.index(share) for share in measure.LATE]].mean(axis=(1, 2))
    return {"by_timestep": values.mean(axis=(0, 2)).tolist(), "by_target": late.tolist(), "mean": float(late.mean())}


def _rate(hit: np.ndarray) -> dict[str, float]:
    return {"rate": float(hit.mean()), "upper_95": measure.upper_bound(int(hit.sum()), len(hit))}


def _neighbour_drift(
    old: Model, new: Model, targets: Pictures, retained: Pictures, similarity: Similarity, seed: int
) -> float:
    """How far reconstructions of the retained pictures most like a target have moved."""
    nearest = similarity(targets.pixels, retained.pixels).argsort(axis=1)[:, -NEIGHBOURS:]
    chosen = np.unique(nearest)
    pictures = Pictures(retained.pixels[chosen], retained.x0[torch.from_numpy(chosen)])
    first, second = (measure.reconstructions(model, pictures, seed, (0.5,)) for model in (old, new))
    return float(measure.drift(similarity, *(p.reshape(-1, *p.shape[3:]) for p in (first, second))).mean())


def checks(found: dict[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Every limit with what was measured, of all forms of the weights and all targets the worst."""
    forgetting, integrity = found["forgetting"], found["integrity"].values()
    rates = [rate["upper_95"] for when in found["samples_like_targets"].values() for rate in when["after"]]
    before, after = ({form: np.array(forgetting[form][when]["by_target"]) for form in FORMS} for when in WHEN)
    measured_ = {
        "target_similarity": np.max([*after.values()]),
        "target_change": np.max([after[form] - before[form] for form in FORMS]),
        "hit_rate": np.max(rates),
        **{
            name: np.max([values[name] for values in integrity])
            for name in ("drift", "worst_drift", "neighbour_drift", "retain_loss_rise")
        },
        "unaudited": found["unaudited"],
        **{f"{form}_change": np.abs(after[form] - after["float"]).max() for form in ("int8", "int4")},
    }
    return [  # what is not finite keeps no limit
        {
            "name": name,
            "measured": float(value),
            "limit": (limit := getattr(limits, name)),
            "passed": bool(value <= limit),
        }
        for name, value in measured_.items()
    ]


def unaudited(requests: list[dict[str, Any]], targets: Pictures) -> int:
    """How many pictures of earlier requests, known by their salted hashes, are not among the targets."""
    return sum(
        len(
            set(request["targets"]) - {salted_hash(pixels, bytes.fromhex(request["salt"])) for pixels in targets.pixels}
        )
        for request in requests
    )
