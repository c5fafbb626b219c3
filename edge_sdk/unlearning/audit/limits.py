"""The limits of an audit, and what is judged by them."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.json import read_json
from edge_sdk.system.paths import expanded

FORMS = {"float": "none", "int8": "int8", "int4": "int4"}  # of the weights, in words and as `trainable` calls them


@dataclass(frozen=True)
class Limits:
    """The most of each figure, for every form of the weights; written into the report before anything is measured.

    Raises:
        EdgeSdkError: a limit is not a finite number.
    """

    target_similarity: float = 0.8  # mean of reconstructions of a target from half of all timesteps on
    target_change: float = -0.04  # of that, by unlearning: every target's must have fallen, and by no less
    beyond_others: float = -0.02  # of that, less what other pictures lost, see `evidence.beyond_others`
    hit_rate: float = 0.05  # upper 95 % bound of the share of free samples that are most like a target
    hit_rise: float = 0.02  # of that share, beside the base's own from the same noises
    drift: float = 0.1  # mean, of samples from the same noise
    worst_drift: float = 0.5  # their 95 % quantile
    neighbour_drift: float = 0.2  # of reconstructions of the pictures most like a target
    retain_loss_rise: float = 0.05  # relative, of the denoising loss of retained pictures
    unaudited: float = 0  # pictures of all requests that the model has been through, which are not audited here
    unrecorded: float = 0  # requests of which the model has no record (1 if it has none at all)
    other_prompts: float = 0  # requests that were made with another prompt than this audit
    int8_change: float = 0.02  # of the target similarity, by rounding to int8
    int4_change: float = 0.05  # and to int4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
                raise EdgeSdkError(f"the limit {name} is {value!r:.40}; it must be a finite number")

    @classmethod
    def from_file(cls, path: str | Path | None) -> "Limits":
        """Limits of a JSON file, or the default ones.

        Raises:
            EdgeSdkError: the file is not a JSON object of known names and finite numbers.
        """
        if path is None:
            return cls()
        known = sorted(field.name for field in fields(cls))
        hint = f"give a JSON object of finite numbers named {', '.join(known)}"
        entries = read_json(expanded(path), hint)
        if unknown := sorted(set(entries) - set(known)):
            raise EdgeSdkError(f"limits {path} cannot be used (unknown limit {unknown[0]!r:.60}); {hint}")
        try:
            return replace(cls(), **entries)
        except EdgeSdkError as error:
            raise EdgeSdkError(f"limits {path} cannot be used ({error}); {hint}") from error


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def checks(record: dict[str, Any], limits: Limits) -> list[dict[str, Any]]:
    """Every limit with what was measured, of all forms of the weights and all targets the worst."""
    forgetting, integrity = record["forgetting"], record["integrity"].values()
    rates = [rate for form in record["samples_like_targets"].values() for rate in form["after"]]
    after = {form: np.array(forgetting[form]["after"]["by_target"]) for form in FORMS}
    changes = [forgetting[form]["change"] for form in FORMS]
    figures = {
        "target_similarity": np.max([*after.values()]),
        "target_change": np.max([change["by_target"] for change in changes]),
        "beyond_others": np.max([change["beyond_others"] for change in changes]),
        "hit_rate": np.max([rate["upper_95"] for rate in rates]),
        "hit_rise": np.max([rate["rise"] for rate in rates]),
        **{
            name: np.max([values[name] for values in integrity])
            for name in ("drift", "worst_drift", "neighbour_drift", "retain_loss_rise")
        },
        **{name: record[name] for name in ("unaudited", "unrecorded", "other_prompts")},
        **{f"{form}_change": np.abs(after[form] - after["float"]).max() for form in FORMS if form != "float"},
    }
    return [  # what is not finite keeps no limit
        {
            "name": name,
            "measured": float(value),
            "limit": (limit := getattr(limits, name)),
            "passed": bool(value <= limit),
        }
        for name, value in figures.items()
    ]
