"""Every figure of the unlearning page's comparison of rules is computed again from its results file."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from benchmarks.unlearning.like_with_like_report import (
    PUBLISHED,
    RETRAINED,
    SHARED,
    Runs,
    difference,
    elsewhere,
    levels,
    overview,
    summary,
)
from tests.benchmarks.pages import ROOT, figures, flat, page, record

RECORD = "unlearning_like_with_like"
PAGE = "benchmarks/unlearning/README.md"
COLUMNS = (SHARED, PUBLISHED)
OTHERS = ("ReTrack", "SISS", "NegGrad", "edited surrogate", "SalUn")  # all that forget, but ours
FORGETTING = (*OTHERS, "ours")


@cache
def measured() -> dict[str, Any]:
    return summary(record(RECORD)) | {"elsewhere": elsewhere(record("unlearning"))}


def beside(rule: str, column: str = SHARED) -> str:
    """The target's similarity with our rule less that with another, in the same column."""
    return figures(measured()["rules"][rule][column]["ours_beside_it"]["target_similarity"], sign="+")


def negative(gap: dict[str, float]) -> str:
    """An interval with its sign turned."""
    return figures({"mean": -gap["mean"], "low": -gap["high"], "high": -gap["low"]})


def lower(rule: str) -> str:
    """By how much our rule has fewer of the person's unseen views than another, and on how many targets."""
    gap = measured()["rules"][rule][SHARED]["ours_beside_it"]["person_in_unseen"]
    return f"{negative(gap)}, on {gap['lower']} of {gap['n']} (p = {gap['p']:.1g})"


def unseen(rule: str) -> str:
    return f"{100 * measured()['rules'][rule][SHARED]['at_drift']['person_in_unseen']['mean']:.0f} %"


def gives(rule: str) -> str:
    """By how much our optimizer takes a rule lower than plain Adam does."""
    return negative(measured()["rules"][rule]["optimizer_gives"]["target_similarity"])


def gain(extreme: Callable[[list[float]], float]) -> float:
    return extreme([-measured()["rules"][rule]["optimizer_gives"]["target_similarity"]["mean"] for rule in FORGETTING])


def change(rule: str, column: str) -> str:
    return figures(measured()["rules"][rule][column]["change"]["target_similarity"], sign="+")


def whole(rule: str) -> str:
    run = measured()["rules"][rule][SHARED]["whole_run"]
    return f"{run['target_similarity']['mean']:.3f} at a drift of {run['drift']['mean']:.3f}"


def beside_retrack(level: int) -> str:
    """Similarity from a noise level with our rule less that with ReTrack's, paired by target."""
    runs = Runs(record(RECORD))
    ours, retrack = (runs.at(rule, SHARED, f"from_{level}") for rule in ("ours", "ReTrack"))
    return figures(difference(ours, retrack), sign="+")


def above_retraining(rule: str, figure: str = "target_similarity", sign: str = "+") -> str:
    """A figure of a rule through our optimizer less that of the model that was trained without the targets."""
    return figures(measured()["rules"][rule][SHARED]["beside_retrained"][figure], sign=sign)


def listed(of: Callable[[str], str], rules: tuple[str, ...]) -> str:
    return ", ".join(f"{rule} {of(rule)}" for rule in rules) + "."


def claims() -> dict[str, str]:
    retrained, strangers = (
        figures(measured()["floor"][floor]["target_similarity"]) for floor in (RETRAINED, "16 strangers")
    )
    drifts = sorted(measured()["rules"]["EraseDiff"][column]["whole_run"]["drift"]["mean"] for column in COLUMNS)
    return {
        "rules": listed(beside, OTHERS),
        "retrained": f"{retrained}.",
        "above retraining": listed(above_retraining, FORGETTING),
        "unseen": (
            f"With our rule it is recognized in {unseen('ours')} ({above_retraining('ours', 'person_in_unseen', '')}), "
            f"with ReTrack's in {unseen('ReTrack')}, SalUn {unseen('SalUn')}, the edited surrogate "
            f"{unseen('edited surrogate')}, SISS {unseen('SISS')}, NegGrad {unseen('NegGrad')}; before in "
            f"{100 * measured()['before']['person_in_unseen']['mean']:.0f} %."
        ),
        "unseen, SISS": f"Our rule is lower than SISS by {lower('SISS')}",
        "unseen, NegGrad": f"than NegGrad by {lower('NegGrad')}",
        "what the optimizer gives": (
            f"by {gain(min):.3f} to {gain(max):.3f}: our rule by {gives('ours')}, ReTrack's by {gives('ReTrack')}."
        ),
        "as published, ReTrack": f"ReTrack goes furthest ({change('ReTrack', PUBLISHED)})",
        "as published, ours": beside("ReTrack", PUBLISHED),
        "EraseDiff": f"(whole runs drift by {drifts[0]:.2f} and {drifts[1]:.2f})",
        "levels": (
            "From 50 % of noise, where the person is decided, our rule minus ReTrack's is "
            f"{beside_retrack(50)}. From 10 %, where the picture shows through, it is {beside_retrack(10)}."
        ),
        "floors": f"{retrained} and {strangers}",
        "whole, ours": whole("ours"),
        "whole runs": f"{whole('edited surrogate')} and {whole('NegGrad')}.",
    }


@pytest.mark.parametrize("claim", claims())
def test_a_claim_is_what_its_file_says(claim: str) -> None:
    assert flat(claims()[claim]) in page(PAGE)


@pytest.mark.parametrize("table", [overview, levels])
def test_a_table_is_that_of_the_record(table: Any) -> None:
    assert table(measured()) in (ROOT / PAGE).read_text()
