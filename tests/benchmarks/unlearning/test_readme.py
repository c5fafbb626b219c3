"""Every figure of the unlearning page's comparison of rules is computed again from its results file."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from benchmarks.unlearning.like_with_like_report import (
    PUBLISHED,
    SHARED,
    Runs,
    difference,
    elsewhere,
    levels,
    overview,
    summary,
)
from tests.benchmarks.pages import RESULTS, ROOT, figures, flat, page

PAGE = "benchmarks/unlearning/README.md"
COLUMNS = (SHARED, PUBLISHED)
FORGETTING = ("ReTrack", "SISS", "NegGrad", "edited surrogate", "SalUn", "ours")  # all but EraseDiff


@cache
def record() -> dict[str, Any]:
    return json.loads((RESULTS / "unlearning_like_with_like.json").read_text())


def runs() -> Runs:
    return Runs(record())


@cache
def found() -> dict[str, Any]:
    return summary(record()) | {"elsewhere": elsewhere(json.loads((RESULTS / "unlearning.json").read_text()))}


def beside(rule: str, column: str = SHARED, figure: str = "target_similarity") -> str:
    """Our rule's figure less another's, through the same optimizer."""
    return figures(found()["rules"][rule][column]["ours_beside_it"][figure], sign="+")


def lower(rule: str) -> str:
    """By how much our rule has fewer of the person's unseen views than another, and on how many targets."""
    gap = found()["rules"][rule][SHARED]["ours_beside_it"]["person_in_unseen"]
    ends = {"mean": -gap["mean"], "low": -gap["high"], "high": -gap["low"]}
    return f"{figures(ends)}, on {gap['lower']} of {gap['n']} (p = {gap['p']:.1g})"


def unseen(rule: str) -> str:
    return f"{100 * found()['rules'][rule][SHARED]['at_drift']['person_in_unseen']['mean']:.0f} %"


def gives(rule: str) -> str:
    """By how much our optimizer takes a rule lower than plain Adam does."""
    gap = found()["rules"][rule]["optimizer_gives"]["target_similarity"]
    return figures({"mean": -gap["mean"], "low": -gap["high"], "high": -gap["low"]})


def given(extreme: Callable[[list[float]], float]) -> float:
    return extreme([-found()["rules"][rule]["optimizer_gives"]["target_similarity"]["mean"] for rule in FORGETTING])


def change(rule: str, column: str) -> str:
    return figures(found()["rules"][rule][column]["change"]["target_similarity"], sign="+")


def whole(rule: str) -> str:
    run = found()["rules"][rule][SHARED]["whole_run"]
    return f"{run['target_similarity']['mean']:.3f} at {run['drift']['mean']:.3f}"


def beside_retrack(level: int) -> str:
    """Similarity from a noise level with our rule less that with ReTrack's, paired by target."""
    ours, retrack = (runs().at(rule, SHARED, f"from_{level}") for rule in ("ours", "ReTrack"))
    return figures(difference(ours, retrack), sign="+")


def claims() -> dict[str, str]:
    strangers = figures(found()["floor"]["16 strangers"]["target_similarity"])
    drifts = sorted(found()["rules"]["EraseDiff"][column]["whole_run"]["drift"]["mean"] for column in COLUMNS)
    return {
        "rules as good as ours": f"({beside('ReTrack')} and {beside('SISS')})",
        "rules that ours is not better than": (
            f"NegGrad ({beside('NegGrad')}), the edited surrogate ({beside('edited surrogate')}) or SalUn "
            f"({beside('SalUn')})."
        ),
        "unseen, ours": f"in {unseen('ours')} of the reconstructions with ours",
        "unseen, others": (
            f"{unseen('SalUn')} with SalUn, {unseen('edited surrogate')} with the edited surrogate, "
            f"{unseen('SISS')} with SISS and {unseen('NegGrad')} with NegGrad"
        ),
        "unseen, SISS": f"Ours is lower than SISS by {lower('SISS')}",
        "unseen, NegGrad": f"than NegGrad by {lower('NegGrad')}",
        "what the optimizer gives": (
            f"by {given(min):.3f} to {given(max):.3f}: ours by {gives('ours')}, ReTrack's by {gives('ReTrack')}."
        ),
        "as published, ReTrack": f"ReTrack goes furthest ({change('ReTrack', PUBLISHED)})",
        "as published, ours": f"than it ({beside('ReTrack', PUBLISHED)})",
        "EraseDiff": f"(whole runs drift by {drifts[0]:.2f} and {drifts[1]:.2f})",
        "from 50 %": f"ours is lower than ReTrack's by {beside_retrack(50)}",
        "from 10 %": f"it is higher by {beside_retrack(10)}",
        "strangers": f"come back with a similarity of {strangers}",
        "whole runs": f"{whole('edited surrogate')} and {whole('NegGrad')}.",
    }


@pytest.mark.parametrize("claim", claims())
def test_a_claim_is_what_its_file_says(claim: str) -> None:
    assert flat(claims()[claim]) in page(PAGE)


@pytest.mark.parametrize("table", [overview, levels])
def test_a_table_is_that_of_the_record(table: Any) -> None:
    assert table(found()) in (ROOT / PAGE).read_text()
