"""The portable generator against its published answers and its own definition."""

import json
import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.zo.noise import (
    EDIT_NOISES,
    LORA_A,
    NUMBERS,
    Numbers,
    Stream,
    integers,
    normals,
    philox4x32,
    uniforms,
    words,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "noise.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["philox4x32_10"], ids=["zeros", "ones", "pi"])
def test_bits_are_those_of_the_random123_paper(case: dict) -> None:
    out = philox4x32(np.array([case["counter"]], np.uint32), tuple(case["key"]))
    assert out[0].tolist() == case["output"]


@pytest.mark.parametrize(
    "case", GOLDEN["normals"], ids=lambda c: f"seed{c['seed']}-stream{c['stream']}-step{c['step']}"
)
def test_normals_reproduce_the_golden_vectors(case: dict) -> None:
    out = normals(case["seed"], case["stream"], case["step"], (len(case["values"]),))
    np.testing.assert_allclose(out, np.array(case["values"], np.float32), rtol=0, atol=1e-6)


def test_integers_reproduce_the_golden_vectors() -> None:
    for case in GOLDEN["integers"]:
        out = integers(case["seed"], case["stream"], case["step"], len(case["values"]), case["n"])
        assert out.tolist() == case["values"]


def test_a_normal_is_box_muller_of_two_words() -> None:
    first, second = ((int(w) + 0.5) / 2**32 for w in words(9, Stream.NOISE, 4, 2))
    radius, angle = math.sqrt(-2 * math.log(first)), 2 * math.pi * second
    expected = np.array([radius * math.cos(angle), radius * math.sin(angle)], np.float32)
    assert (normals(9, Stream.NOISE, 4, (2,)) == expected).all()


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 8], ids=lambda s: f"from{s}")
def test_a_part_of_a_sequence_is_that_part(start: int) -> None:
    whole = normals(1, Stream.PERTURBATION, 2, (40,))
    assert (normals(1, Stream.PERTURBATION, 2, (11,), start=start) == whole[start : start + 11]).all()
    whole_words = words(1, Stream.IMAGE, 2, 40)
    assert (words(1, Stream.IMAGE, 2, 11, start=start) == whole_words[start : start + 11]).all()


def test_streams_steps_and_seeds_are_unrelated() -> None:
    a = normals(0, Stream.NOISE, 0, (2000,))
    for other in (
        normals(1, Stream.NOISE, 0, (2000,)),
        normals(0, Stream.PERTURBATION, 0, (2000,)),
        normals(0, Stream.NOISE, 1, (2000,)),
        normals(2**32, Stream.NOISE, 0, (2000,)),
    ):
        assert abs(np.corrcoef(a, other)[0, 1]) < 0.08


def test_moments_are_those_of_a_standard_normal() -> None:
    x = normals(3, Stream.NOISE, 0, (200_000,)).astype(np.float64)
    assert abs(x.mean()) < 0.01 and abs(x.var() - 1) < 0.02 and abs((x**4).mean() - 3) < 0.1


def test_integers_cover_their_range_evenly() -> None:
    counts = np.bincount(integers(5, Stream.IMAGE, 0, 30_000, 7), minlength=7)
    assert len(counts) == 7 and abs(counts - 30_000 / 7).max() < 300


def test_uniforms_are_inside_the_open_interval() -> None:
    u = uniforms(0, Stream.TIMESTEP, 0, 10_000)
    assert u.min() > 0 and u.max() < 1


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**32)], ids=str)
def test_counters_out_of_range_are_refused(seed: int, step: int) -> None:
    with pytest.raises(ValueError, match="must be in"):
        words(seed, 0, step, 4)


def overlap(one: Numbers, other: Numbers) -> bool:
    together = one.first < other.first + other.count and other.first < one.first + one.count
    return (one.command, one.stream) == (other.command, other.stream) and together


def test_no_two_purposes_of_a_command_share_a_number() -> None:
    assert [pair for pair in combinations(NUMBERS, 2) if overlap(*pair)] == []
    assert all(each.first >= 0 and each.first + each.count <= 2**32 and each.count > 0 for each in NUMBERS)
    assert all(each.purpose and isinstance(each.stream, Stream) for each in NUMBERS)
    assert overlap(NUMBERS[0], replace(NUMBERS[0], first=NUMBERS[0].count - 1, purpose="another"))


def test_no_other_module_carves_up_the_numbers_by_hand() -> None:
    root = Path(__file__).parents[2] / "edge_sdk"
    by_hand = re.compile(r"2\*\*3[12]\b(?! *[)\]])|1 << 3[12]")
    sources = [
        *root.glob("zo/*.py"),
        *root.glob("unlearning/**/*.py"),
        root / "generation.py",
        root / "preview.py",
        *root.glob("cli/*.py"),
    ]
    lines = [(path, line) for path in sources if path.name != "noise.py" for line in path.read_text().splitlines()]
    found = {f"{path.name}: {line.strip()}" for path, line in lines if by_hand.search(line)}
    assert found == set()


def test_a_number_outside_of_its_range_is_refused() -> None:
    assert EDIT_NOISES.at(5) == EDIT_NOISES.first + 5
    for index in (-1, LORA_A.count):
        with pytest.raises(ValueError, match=f"number {index} of .* is outside of"):
            LORA_A.at(index)
