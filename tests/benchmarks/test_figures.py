"""Every figure of a README's measured claims is computed again from its results file, and must be what stands there.

A claim is a template whose fields are computed; what comes out must be in the README, spaces and line breaks alike.
"""

import re
from typing import Any

import numpy as np
import pytest

from benchmarks.speed.around import PARTS, of_steps
from edge_sdk.zo import fast
from tests.benchmarks.pages import ROOT, flat, page, record, results, seconds_of_pass, share_of_decrease

NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def peak(name: str, case: str) -> float:
    """MB of the whole process."""
    return results(name)[case]["summary"]["peak_mb"]["median"]


def step_peak(name: str, case: str, kind: str = "resident") -> float:
    """MB of a training step; what loading took does not count."""
    return results(name)[case]["summary"]["peaks_mb"]["step"][kind]["median"]


def wall(case: str, part: str = "median") -> float:
    return results("speed")[case]["summary"]["wall_seconds"][part]


def step_seconds(name: str, case: str) -> float:
    return results(name)[case]["summary"]["step_seconds"]["median"]


def seconds_to(model: str, method: str, share: str = "0.95") -> float:
    """Processor seconds to a share of the loss decrease of backpropagation's 150 steps."""
    return results(model)[method]["summary"][share]["mean"] * seconds_of_pass(model, method)


def device(row: str) -> float:
    """Anonymous MB of a step at the size of Stable Diffusion 1.5."""
    (found,) = (result for name, result in results("device").items() if name.startswith(row) and "sd15" in name)
    return found["summary"]["anonymous_mb"]["learning"]["median"]


def around(case: str, run: str) -> int:
    """Forward passes beside the steps."""
    rows = results("around")[case][run]["rows"]
    return sum(rows[part] for part in PARTS)


def share_around(case: str, run: str) -> str:
    return f"{100 * around(case, f'now, {run}') / of_steps(case):.1f} %"


def evidence() -> dict[str, Any]:
    return record("around_evidence")


def floor(case: str, place: str) -> str:
    """Floors of mu by a few directions: median and range over seeds."""
    few = evidence()["floors"][case][place]["few"]
    return f"{np.median(few):.2g} ({min(few):.2g}-{max(few):.2g})"


def all_directions(case: str) -> float:
    """The floor of mu on noise by all directions."""
    return evidence()["floors"][case]["noise"]["many"]


def pace(case: str) -> float:
    return results("pace")[case][0]["seconds"]


def openvino(case: str, figure: str) -> float:
    return results("speed_openvino")[case]["summary"][figure]


