"""Every figure of the quality page's measured claims is computed again from its results file."""

import pytest

from benchmarks.lib.intervals import by_subject, interval, on_common_runs
from tests.benchmarks.pages import figures, flat, page, results, seconds_of_pass, share_of_decrease

WIDE, SECOND = "equal_care_distilled", "equal_care_wide"
RANDOM, READABLE = "64 of 768, 32 a step, random", "64 of 768, 32 a step, readable"


def of_directions(name: str, rows: str, bases: tuple[str, ...] = ("principal", "readable", "random")) -> str:
    """Cells of a row of the table of directions, each with the number of people."""
    cells = []
    for basis in bases:
        summary = results(name).get(f"{rows}, {basis}", {}).get("summary")
        cells.append(f"{figures(summary['share'])} ({summary['people']})" if summary else "")
    return " | ".join(cells)


def more_than_principal(name: str, case: str) -> str:
    return figures(results(name)[case]["summary"]["beside_principal"], sign="+")


def forwards(value: dict[str, float | None], method: str, record: str) -> str:
    """Forward passes to a loss, and the seconds that they take."""
    counts = ["never" if (n := value[key]) is None else f"{n:,.0f}" for key in ("mean", "low", "high")]
    mean = value["mean"]
    seconds = "" if mean is None else f", {mean * seconds_of_pass(record, method):.1f} s"
    return f"{counts[0]} [{counts[1]}, {counts[2]}]{seconds}"


def equal_care(method: str, record: str = "equal_care") -> str:
    """Cells of a row of the table of equal care: share, and what 0.90, 0.95 and 0.98 take."""
    summary = results(record)[method]["summary"]
    cells = [forwards(summary[share], method, record) for share in ("0.9", "0.95", "0.98")] if "0.9" in summary else []
    return " | ".join([figures(summary["share"]), *cells])


def kept(name: str, case: str, base: str, start: str) -> str:
    """Of a base's loss decrease from a start, what a case keeps, over people; seeds averaged first."""
    of_start, of_base, ends = on_common_runs(results(name), start, base, case)
    return figures(interval(of_start - ends, of_start - of_base))


def more_than_paper(method: str) -> dict[str, float]:
    """A method's share of the loss decrease less that of `paper` as published, paired by person."""
    names = ("initializer", "backpropagation, 150 steps", "paper, published", method)
    start, plateau, paper, ends = on_common_runs(results("equal_care"), *names)
    return interval(paper - ends, start - plateau)


def beside_integer(name: str, case: str) -> str:
    return kept(name, case, "int8 integer", "initializer")


def as_differences(name: str) -> str:
    return kept(name, "fast-int8-difference", "fast-int8-integer", "initializer-int8-integer")


def loss(name: str, case: str) -> str:
    return figures(interval(by_subject(results(name)[case]["runs"], "loss")), 4)


def mean_loss(name: str, case: str) -> float:
    return float(by_subject(results(name)[case]["runs"], "loss").mean())


def people_and_seeds(name: str, case: str) -> str:
    runs = results(name)[case]["runs"]
    return f"{len({run['subject'] for run in runs})} x {len({run['seed'] for run in runs})}"


def against(share: str, record: str = "equal_care") -> str:
    """Forward passes of `fast` and of backpropagation to a share of the decrease."""
    own, other = (
        results(record)[method]["summary"][share]["mean"] for method in ("fast", "backpropagation, 150 steps")
    )
    return f"{own:,.0f} against {other:,.0f} to {share}"


def ends(method: str) -> float:
    return results("equal_care")[method]["summary"]["share"]["mean"]


def stopped(record: str = "equal_care") -> str:
    summary = results(record)["backpropagation, stopped after DVAR"]["summary"]
    return f"{figures(summary['forwards'], 0)} | {figures(summary['share'])}"


def memory_of(method: str) -> str:
    return f"{results('equal_care_costs')[method]['peak_anonymous_mb']:.0f}"


def under_noise(name: str, method: str) -> str:
    summary = results(name)[method]["summary"]
    return " | ".join(figures(summary[key]) for key in ("share_of_loss_learned", "share_of_backprop_decrease"))


