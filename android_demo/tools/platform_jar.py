"""The Android platform to compile the app against, where there is no Android SDK.

Debian has the platform of Android 6 (API 23) only. What the app uses of newer ones is declared in ``stubs/``, from the
documentation, and added to it. Nothing of either is packed: the phone has the real ones. The test of the app's names
against the whole API 36 is in ``tests/phones``.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import toolchain
from toolchain import MissingTool

STUBS = Path(__file__).parent / "stubs"
PACKAGES = ("libandroid-23-java", "dalvik-exchange")  # of Debian 11, the last release with a dexer


def debian_11() -> Path:
    """Packages of Debian 11, unpacked in the cache folder, whatever release of Debian this is.

    Raises:
        MissingTool: this is no Debian, or the packages are not served any more.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MissingTool(f"{', '.join(PACKAGES)}: packages of Debian 11, and this is another system")

    def unpack(into: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o755)  # apt fetches as another user
            for folder in ("lists/partial", "cache/archives/partial"):
                Path(scratch, folder).mkdir(parents=True)
            Path(scratch, "sources.list").write_text(f"deb [signed-by={_keyring()}] {_mirror()} bullseye main\n")
            apt = ["apt-get", "-qq", "-o", f"Dir::Etc::SourceList={scratch}/sources.list"]
            apt += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::State::Lists={scratch}/lists"]
            apt += ["-o", f"Dir::Cache={scratch}/cache", "-o", "Acquire::Check-Valid-Until=false"]
            toolchain.command(*apt, "update")
            toolchain.command(*apt, "download", *PACKAGES, folder=scratch)
            for archive in Path(scratch).glob("*.deb"):
                toolchain.command("dpkg", "-x", str(archive), str(into))

    return toolchain.made_once(toolchain.CACHE / f"debian-11-{'-'.join(PACKAGES)}", unpack)


def dexer() -> Path:
    """The dexer's JAR file; it reads class files up to Java 8."""
    return (debian_11() / "usr/share/java/com.android.dx.jar").resolve()


def old_platform() -> Path:
    """The platform of API 23, as Debian has it."""
    return debian_11() / "usr/share/java/com.android.android-23.jar"


def platform() -> Path:
    """The platform of API 23 with the stubs of newer members; to compile against, never to pack."""
    sources = sorted(STUBS.rglob("*.java"))
    digest = hashlib.sha256(
        b"".join(each.read_bytes() for each in [*sources, Path(__file__).with_name("MergeStubs.java")])
    )
    folder = toolchain.CACHE / f"android-platform-{digest.hexdigest()[:16]}"

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory() as classes:
            words = [*toolchain.javac(), "-cp", str(old_platform()), "-d", classes]
            toolchain.command(*words, *map(str, sources))
            run_java("MergeStubs", str(old_platform()), classes, str(into / "platform.jar"))

    return toolchain.made_once(folder, make) / "platform.jar"


def run_java(program: str, *words: str) -> None:
    """Run a Java program of this folder, with the bytecode library that the Kotlin compiler holds."""
    source = Path(__file__).with_name(f"{program}.java")
    classpath = toolchain.kotlin() / "kotlin-compiler.jar"
    subprocess.run([toolchain.java(), "-cp", str(classpath), str(source), *words], check=True)


def _mirror() -> str:
    """Where this machine gets its own packages of Debian from."""
    words = ["apt-get", "indextargets", "--format", "$(SITE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"]
    lines = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    for site, component, *origin in (line.split() for line in lines if line.count(" ") > 1):
        if component == "main" and origin == ["Debian"] and "security" not in site:
            return site
    raise MissingTool("apt has no mirror of Debian; apt-get update")


def _keyring() -> Path:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not keyring.exists():
        raise MissingTool("Debian's keys are missing; apt-get install debian-archive-keyring")
    return keyring