DEMO = fast(1.0, 128)  # what `make demo` runs, on tokens of 128 numbers
EMBEDDED, SECOND, BACKPROP = "equal_care", "equal_care_wide", "backpropagation, 150 steps"
CLAIMS: dict[str, dict[str, str]] = {
    "README.md": {
        "why": (
            f"a training step takes {step_peak('memory', 'ours int8 streamed'):.0f} MB of memory with weights streamed "
            f"from the file, or {step_peak('memory', 'ours int8 resident'):.0f} MB with all of them loaded. Textual "
            f"inversion by backpropagation takes {step_peak('memory', 'backprop float32'):.0f} MB."
        ),
        "two hours": (
            f"(80 steps of {pace('step, resident, 2 rows a call'):.0f} to "
            f"{pace('step, streamed, 2 rows a call'):.0f} s,"
        ),
        "memory": (
            f"| {peak('memory', 'ours int8 resident'):.0f} MB loaded, {peak('memory', 'ours int8 streamed'):.0f} MB "
            f"streamed (int8) | {step_peak('memory', 'backprop float32'):.0f} MB float32, "
            f"{step_peak('memory', 'backprop bfloat16 checkpointing'):.0f} MB bfloat16 with checkpointing |"
        ),
        "bundles": (
            f"| Kotlin {device('int8 kotlin'):.0f} MB int8, {device('int4 kotlin'):.0f} MB int4; "
            f"Swift {device('int8 swift'):.0f} and {device('int4 swift'):.0f} MB; "
            f"Python {step_peak('memory_bundle', 'bundle int8', 'anonymous'):.0f} and "
            f"{step_peak('memory_bundle', 'bundle int4', 'anonymous'):.0f} MB |"
        ),
        "speed": (
            f"| {wall('ours int8'):.2f} s (int8 `integer`) | {wall('diffusers float32'):.2f} s diffusers float32, "
            f"{wall('quanto int8 as it comes'):.2f} s quanto int8 |"
        ),
        "quality": f"| {share_of_decrease('fast', EMBEDDED)} / {share_of_decrease('fast', SECOND)} | 1 |",
        "time": (
            f"| time to 0.95 of it, one core | {seconds_to(EMBEDDED, 'fast'):.1f} s / "
            f"{seconds_to(SECOND, 'fast'):.1f} s | "
            f"{seconds_to(EMBEDDED, BACKPROP):.1f} s / {seconds_to(SECOND, BACKPROP):.1f} s |"
        ),
        "directions": (
            "In 8 % of the space it keeps "
            f"{results('directions')['11 of 128, principal']['summary']['share']['mean']:.2f} of its gain"
        ),
        "OpenVINO": (
            "its bf16 is as fast as our int8 at "
            f"{openvino('OpenVINO bf16', 'noise') / openvino('ours int8', 'noise'):.0f} times the noise"
        ),
        "passes of the picture": f"after {DEMO.max_train_steps * DEMO.forwards_per_step:,} forward passes on int8",
        "directions of the embedded model": f"- {DEMO.searched} directions are a quarter of the embedded",
        "GPU": (
            f"| {step_seconds('memory_gpu', 'ours int8 resident'):.2f} s, "
            f"{peak('memory_gpu', 'ours int8 resident'):.0f} MB | "
            f"{step_seconds('memory_gpu', 'backprop float32'):.2f} s, {peak('memory_gpu', 'backprop float32'):.0f} MB |"
        ),
    },
    "benchmarks/memory/README.md": {
        f"{weights} {method}": f"{peak('memory', f'ours {weights} resident'):.0f} / "
        f"{peak('memory', f'ours {weights} streamed'):.0f}"
        for weights in ("int8", "int4")
        for method in ("loaded and streamed",)
    }
    | {
        "float32": f"{step_peak('memory', 'backprop float32'):.0f} "
        f"({step_peak('memory', 'backprop float32 checkpointing'):.0f}, loading "
        f"{peak('memory', 'backprop float32 checkpointing'):.0f})",
        "bfloat16": f"{step_peak('memory', 'backprop bfloat16 checkpointing'):.0f}, loading "
        f"{peak('memory', 'backprop bfloat16 checkpointing'):.0f} |",
        "LoRA": f"| {peak('memory', 'LoRA rank 2 float32'):.0f} |",
        "fine-tuning": f"| {peak('memory', 'DreamBooth Adam float32'):.0f} |",
        "quanto": f"| {step_peak('memory', 'quanto int8 as it comes'):.0f}, loading "
        f"{peak('memory', 'quanto int8 as it comes'):.0f} |",
        "times": f"takes {peak('memory', 'backprop float32') / peak('memory', 'ours int8 resident'):.1f} times the "
        f"memory of our loaded run and {peak('memory', 'backprop float32') / peak('memory', 'ours int8 streamed'):.0f} "
        "times that of our streamed run",
    },
    "benchmarks/device/README.md": {
        client: f"| {device(f'int8 {client}'):.0f} | {device(f'int4 {client}'):.0f} |" for client in ("kotlin", "swift")
    },
    "benchmarks/speed/README.md": {
        case: f"| {wall(case):.2f} ({wall(case, 'low'):.2f}-{wall(case, 'high'):.2f}) |"
        for case in (
            "diffusers float32",
            "quanto int8 as it comes",
            "ours int8",
            "ours int8, 8-bit activations",
            "ours int8 streamed",
            "ours int4",
            "ours int8 fused",
        )
    }
    | {
        f"around {case}": f"{around(case, 'before, first')} | {around(case, 'now, first')} "
        f"({share_around(case, 'first')}) | {around(case, 'now, second')} ({share_around(case, 'second')}) |"
        for case in ("wide, PyTorch", "wide, bundle", "embedded, PyTorch", "embedded, bundle")
    }
    | {
        "floor, embedded": f"{floor('embedded, fast', 'noise')}, along all directions "
        f"{all_directions('embedded, fast'):.2g}, and on photos {floor('embedded, fast', 'photos')}.",
        "floor, wide": f"{floor('wide, fast', 'noise')}, along all {all_directions('wide, fast'):.2g}, and on photos "
        f"{floor('wide, fast', 'photos')}.",
        "mu": f"`fast` moves by {evidence()['floors']['embedded, fast']['zo_mu']:.2g} and "
        f"{evidence()['floors']['wide, fast']['zo_mu']:.2g}.",
        "previews": "differ by {:.1f} of 255 levels before learning and by {:.1f} after".format(
            *evidence()["previews"]["10"]
        ),
    },
}


@pytest.mark.parametrize(
    ("name", "claim"), [(name, claim) for name, claims in CLAIMS.items() for claim in claims], ids=str
)
def test_a_claim_is_what_its_file_says(name: str, claim: str) -> None:
    assert flat(CLAIMS[name][claim]) in page(name)


def test_no_figure_of_the_measured_table_is_without_a_file() -> None:
    """Of each row of the first README's table, all numbers after the row's name are in a claim."""
    table = (ROOT / "README.md").read_text().partition("\n## Measured\n")[2].partition("\n\nThe gain")[0]
    claimed = " ".join(CLAIMS["README.md"].values())
    rows = [line for line in table.splitlines() if line.startswith("| ") and NUMBER.search(line)]
    assert len(rows) >= 6
    for row in rows:
        cells = row.split("|")[2:]
        assert {number for cell in cells for number in NUMBER.findall(cell)} <= set(NUMBER.findall(claimed)), row
