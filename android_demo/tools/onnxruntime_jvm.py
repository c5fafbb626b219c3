"""ONNX Runtime's Android classes on a JVM of Linux x86-64: the very classes and the Java API that run on the phone.

    python android_demo/tools/onnxruntime_jvm.py

prints where the class file and the native libraries are. A package of npm holds Microsoft's Android archive and, of
the same version, its library for Linux. The archive's JNI library is built for bionic, Android's C library. It uses ten
functions that glibc has too, under other symbol versions and library names:

- its table of needed symbol versions is switched off, so the loader takes any version;
- ``libc.so`` and ``libm.so`` become links to glibc's, and ``libdl.so`` a stub with the one function (of NNAPI) that
  Microsoft's library for Linux lacks.
"""

import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import toolchain
from toolchain import MissingTool, NpmPackage

# ONNX Runtime 1.26.0; 1.29.0 and later send telemetry unless they are told not to.
ONNXRUNTIME = NpmPackage(
    "com.github.asus4.onnxruntime",
    "0.4.8",
    "sha512-pHJhRgOGAa2ZA9FzM0/UYY5cGmp1ZX3R+4zQpl0zjsCcr5RYSUyQGihLgRhaOxc4WAXUYD/B1UKHll8PKJjMIw==",
    r"package/Plugins/(Android/onnxruntime\.aar|Linux/x64/libonnxruntime\.so)",
)
VERSION = "1.26.0"
JNI = "libonnxruntime4j_jni.so"
STUB = "void *OrtSessionOptionsAppendExecutionProvider_Nnapi(void *options, unsigned flags) { return 0; }\n"
# Of ELF: the kind of a program header that is the dynamic section, and entries about symbol versions.
PT_DYNAMIC, OF_VERSIONS, IGNORED = 2, (0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF), 0x6FFFF123


def classes() -> Path:
    """``classes.jar`` of the Android archive.

    Raises:
        MissingTool: see `toolchain.npm_folder`.
    """
    return _folder() / "classes.jar"


def archive() -> Path:
    """The Android archive itself, with the libraries of all phones."""
    return toolchain.npm_folder(ONNXRUNTIME) / "package/Plugins/Android/onnxruntime.aar"


def natives() -> Path:
    """A folder for ``LD_LIBRARY_PATH`` and for Java's property ``onnxruntime.native.path``."""
    return _folder() / "native"


def _folder() -> Path:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MissingTool(
            f"ONNX Runtime for the JVM is for Linux x86_64, and this is {sys.platform} {platform.machine()}"
        )
    package = toolchain.npm_folder(ONNXRUNTIME) / "package/Plugins"
    return toolchain.made_once(
        toolchain.CACHE / f"onnxruntime-jvm-{VERSION}-{ONNXRUNTIME.version}", lambda into: _make(package, into)
    )


def _make(package: Path, into: Path) -> None:
    native = into / "native"
    native.mkdir()
    with zipfile.ZipFile(package / "Android/onnxruntime.aar") as archive:
        (into / "classes.jar").write_bytes(archive.read("classes.jar"))
        (native / JNI).write_bytes(without_symbol_versions(archive.read(f"jni/x86_64/{JNI}")))
    shutil.copyfile(package / "Linux/x64/libonnxruntime.so", native / "libonnxruntime.so")
    for name in ("libc", "libm"):
        (native / f"{name}.so").symlink_to(_of_glibc(f"{name}.so.6"))
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise MissingTool("ONNX Runtime for the JVM needs a C compiler; apt-get install gcc libc6-dev")
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(STUB)
        source.flush()
        words = [compiler, "-shared", "-fPIC", source.name, "-o", str(native / "libdl.so")]
        result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode:
        raise MissingTool(f"ONNX Runtime for the JVM needs a working C compiler; {compiler} said: {result.stderr:.200}")


def _of_glibc(name: str) -> Path:
    for folder in ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
        if (path := Path(folder, name)).exists():
            return path
    raise MissingTool(f"ONNX Runtime for the JVM needs glibc; {name} is in no folder of libraries")


def without_symbol_versions(library: bytes) -> bytes:
    """A 64-bit little-endian ELF library whose needed symbols may have any version."""
    data = bytearray(library)
    if data[:6] != b"\x7fELF\x02\x01":
        raise MissingTool(f"{JNI} is not the library that was expected; it is not used")
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for header in range(headers, headers + size * count, size):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", data, header)
        if kind == PT_DYNAMIC:
            for entry in range(start, start + length, 16):
                if struct.unpack_from("<Q", data, entry)[0] in OF_VERSIONS:
                    struct.pack_into("<Q", data, entry, IGNORED)
    return bytes(data)


if __name__ == "__main__":
    try:
        print(f"{classes()}\n{natives()}")
    except MissingTool as missing:
        sys.exit(f"left out: {missing}")
