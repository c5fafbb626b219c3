"""Make an APK of the app without an Android SDK, sign it and verify it.

    python android_demo/tools/apk.py [--output FOLDER]

It proves that the app compiles against Android, that its resources link, and that its classes dex. Debian's tools are
older than the app: what the manifest has from newer Androids is left out of this APK, and named. To install the app,
build it with Gradle; see README.md. What is left out because a tool is missing is one line each.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import build
import manifest
import onnxruntime_jvm
import platform_jar
import toolchain
from toolchain import MissingTool

APP = build.DEMO / "app" / "src" / "main"
MODULES = ("core", "ort", "presenter", "app")  # that are on the phone
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
ABI = "arm64-v8a"
PAGE = 16384  # bytes: libraries are mapped from the APK, and pages of newer phones are this large
VERSIONS = tomllib.loads((build.DEMO / "gradle/libs.versions.toml").read_text())["versions"]
# A password of a key that is made anew each time and protects nothing.
KEY = ["--ks-pass", "pass:password", "--ks-key-alias", "test"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=build.DEMO / "build" / "apk", help="folder of the APK")
    folder = parser.parse_args().output.absolute()
    try:
        return make(folder)
    except MissingTool as tool:
        print(f"left out: the APK: {tool}")
        return 0
    except subprocess.CalledProcessError as error:
        print(f"the APK failed: {Path(error.cmd[0]).name} ended with {error.returncode}")
        return 1


def make(folder: Path) -> int:
    """Make app.apk in a folder; 0 if it is signed and verified."""
    started = time.monotonic()
    for program, package in (("aapt2", "aapt"), ("zipalign", "zipalign"), ("apksigner", "apksigner")):
        toolchain.installed(program, package)
    toolchain.installed(FRAMEWORK, "android-framework-res")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    link(folder)
    classes = compile_app(folder)
    dex(folder, classes)
    apk = pack(folder)
    verify(apk)
    print(f"verified {apk} ({apk.stat().st_size / 1e6:.1f} MB) in {time.monotonic() - started:.0f} s")
    return 0


def link(folder: Path) -> None:
    """Compile and link the resources: base.apk, and R.java in gen/."""
    with zipfile.ZipFile(onnxruntime_jvm.archive()) as library:
        merged = manifest.merged(APP / "AndroidManifest.xml", [library.read("AndroidManifest.xml").decode()])
    merged, left_out = manifest.reduced(merged, FRAMEWORK)
    print(f"not in this APK, for its framework is older: {', '.join(left_out)}")
    manifest.write(merged, folder / "AndroidManifest.xml")
    _run("aapt2", "compile", "--dir", str(APP / "res"), "-o", str(folder / "res.zip"))
    words = ["--manifest", str(folder / "AndroidManifest.xml"), "--java", str(folder / "gen"), "--auto-add-overlay"]
    words += ["--min-sdk-version", VERSIONS["minSdk"], "--target-sdk-version", VERSIONS["targetSdk"]]
    words += ["--version-code", "1", "--version-name", VERSIONS["edgeSdk"]]
    _run("aapt2", "link", "-o", str(folder / "base.apk"), "-I", str(FRAMEWORK), *words, str(folder / "res.zip"))


def compile_app(folder: Path) -> Path:
    """Compile all that is on the phone against Android, as class files of Java 8."""
    classes, lib = folder / "classes", toolchain.kotlin()
    path = [platform_jar.platform(), onnxruntime_jvm.classes(), lib / "kotlin-stdlib.jar"]
    files = [str(each) for name in MODULES for each in build.sources(build.Module(name), "main")]
    generated = [str(each) for each in (folder / "gen").rglob("*.java")]
    words = ["-no-stdlib", "-no-reflect", "-jvm-target", "1.8", "-nowarn", "-Xsuppress-version-warnings"]
    words += [
        "-Xlambdas=class",
        "-Xsam-conversions=class",
        "-Xstring-concat=inline",
    ]  # the dexer knows no invokedynamic
    joined = ":".join(map(str, path))
    compiler = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
    options = ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{lib}/*", compiler]
    _run(str(toolchain.java()), *options, *words, "-cp", joined, "-d", str(classes), *files, *generated)
    _run(*toolchain.javac(), "-cp", joined, "-d", str(classes), *generated)
    return classes


def dex(folder: Path, classes: Path) -> None:
    """Make classes.dex of the app and its libraries."""
    jars = []
    for jar in (onnxruntime_jvm.classes(), toolchain.kotlin() / "kotlin-stdlib.jar"):
        jars.append(folder / f"java8-{jar.name}")
        platform_jar.run_java("Downgrade", str(jar), str(jars[-1]))
    words = ["-Xmx1g", "-cp", str(platform_jar.dexer()), "com.android.dx.command.Main", "--dex"]
    words += [
        f"--min-sdk-version={VERSIONS['minSdk']}",
        f"--output={folder / 'classes.dex'}",
        str(classes),
        *map(str, jars),
    ]
    _run(str(toolchain.java()), *words)


def pack(folder: Path) -> Path:
    """Pack, align and sign."""
    unaligned, aligned, apk = (folder / name for name in ("unaligned.apk", "aligned.apk", "app.apk"))
    shutil.copyfile(folder / "base.apk", unaligned)
    with zipfile.ZipFile(onnxruntime_jvm.archive()) as library, zipfile.ZipFile(unaligned, "a") as archive:
        archive.write(folder / "classes.dex", "classes.dex", zipfile.ZIP_DEFLATED)
        for name in library.namelist():
            if name.startswith(f"jni/{ABI}/") and name.endswith(".so"):
                stored = f"lib/{ABI}/{Path(name).name}"
                archive.writestr(stored, library.read(name), zipfile.ZIP_STORED)  # mapped from the APK
    _run("zipalign", "-f", str(PAGE), str(unaligned), str(aligned))
    store = folder / "test.jks"
    keytool = str(toolchain.java().with_name("keytool"))
    words = ["-genkeypair", "-keystore", str(store), "-storepass", "password", "-keypass", "password", "-alias", "test"]
    _run(keytool, *words, "-dname", "CN=edge-sdk test", "-keyalg", "RSA", "-validity", "1")
    _run("apksigner", "sign", "--ks", str(store), *KEY, "--out", str(apk), str(aligned))
    return apk


def verify(apk: Path) -> None:
    """Check signatures and alignment; what Android would read of it is printed."""
    _run("zipalign", "-c", str(PAGE), str(apk))
    output = _run("apksigner", "verify", "--verbose", str(apk))
    print(
        ", ".join(line for line in output.splitlines() if line.startswith("Verified using") and line.endswith("true"))
    )
    badging = _run("aapt2", "dump", "badging", str(apk)).splitlines()
    print("\n".join(line for line in badging if line.startswith(("package:", "uses-permission:", "native-code:"))))


def _run(*words: str) -> str:
    """A program's output; it is printed where the program fails."""
    result = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if result.returncode:
        print((result.stdout + result.stderr).strip()[-4000:])
        raise subprocess.CalledProcessError(result.returncode, words)
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
