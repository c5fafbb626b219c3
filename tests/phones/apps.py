"""The apps' command lines, as a user starts them."""

import importlib.util
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_sdk import Personalizer, pocket

DEMOS = Path(__file__).parents[2]
BUNDLE = pocket.MODEL.parent / "bundle"


class App(ABC):
    """A program that learns, draws, verifies and measures.

    Attributes:
        name: of its language. error: begins the line of a mistake. tools: a folder that holds no photo and no bundle.
        leftover: a name that a killed process may leave in a run's folder.
        onnxruntime: the version that it runs graphs with.
    """

    name: str
    error: str
    tools: Path
    leftover: str
    onnxruntime: str

    @abstractmethod
    def build(self) -> None:
        """Compile the program; the test is skipped where a tool is missing."""

    @abstractmethod
    def words(self, *arguments: object) -> list[str]:
        """The command line."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def call(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        words, variables = self.words(*arguments), self.environment()
        return subprocess.run(words, capture_output=True, text=True, timeout=900, env=variables)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(self.words(*arguments), stderr=subprocess.PIPE, text=True, env=self.environment())

    def refusal(self, *arguments: object) -> str:
        """The line of a call that is refused."""
        result = self.call(*arguments)
        assert result.returncode == 2 and result.stdout == "", result.stdout + result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith(self.error) and "Exception" not in line
        return line


class Kotlin(App):
    name, error, leftover = "kotlin", "edge-personalize-jvm: ", f".edge-sdk-{0:032x}.tmp"
    onnxruntime = "1.26.0"
    tools = DEMOS / "android_demo" / "tools"

    def build(self) -> None:
        command = [sys.executable, str(self.tools / "build.py"), "compile", "cli"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900)
        if missing := [line for line in result.stdout.splitlines() if line.startswith("left out")]:
            pytest.skip(missing[0])
        assert result.returncode == 0, result.stdout + result.stderr

    def words(self, *arguments: object) -> list[str]:
        return [sys.executable, str(self.tools / "edge-personalize-jvm"), *map(str, arguments)]


class Swift(App):
    name, error, leftover = "swift", "edge-personalize: error: ", ".edge-sdk-checkpoint-9"
    tools = DEMOS / "ios_demo" / "tools"

    def build(self) -> None:
        command = [str(self.tools / "swift.sh"), "swift", "build", "--product", "edge-personalize"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if result.returncode == 3:
            pytest.skip(result.stderr.splitlines()[-1])
        assert result.returncode == 0, result.stdout + result.stderr

    def words(self, *arguments: object) -> list[str]:
        return [str(self.tools / "run.sh"), "edge-personalize", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        return os.environ | {"EDGE_ORT_LIBRARY": str(self.library())}

    @property
    def onnxruntime(self) -> str:  # type: ignore[override]
        return self.library().name.split(".so.")[1]

    @staticmethod
    def library() -> Path:
        package = importlib.util.find_spec("onnxruntime")
        assert package is not None and package.origin is not None
        return next((Path(package.origin).parent / "capi").resolve().glob("libonnxruntime.so.*"))


APPS: dict[str, App] = {app.name: app for app in (Kotlin(), Swift())}


def python_of(bundle: Path = BUNDLE) -> Personalizer:
    """Python on a bundle, which says nothing."""
    personalizer = Personalizer.from_bundle(bundle)
    personalizer.notify = lambda line: None
    return personalizer


def learn(
    folder: Path, *arguments: object, bundle: Path = BUNDLE, photos: Path = pocket.PHOTOS, quiet: bool = True
) -> Sequence[object]:
    """The arguments of a run into a folder; a flag of ``arguments`` takes the place of the same one here."""
    common: dict[object, object] = {
        "--bundle": bundle,
        "--train_data_dir": photos,
        "--output_dir": folder,
        "--threads": 1,
    }
    words = [word for flag, value in common.items() if flag not in arguments for word in (flag, value)]
    return ["personalize", *words, *(["--quiet"] if quiet else []), *arguments]