CLAIMS = (
    {
        row: f"| {row} | {of_directions('directions', case)} |"
        for row, case in {
            "11 of 128 (8 %)": "11 of 128",
            "22 of 128 (17 %)": "22 of 128",
            "22 of 128, 11 a step": "22 of 128, 11 a step",
            "44 of 128, 11 a step": "44 of 128, 11 a step",
            "64 of 768, beside white noise": "64 of 768, 32 a step, white",
            "64 of 768, beside shuffled words": "64 of 768, 32 a step, shuffled",
            "128 of 768, beside white noise": "128 of 768, 32 a step, white",
            "128 of 768, beside shuffled words": "128 of 768, 32 a step, shuffled",
        }.items()
    }
    | {
        "64 of 768, a trained table": (
            f"| 64 of 768, a trained table | {of_directions('directions_wide', '64 of 768, 32 a step')} |"
        ),
        "64 of 768, the second model": (
            f"| 64 of 768, the second model | {of_directions('directions_second', '64 of 768, 32 a step')} |"
        ),
        "random directions, second": f"there they have {more_than_principal('directions_second', RANDOM)}.",
        "readable directions, second": (
            f"model: {more_than_principal('directions_second', READABLE)}, and with 80 steps their loss is "
            f"{mean_loss(SECOND, 'fast'):.4f} where that of principal ones is "
            f"{mean_loss('directions_second', '64 of 768, 32 a step, 80 steps, principal'):.4f}."
        ),
        "random directions": (
            f"they have {more_than_principal('directions', '64 of 768, 32 a step, shuffled, random')} against "
            "principal ones, paired by person. Behind the trained table they have "
            f"{more_than_principal('directions_wide', RANDOM)}."
        ),
        "readable directions": (
            f"they have {more_than_principal('directions', '11 of 128, readable')} at 8 %, "
            f"{more_than_principal('directions', '64 of 768, 32 a step, shuffled, readable')} beside shuffled words, "
            f"and {more_than_principal('directions_wide', READABLE)} behind the trained table"
        ),
        "breadth": (
            f"get {results('directions')['44 of 128, 11 a step, principal']['summary']['share']['mean']:.3f} instead "
            f"of {results('directions')['11 of 128, principal']['summary']['share']['mean']:.3f}."
        ),
        "finding them": f"as long as {results('directions_cost')['forward passes in all']:.0f} forward passes of",
        "to a loss": f"{', '.join(against(share) for share in ('0.9', '0.95'))} and {against('0.98')}.",
        "ends": f"`fast` ends at {share_of_decrease('fast')} of backpropagation's decrease",
        "shorter schedules": (
            f"25 and 50 steps end at {ends('backpropagation, 25 steps, tuned'):.3f} and "
            f"{ends('backpropagation, 50 steps, tuned'):.3f}."
        ),
        "evolution": (
            f"reaches {ends('evolution strategy, tuned'):.3f} where `paper` reaches {ends('paper, published'):.3f}"
        ),
        "evolution, paired": (
            f"Paired by person the difference is {figures(more_than_paper('evolution strategy, tuned'))}."
        ),
        "what paper gains": (
            f"gains {more_than_paper('paper, tuned')['mean']:.3f} on twenty others, three times the steps "
            f"{more_than_paper('paper, tuned, three times the steps')['mean']:.3f}."
        ),
        "stopped after DVAR": f"| {stopped()} |",
        "stopped after DVAR, wide": f"| {stopped(WIDE)} |",
        "to a loss, wide": f"{against('0.9', WIDE)} and {against('0.95', WIDE)}.",
        "ends, wide": f"`fast` ends at {share_of_decrease('fast', WIDE)} of its decrease",
        "paper, wide": (
            f"from {share_of_decrease('paper, published', WIDE)} to {share_of_decrease('paper, tuned', WIDE)}, and to "
            f"{share_of_decrease('paper, tuned, three times the steps', WIDE)} with three times the steps."
        ),
        "evolution, wide": f"The evolution strategy has {share_of_decrease('evolution strategy, tuned', WIDE)}.",
        "to a loss, second": f"{against('0.9', SECOND)}.",
        "ends, second": f"`fast` ends at {share_of_decrease('fast', SECOND)} of its decrease",
        "paper, second": (
            f"{share_of_decrease('paper, published', SECOND)} as published, "
            f"{share_of_decrease('paper, tuned', SECOND)} tuned and "
            f"{share_of_decrease('paper, tuned, three times the steps', SECOND)} with three times the steps."
        ),
        "evolution, second": f"The evolution strategy has {share_of_decrease('evolution strategy, tuned', SECOND)}.",
        "qnn": f"`--target qnn` | {people_and_seeds('targets', 'qnn')} | {beside_integer('targets', 'qnn')} |",
        "ane": f"| {people_and_seeds('ane', 'ane, as exported')} | {loss('ane', 'ane, as exported')} "
        f"| {beside_integer('ane', 'ane, as exported')} |",
        "ane, wide": f"keeps {beside_integer('ane_distilled', 'ane, as exported')} of `integer`'s decrease, 20 people",
        "differences": f"twenty people on whom nothing was chosen, one seed, keep {as_differences('differences')} of",
        "differences, wide": f"people keep {as_differences('differences_distilled')} of 16 bits' decrease there",
        "qnn, wide": f"keeps {beside_integer('targets_distilled', 'qnn')} of `integer`'s decrease, 20 people",
        "stopped": (
            f"after DVAR, ends at {ends('backpropagation, stopped after DVAR'):.3f} after "
            f"{results('equal_care')['backpropagation, stopped after DVAR']['summary']['forwards']['mean']:.0f} forward"
        ),
        "without noise": f"Without noise `fast` has {ends('fast'):.3f}",
        "memory of methods": (
            f"backpropagation {memory_of('backpropagation')} MB, `fast` {memory_of('fast')}, "
            f"`paper` {memory_of('paper')}, the evolution strategy {memory_of('evolution strategy')}."
        ),
    }
    | {
        f"{record}, {method}": f"| {equal_care(method, record)} |"
        for record in ("equal_care", WIDE, SECOND)
        for method in results(record)
        if method not in ("initializer", "backpropagation, stopped after DVAR")
    }
    | {
        f"noise, {method}": f"| {under_noise('quality_noise', method)} | {under_noise('quality_noise_4.4', method)} |"
        for method in ("backprop-float", "fast-int8-integer", "evolution-int8-integer", "paper-int8-integer")
    }
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_what_its_file_says(claim: str) -> None:
    assert flat(CLAIMS[claim]) in page("benchmarks/quality/README.md")
