"""Tables and figures of the photos README are those of the records, computed again."""

from typing import Any

import pytest

from benchmarks.lib.intervals import by_subject, t_interval
from benchmarks.photos import personalization
from benchmarks.photos.face_ruler import KEYS
from benchmarks.photos.forgetting import COLUMNS, table
from tests.benchmarks.pages import ROOT, flat, page, record, results

README = page("benchmarks/photos/README.md")


def of_photos(name: str) -> dict[str, Any]:
    return record(f"photos_{name}")


def test_what_the_face_network_tells_apart() -> None:
    for name, row in of_photos("face_ruler")["rows"].items():
        assert f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in KEYS.values()) in README
    assert of_photos("face_ruler")["largest_difference_from_dlib"] < 2.6e-7


def test_what_is_learned_from_photos() -> None:
    values = of_photos("personalization")
    for line in personalization.table(values["results"], values["photos"]).splitlines()[2:]:
        assert flat(line) in README, line
    ends = [results("equal_care")[name]["summary"]["share"]["mean"] for name in ("fast", "paper, published")]
    assert "`fast` has {:.3f} and `paper` {:.3f} ([equal care]".format(*ends) in README
    learned = values["results"]
    for method in ("fast", "paper"):
        share = learned[method]["summary"]["all"]["share"]
        assert f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]" in README
    counts = [learned[method]["summary"]["to 0.9"] for method in ("paper", "fast", personalization.CEILING)]
    claim = "takes `paper` {:.0f} forward passes, `fast` {:.0f}, and backpropagation {:.0f} draws"
    assert claim.format(*counts) in README
    fast, paper = (by_subject(learned[method]["runs"], "loss") for method in ("fast", "paper"))
    assert f"lower on {(fast < paper).sum()} of {len(fast)} subjects" in README
    start, end = (
        by_subject(learned[name]["runs"], "loss").mean() for name in (personalization.WORD, personalization.CEILING)
    )
    assert f"{100 * (1 - end / start):.0f} % of the loss" in README


@pytest.mark.parametrize("name", ["faces", "products"])
def test_what_is_forgotten(name: str) -> None:
    for line in table(of_photos(name)["rows"]).splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 2 + len(COLUMNS)
        assert flat(line) in README, line


def test_a_photo_of_a_face_beside_retraining() -> None:
    own: dict[str, dict[str, Any]] = {}
    for row in of_photos("faces")["rows"]:
        own.setdefault(row["model"], {})[row["target"]] = row

    def falls(model: str) -> str:
        pairs = [(own["before"][person], row) for person, row in own[model].items()]
        found = t_interval([before["encoder"]["target"] - row["encoder"]["target"] for before, row in pairs])
        return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found)

    assert f"Similarity falls by {falls('unlearned')} on 8 of 8 photos" in README
    assert f"is only {falls('trained without the photo')} below the base" in README
    known = {model: {p: row["relatives_recognized"] for p, row in rows.items()} for model, rows in own.items()}
    lost = sorted(known["before"][person] - known["unlearned"][person] for person in known["before"])
    assert lost[4] < 0.06 < lost[5] and known["before"]["13"] == lost[-1] and "one loses all (0.94 to 0)" in README


def test_only_figures_of_faces_are_here() -> None:
    pictures = [path.name for path in (ROOT / "benchmarks").rglob("photos_*.png")]
    assert all("face" not in name for name in pictures)
    assert not [path for path in (ROOT / "benchmarks" / "photos").rglob("*") if path.suffix in (".safetensors", ".npy")]


def test_how_well_the_photos_to_forget_are_known() -> None:
    rows = of_photos("products")["rows"]
    before = {row["target"]: row["encoder"] for row in rows if row["model"] == "before"}
    after = {row["target"]: row["encoder"] for row in rows if row["model"] == "unlearned, rate 2e-3"}
    known, unseen = (
        sum(row[f"{who}_at_half"] for row in before.values()) / len(before) for who in ("target", "relatives")
    )
    assert f"come back at {known:.3f}" in README and f"has never seen at {unseen:.3f}" in README
    lower = sum(after[name]["target"] < before[name]["target"] for name in after)
    assert f"lower on {lower} of {len(after)} photos" in README
