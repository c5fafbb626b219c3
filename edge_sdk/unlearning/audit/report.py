"""An audit as one HTML page: no script, no network, pictures inside. Targets are on it only if asked for."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from edge_sdk.images import to_pil
from edge_sdk.unlearning.audit.evidence import WHEN, Pictured
from edge_sdk.unlearning.audit.measure import TIMESTEPS

SHOWN = 24  # samples of each model
TILE = 64  # pixels, of a picture
INTEGRITY = {
    "drift": "drift of free samples",
    "worst_drift": "its 95 % quantile",
    "kernel_distance": "kernel distance (KID)",
    "neighbour_drift": "drift of neighbours",
    "retain_loss_rise": "rise of the retain loss",
}
NAMES = {
    "target_similarity": "target similarity, worst target",
    "target_change": "change of it by unlearning, target that changed least",
    "beyond_others": "that change beyond the one of other pictures, target that changed least",
    "hit_rate": "free samples most like a target, upper 95 % bound",
    "hit_rise": "rise of their share beside the model before",
    "drift": "drift of free samples, mean",
    "worst_drift": "drift of free samples, 95 % quantile",
    "neighbour_drift": "drift of the retained pictures most like a target",
    "retain_loss_rise": "rise of the retained pictures' denoising loss",
    "unaudited": "pictures of earlier requests that were not given to this audit",
    "unrecorded": "requests without a record: unlearned.json is missing, or lacks some of the model before",
    "other_prompts": "requests that were made with another prompt",
    "int8_change": "change of target similarity by int8, worst target",
    "int4_change": "change of target similarity by int4, worst target",
}
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #ddd;padding:.3rem .8rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.ok{color:#2f7d32}.no{color:#b3261e;font-weight:600}
img{image-rendering:pixelated;max-width:100%}figure{margin:1rem 0}figcaption{color:#555}"""


@dataclass(frozen=True)
class Markup:
    """A cell that is HTML already; any other text is escaped."""

    html: str


def page(record: dict[str, Any], shown: Pictured, include_images: bool) -> str:
    """The page of a finished record."""
    verdict = "all limits are kept" if record["passed"] else "a limit is missed"
    forgetting, attacks = record["forgetting"], record["attacks"]
    hits = record["samples_like_targets"]
    integrity = record["integrity"]
    parts = [
        f"<h1>Audit of unlearning: {verdict}</h1><p>{html.escape(record['wording'])}</p>",
        f"<p>{record['time']}, {html.escape(record['created_by'])}. Similarity is measured by "
        f"<b>{html.escape(record['similarity'])}</b>. Models: before {record['before_sha256'][:16]}, after "
        f"{record['after_sha256'][:16]}, equal in {html.escape(', '.join(record['same_components']))} (but for the "
        f"denoiser's weights). Requests that the model after has a record of: {record['requests'] or 'none'}. Tested: "
        f"{record['samples']} free samples of each model, {record['retained']} distinct retained pictures, seed "
        f"{record['seed']}, {_prompt(record['prompt'])}; no other prompt, seed or attack.</p>",
        f"<p>{html.escape(record['hashes'])} Targets: {', '.join(digest[:16] for digest in record['targets'])}.</p>",
        "<h2>Limits, fixed before the run</h2><p>Measured on float, int8 and int4 weights; the worst counts. Recovery "
        "attacks are reported below, and not judged.</p>",
        _table(
            ["what", "measured", "limit", ""],
            [[NAMES[c["name"]], c["measured"], c["limit"], _mark(c["passed"])] for c in record["checks"]],
        ),
        "<h2>Forgetting</h2><p>Similarity of a target to what becomes of it when it is noised to a share of all "
        "timesteps and denoised again, mean over noises and targets.</p>",
        _table(
            ["weights", "", *(f"from {share:g} T" for share in TIMESTEPS)],
            [
                [form, when, *values["by_timestep"]]
                for form, both in forgetting.items()
                for when, values in both.items()
                if when in WHEN
            ],
        ),
        "<p>Change of that similarity from half of all timesteps on. A target's counts from the lowest twentieth of "
        "other pictures: retained ones, or samples of the model before, whichever lost more.</p>",
        _table(
            [
                "weights",
                "target, least",
                "retained, mean",
                "lowest twentieth",
                "samples, mean",
                "lowest twentieth",
                "target beyond others, least",
            ],
            [[form, *_changes(values["change"])] for form, values in forgetting.items()],
        ),
        f"<p>Free samples that are more like a target than like any of {record['retained']} distinct retained pictures "
        f"(of a picture like any other, {1 / (1 + record['retained']):.1%} would be): "
        + "; ".join(f"{form}, {when}: {_percent(rates)}" for form, both in hits.items() for when, rates in both.items())
        + ".</p>",
        *([_targets(shown)] if include_images else []),
        "<h2>Integrity</h2><p>How far the model after is from the model before, both with their weights in the same "
        "form.</p>",
        _table(
            ["weights", *INTEGRITY.values()],
            [[form, *(values[name] for name in INTEGRITY)] for form, values in integrity.items()],
        ),
        *_samples(shown, include_images),
        chart(
            integrity["float"]["loss_by_timestep"],
            "denoising loss of retained pictures by timestep (in tenths), float weights",
        ),
        "<h2>Recovery attacks</h2><p>Any picture can be taught, and most have an address: only what a target gives "
        f"away and the control does not is evidence of what is left. Control: {html.escape(record['control'])}, "
        f"similarity to targets at most {record['control_to_targets']:.2f}. Inversion: similarity of a picture to what "
        "becomes of the model's own address of it.</p>",
        _table(
            ["weights", "target, before", "target, after", "control, after"],
            [[form, *values["inversion"].values()] for form, values in attacks.items()],
        ),
        "<p>Relearning: similarity of a picture to its reconstructions from half of all timesteps on, after it was "
        "shown for some steps.</p>",
        _table(
            ["weights", "shown", *(f"{steps} steps" for steps in record["relearning_steps"])],
            [[form, name, *found] for form, values in attacks.items() for name, found in values["relearning"].items()],
        ),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Audit of unlearning</title>'
        f"<style>{_STYLE}</style>"
        f"<body>{body}</body></html>\n"
    )


