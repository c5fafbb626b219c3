"""Compile and test the Kotlin modules without Gradle.

    python android_demo/tools/build.py compile [MODULE...]
    python android_demo/tools/build.py test [MODULE...] [--only NAME]

A module is compiled again only when its sources, or what it is compiled against, have changed. The last line of
``test`` is the number of tests and golden cases. What is left out because a tool is missing is one line each.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import onnxruntime_jvm
import toolchain
from toolchain import MissingTool

DEMO = Path(__file__).resolve().parents[1]
BUILD = DEMO / "build" / "classes"
GOLDEN = DEMO.parent / "tests" / "golden"
JVM_TARGET = "17"


@dataclass(frozen=True)
class Module:
    """A folder of `android_demo` with ``src/main``, and perhaps ``src/testFixtures`` and ``src/test``."""

    name: str
    uses: tuple[str, ...] = ()
    jars: Callable[[], list[Path]] = list  # what it is compiled against beside the standard library
    properties: Callable[[], dict[str, str]] = dict  # of Java, that its tests are started with
    environment: Callable[[], dict[str, str]] = dict  # of programs that run it


def _on_onnxruntime(name: str, *uses: str) -> Module:
    """A module that runs graphs in ONNX Runtime, here on its Android classes."""
    return Module(
        name,
        uses,
        jars=lambda: [onnxruntime_jvm.classes()],
        properties=lambda: {"onnxruntime.native.path": str(onnxruntime_jvm.natives())},
        environment=lambda: {"ORT_DISABLE_TELEMETRY": "1", "LD_LIBRARY_PATH": str(onnxruntime_jvm.natives())},
    )


MODULES = {
    module.name: module
    for module in (
        Module("core"),
        _on_onnxruntime("ort", "core"),
        _on_onnxruntime("cli", "core", "ort"),
        Module("presenter", ("core",)),
    )
}


@cache
def standard_library() -> Path:
    return toolchain.kotlin() / "kotlin-stdlib.jar"


def compiled(module: Module, kind: str = "main") -> list[Path]:
    """The class path of a part of a module, its own classes first.

    Args:
        kind: "main", "testFixtures" or "test".

    Raises:
        MissingTool: what it is compiled with cannot be had.
        subprocess.CalledProcessError: it does not compile; the compiler has printed why.
    """
    used = [each for name in module.uses for each in compiled(MODULES[name])]
    path = [*used, *module.jars(), standard_library()]
    if kind != "main":
        path = [*compiled(module), *toolchain.junit()]
        path += [toolchain.kotlin() / name for name in ("kotlin-test.jar", "kotlin-test-junit.jar")]
        fixtures = [MODULES[name] for name in module.uses] + ([module] if kind == "test" else [])
        path += [each for one in fixtures if sources(one, "testFixtures") for each in compiled(one, "testFixtures")]
        path = list(dict.fromkeys(path))
    return [_classes(module, kind, path), *path]


def sources(module: Module, kind: str) -> list[Path]:
    return sorted((DEMO / module.name / "src" / kind / "kotlin").rglob("*.kt"))


@cache
def _digest_of_jar(jar: Path) -> str:
    return f"{jar.name} {jar.stat().st_size}"


def _digest(files: Iterable[Path], path: list[Path]) -> str:
    digest = hashlib.sha256(f"{toolchain.KOTLIN.version} {JVM_TARGET}\n".encode())
    for each in path:
        stamp = each.with_suffix(".digest")
        digest.update((stamp.read_text() if each.is_dir() else _digest_of_jar(each)).encode())
    for source in files:
        digest.update(f"{source.relative_to(DEMO)}\n".encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


_up_to_date: set[Path] = set()


def _classes(module: Module, kind: str, path: list[Path]) -> Path:
    """The folder of a part's classes, compiled if they are not those of the sources."""
    folder = BUILD / f"{module.name}-{kind}"
    if folder in _up_to_date:
        return folder
    files, stamp = sources(module, kind), folder.with_suffix(".digest")
    digest = _digest(files, path)
    if not folder.exists() or not stamp.exists() or stamp.read_text() != digest:
        print(f"compiling {module.name} ({kind}, {len(files)} files)", flush=True)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        friends = [str(each) for each in path if each.is_dir() and each.name.startswith(f"{module.name}-")]
        _compile(files, path, folder, f"{module.name}-{kind}", friends)
        stamp.write_text(digest)
    _up_to_date.add(folder)
    return folder


def _compile(files: list[Path], path: list[Path], folder: Path, name: str, friends: list[str]) -> None:
    lib = toolchain.kotlin()
    words = ["-no-stdlib", "-no-reflect", "-Werror", "-jvm-target", JVM_TARGET, "-module-name", name]
    words += [f"-Xfriend-paths={','.join(friends)}"] if friends else []  # tests see what is internal
    words += ["-cp", ":".join(map(str, path)), "-d", str(folder), *map(str, files)]
    options = ["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    compiler = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    subprocess.run([toolchain.java(), *options, "-cp", f"{lib}/*", compiler, *words], check=True)


def test(module: Module, only: str) -> tuple[int, int, int] | None:
    """Run a module's JUnit tests; (tests, golden cases, failures), None where it has no tests."""
    if not sources(module, "test"):
        return None
    path = compiled(module, "test")
    classes = sorted(
        str(file.relative_to(path[0]).with_suffix("")).replace("/", ".") for file in path[0].rglob("*Test.class")
    )
    properties = {"edge.golden": str(GOLDEN), **module.properties()}
    command = [toolchain.java(), "-Xmx1g", "-XX:+UseSerialGC", *(f"-D{k}={v}" for k, v in properties.items())]
    command += ["-cp", ":".join(map(str, path)), "edge.sdk.testing.TestRun", *(c for c in classes if only in c)]
    report = BUILD / f"{module.name}-test.counts"
    report.unlink(missing_ok=True)
    environment = {**os.environ, **module.environment()}
    subprocess.run([*command, "--counts", report], env=environment)
    if not report.exists():
        raise subprocess.CalledProcessError(1, "the tests")
    tests, cases, failures = map(int, report.read_text().split())
    return tests, cases, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("compile", "test"))
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"some of {', '.join(MODULES)}; default all")
    parser.add_argument("--only", default="", help="run only test classes whose name contains this")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.modules if name not in MODULES]:
        parser.error(f"MODULE is {unknown[0]}; it must be one of {', '.join(MODULES)}")
    totals, missing = [0, 0, 0], 0
    for module in [MODULES[name] for name in arguments.modules or MODULES]:
        try:
            if arguments.action == "compile":
                compiled(module)
                continue
            counts = test(module, arguments.only) or (0, 0, 0)
            totals = [total + count for total, count in zip(totals, counts, strict=True)]
        except MissingTool as tool:
            print(f"left out: {module.name}: {tool}")
            missing += 1
        except subprocess.CalledProcessError:
            print(f"{module.name} failed")
            return 1
    if arguments.action == "compile":
        print(f"compiled {len(arguments.modules or MODULES) - missing} modules, {missing} left out")
        return 0
    tests, cases, failures = totals
    print(f"{tests} tests, {cases} golden cases, {failures} failed, {missing} modules left out")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
