"""The versions that pyproject.toml allows are versions that the tests have run on."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *(one for many in PROJECT["optional-dependencies"].values() for one in many)]
EXACT = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
# The oldest that the tests of runtimes, models, export and unlearning have passed on, all of them together.
OLDEST = {
    "accelerate": "1.10", "diffusers": "0.39", "numpy": "2.2", "onnx": "1.21", "onnxruntime": "1.26", "pillow": "12.2",
    "safetensors": "0.6", "tokenizers": "0.22", "transformers": "5.9",
}  # fmt: skip


def release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)][:2]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: re.split("[<>=]", requirement)[0])
def test_the_lower_bound_is_a_version_that_was_tested(requirement: str) -> None:
    name, bound, version = re.fullmatch(r"([\w-]+)(>=|==)([\d.]+)", requirement).groups()
    assert name in EXACT, "without an exact version in constraints.txt it is not tested at all"
    assert release(version) == release(OLDEST.get(name, EXACT[name]))
    assert bound == ">=" or version == EXACT[name]
