"""Every build of the compiled products gives the bits that integer arithmetic gives, here and on an emulated Arm64."""

import numpy as np
import pytest
import torch

from benchmarks.speed import instruction_sets
from benchmarks.speed.instruction_sets import (
    ARM,
    INSTRUCTION_SETS,
    InstructionSet,
    attended,
    cases,
    differing,
    lanes,
)
from tests.cli.test_main import refused
from tests.quantization.test_attention import error, exact, tokens


@pytest.fixture(scope="module", params=INSTRUCTION_SETS, ids=lambda kind: kind.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[InstructionSet, list[str]]:
    """A kind, and the command that runs its build."""
    kind = request.param
    if why := kind.missing():
        pytest.skip(why)
    return kind, kind.build(tmp_path_factory.mktemp("built"))


def test_the_bits_are_those_of_integer_arithmetic(built: tuple[InstructionSet, list[str]]) -> None:
    kind, command = built
    assert lanes(command) == kind.lanes  # it is the code for this instruction set that runs
    assert differing(command, cases()) == {}


def test_attention_is_near_the_exact_one(built: tuple[InstructionSet, list[str]]) -> None:
    for batch, queries, keys, heads, d in ((2, 70, 77, 3, 40), (1, 9, 130, 1, 7)):
        parts = tokens(batch, queries, keys, heads * d)
        output = attended(built[1], *(part.numpy() for part in parts), heads)
        assert error(torch.from_numpy(output.copy()), exact(*parts, heads)) < 2e-4


def test_the_largest_sums_are_beyond_32_bits() -> None:
    largest = max(float(np.abs(case.expected).max()) for case in cases())
    assert largest > 2**31


def test_without_the_tools_a_benchmark_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instruction_sets.shutil, "which", lambda name: None)
    assert "apt-get install" in str(ARM.missing())
    assert str(ARM.missing()) in refused(capsys, "benchmark", "arm64")
