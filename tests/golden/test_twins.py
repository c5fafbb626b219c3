"""twins.json: every file that has to have twins is listed, and every twin is there or missing for a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROSTER = json.loads((HERE / "twins.json").read_text(encoding="ascii"))
OTHERS = {
    f"edge_sdk/{name}.py" for name in ("diffusion/tokenizer", "diffusion/ddim", "images", "embedding", "mu_floor")
}
SHORTEST = 4  # words of a reason


def is_sentence(text: str) -> bool:
    return text[0].isupper() and text.endswith(".") and len(text.split()) >= SHORTEST


def fault(twin: Any) -> str | None:
    """What is wrong with an entry of one language."""
    if isinstance(twin, dict) and set(twin) == {"none"}:
        return None if is_sentence(twin["none"]) else f"{twin['none']!r} is no sentence"
    if isinstance(twin, dict):
        if set(twin) != {"file", "without"} or not is_sentence(twin["without"]):
            return f"{twin} says neither a file and what it is without, nor why there is none"
        twin = twin["file"]
    return None if isinstance(twin, str) and (ROOT / twin).is_file() else f"{twin} is not there"


@pytest.mark.parametrize("language", ROSTER["languages"])
def test_every_twin_is_there_or_missing_for_a_reason(language: str) -> None:
    faults = {one["python"]: fault(one.get(language)) for one in ROSTER["twins"]}
    assert {python: why for python, why in faults.items() if why} == {}


def test_every_file_of_the_optimizer_and_of_the_runtime_is_listed_once() -> None:
    listed = [one["python"] for one in ROSTER["twins"]]
    rooms = (ROOT / "edge_sdk" / room for room in ("zo", "runtime/onnx"))
    wanted = {path.relative_to(ROOT).as_posix() for room in rooms for path in room.glob("*.py")}
    assert len(listed) == len(set(listed)) and set(listed) == wanted | OTHERS
    assert all((ROOT / path).is_file() for path in listed)


def test_every_entry_has_the_same_languages_and_names_golden_files() -> None:
    for one in ROSTER["twins"]:
        assert set(one) == {"python", "golden", *ROSTER["languages"]}
        assert all((HERE / name).exists() for name in one["golden"])
        assert one["golden"] or all("none" in one[language] for language in ROSTER["languages"]), one["python"]
    assert {"kotlin", "swift", "javascript"} <= set(ROSTER["languages"])


@pytest.mark.parametrize(
    ("language", "room"),
    [
        ("javascript", "export/web/zo/*.js"),
        ("kotlin", "android_demo/core/src/main/kotlin/edge/sdk/zo/*.kt"),
        ("swift", "ios_demo/Sources/EdgeZO/*.swift"),
    ],
    ids=lambda value: value.split("/")[0],
)
def test_no_file_of_a_twins_optimizer_is_unlisted(language: str, room: str) -> None:
    """The rooms of a twin that hold nothing but twins."""
    twins = [one[language] for one in ROSTER["twins"]]
    listed = {twin if isinstance(twin, str) else twin.get("file") for twin in twins}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(room)}
    assert files and files <= listed


@pytest.mark.parametrize(
    "twin",
    [
        None,
        "export/web/zo/none.js",
        {"none": "TODO"},
        {"none": "not written yet"},
        {"file": "export/web/runtime/text.js"},
        {},
    ],
    ids=str,
)
def test_a_hollow_entry_is_a_fault(twin: Any) -> None:
    assert fault(twin) is not None
