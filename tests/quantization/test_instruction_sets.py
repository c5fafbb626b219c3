"""Every build of the compiled products gives the bits that integer arithmetic gives, here and on an emulated Arm64."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import instruction_sets
from benchmarks.speed.instruction_sets import ARM, INSTRUCTION_SETS, InstructionSet, cases, differing, lanes
from tests.cli.test_main import refused


@pytest.mark.parametrize("kind", INSTRUCTION_SETS, ids=lambda kind: kind.name)
def test_the_bits_are_those_of_integer_arithmetic(kind: InstructionSet, tmp_path: Path) -> None:
    if why := kind.missing():
        pytest.skip(why)
    command = kind.build(tmp_path)
    assert lanes(command) == kind.lanes  # it is the code for this instruction set that runs
    assert differing(command, cases()) == {}


def test_the_largest_sums_are_beyond_32_bits() -> None:
    largest = max(float(np.abs(case.expected).max()) for case in cases())
    assert largest > 2**31


def test_without_the_tools_a_benchmark_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instruction_sets.shutil, "which", lambda name: None)
    assert "apt-get install" in str(ARM.missing())
    assert str(ARM.missing()) in refused(capsys, "benchmark", "arm64")