def _prompt(prompt: str) -> str:
    """What conditional models were told, for the page."""
    return f"one prompt, “{html.escape(prompt)}”" if prompt else "no prompt"


def _samples(shown: Pictured, include_images: bool) -> list[str]:
    """A figure for each form of the weights; a sample that is most like a target shows it, and is blank unasked."""
    figures = []
    for form, drawn in shown.samples.items():
        hidden = shown.like_target[form] & (not include_images)
        pictures = np.where(hidden[..., None, None, None], 1.0, drawn)[:, :SHOWN]
        caption = f"free samples from the same noises, {form} weights: before (upper half) and after"
        if hidden[:, :SHOWN].any():
            caption += "; blank are those most like a target"
        figures.append(_picture(grid(list(pictures)), caption))
    return figures


def _targets(shown: Pictured) -> str:
    """A table with a row for each target: it, and what becomes of it."""
    few = {"target": shown.targets[:, None], **shown.reconstructions}
    head = "".join(f"<th>{name if name in ('target', 'before') else f'after, {name}'}</th>" for name in few)
    rows = [
        "<tr>" + "".join(f"<td>{_image(grid([many[i]], 2), TILE)}</td>" for many in few.values()) + "</tr>"
        for i in range(len(shown.targets))
    ]
    caption = "targets, and what becomes of them from half of all timesteps on, with four noises"
    return f"<figure><table><tr>{head}</tr>{''.join(rows)}</table><figcaption>{caption}</figcaption></figure>"


def grid(rows: Sequence[np.ndarray], columns: int = 12) -> np.ndarray:
    """Rows of pictures (N, 3, H, W) in [-1, 1], each wrapped after ``columns``, as one (3, H, W)."""
    lines = []
    for pictures in rows:
        width = min(columns, max(len(row) for row in rows))
        blank = np.ones((-len(pictures) % width, *pictures.shape[1:]), np.float32)
        full = np.concatenate([pictures, blank])
        lines += [np.concatenate(list(full[i : i + width]), axis=2) for i in range(0, len(full), width)]
    return np.concatenate(lines, axis=1)


def chart(lines: dict[str, list[float]], caption: str) -> str:
    """Lines over equal bins as SVG."""
    width, height, colors = 480, 200, ("#4c6a92", "#d62728")
    top = max(max(values) for values in lines.values()) * 1.05
    drawn = []
    for (name, values), color in zip(lines.items(), colors, strict=False):
        x = np.linspace(30, width - 80, len(values))
        y = [height - 10 - (height - 20) * value / top for value in values]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        dy = 12 if name == "after" else 0
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
            f'<text x="{width - 74}" y="{y[-1] + dy:.1f}" fill="{color}" font-size="13">{html.escape(name)}</text>'
        )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" role="img">{"".join(drawn)}'
        f'<text x="0" y="14" font-size="11" fill="#555">{top:.2g}</text></svg>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _picture(pixels: np.ndarray, caption: str) -> str:
    """(3, H, W) in [-1, 1] as a figure."""
    return f"<figure>{_image(pixels, TILE * 12)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _image(pixels: np.ndarray, width: int) -> str:
    """(3, H, W) in [-1, 1] as an image inside the page, enlarged in whole steps to about a width."""
    image = to_pil(pixels)
    times = max(1, width // image.width)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="">'


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Markup):
        return f"<td>{value.html}</td>"
    if isinstance(value, int | float):
        return f'<td class="n">{value if isinstance(value, int) else f"{value:.3f}"}</td>'
    return f"<td>{html.escape(str(value))}</td>"


def _changes(change: dict[str, Any]) -> list[float]:
    """Cells of a form of the weights: the target that changed least, other pictures, and the difference."""
    others = [change[name][figure] for name in ("retained", "samples") for figure in ("mean", "tail")]
    return [max(change["by_target"]), *others, max(change["beyond_others"])]


def _mark(passed: bool) -> Markup:
    return Markup('<span class="ok">kept</span>' if passed else '<span class="no">missed</span>')


def _percent(rates: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{rate['rate']:.1%} (at most {rate['upper_95']:.1%})" for rate in rates)
