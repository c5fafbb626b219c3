"""The cache of compiled libraries: ours alone, checked before use, built again where it is damaged, in silence."""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_sdk.quantization import build
from edge_sdk.quantization.build import Sources, open_library

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A small library with one function of a name, which gives 7."""
    folder = tmp_path_factory.mktemp("compiled")

    @functools.cache
    def made(symbol: str) -> Path:
        source = folder / f"{symbol}.cpp"
        source.write_text(f'extern "C" int {symbol}() {{ return 7; }}\n')
        path = source.with_suffix(".so")
        subprocess.run(["c++", "-shared", "-fPIC", "-o", path, source], check=True)
        return path

    return made


@pytest.fixture
def builds(compiled: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where libraries were built; the compiler gives the small one at once."""
    folders: list[Path] = []

    def build_apart(sources: Sources, folder: Path) -> None:
        folders.append(folder)
        shutil.copyfile(compiled("seven"), folder / f"{sources.name}.so").chmod(0o700)  # by its own umask

    monkeypatch.setattr(build, "_build_apart", build_apart)
    return folders


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-sdk"


SMALL = Sources("small", (), (), (), ("seven",))


def seven() -> int:
    return int(open_library(SMALL).seven())


def named(data: bytes) -> str:
    """The name of a library of these bytes."""
    return f"{SMALL.prefix()}-{hashlib.sha256(data).hexdigest()}.so"


def test_the_build_finds_what_is_installed_beside_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's loader looks for ninja on the PATH, and nobody has to activate a virtual environment."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(build.subprocess, "run", lambda *_, env, **__: seen.append(env))
    monkeypatch.setenv("PATH", "/usr/bin")
    build._build_apart(SMALL, tmp_path)
    assert seen[0]["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


@pytest.mark.parametrize("mask", [0, 0o077], ids=["umask 0", "umask 77"])
def test_what_is_built_is_for_its_owner_alone_and_built_once(mask: int, cache: Path, builds: list[Path]) -> None:
    before = os.umask(mask)
    try:
        assert seven() == seven() == 7 and len(builds) == 1
    finally:
        os.umask(before)
    (library,) = cache.iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (cache.parent, cache, library)] == [0o700, 0o700, 0o600]


def cut(path: Path, _: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def text(path: Path, _: Path) -> None:
    path.write_text("not a library\n")


def one_bit(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def another_library(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def another_library_by_its_own_hash(path: Path, other: Path) -> None:
    path.unlink()
    shutil.copyfile(other, path.with_name(named(other.read_bytes())))


def a_link(path: Path, _: Path) -> None:
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def a_pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def writable_by_others(path: Path, _: Path) -> None:
    path.chmod(0o622)


def owned_by_another(path: Path, _: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, 65534)


DAMAGES = [cut, emptied, text, one_bit, another_library, another_library_by_its_own_hash, a_link, a_pipe,
           writable_by_others, owned_by_another]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_library_that_is_not_what_was_built_is_built_again_in_silence(
    damage: Callable[[Path, Path], None], cache: Path, builds: list[Path], compiled: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    seven()
    (library,) = cache.iterdir()
    damage(library, compiled("eight"))
    with caplog.at_level(logging.INFO):
        assert seven() == 7 and len(builds) == 2
        assert seven() == 7 and len(builds) == 2
    assert not caplog.records
    good = cache / named(compiled("seven").read_bytes())
    assert good.is_file() and not good.is_symlink() and stat.S_IMODE(good.stat().st_mode) == 0o600


def others_can_write(cache: Path) -> None:
    cache.chmod(0o777)


def its_group_can_write(cache: Path) -> None:
    cache.chmod(0o770)


def a_link_to_a_folder(cache: Path) -> None:
    cache.rename(cache.parent / "real")
    cache.symlink_to(cache.parent / "real")


def of_another_user(cache: Path) -> None:
    owned_by_another(cache, cache)


@pytest.mark.parametrize(
    "change", [others_can_write, its_group_can_write, a_link_to_a_folder, of_another_user], ids=lambda f: f.__name__
)
def test_a_cache_that_is_not_ours_alone_is_not_used(
    change: Callable[[Path], None], cache: Path, builds: list[Path]
) -> None:
    seven()
    change(cache)
    with pytest.raises(OSError, match=r"can write in it; run chmod 700|[Nn]ot a directory"):
        seven()
    assert len(builds) == 1


def test_a_relative_cache_is_ignored(tmp_path: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert seven() == 7
    assert os.listdir(tmp_path) == ["home"] and len(os.listdir(tmp_path / "home" / ".cache" / "edge-sdk")) == 1


@pytest.mark.parametrize("home", ["", "relative", "/proc/nobody"], ids=["empty", "relative", "cannot be made"])
def test_without_a_home_there_is_an_error_of_one_line(
    home: str, builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(OSError) as caught:
        seven()
    assert "\n" not in str(caught.value) and not builds


def test_a_library_in_a_cache_that_cannot_be_written_is_used(
    cache: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seven()
    for name in ("staging", "_publish"):
        monkeypatch.setattr(build, name, lambda *_: pytest.fail("the cache is written"))
    assert seven() == 7


def test_several_that_build_at_once_end_well(cache: Path, builds: list[Path]) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: seven(), range(8))) == [7] * 8
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Path, builds: list[Path]) -> None:
    seven()
    (library,) = cache.iterdir()
    library.unlink()
    (cache / f".edge-sdk-{'0' * 32}.tmp").mkdir()
    seven()
    assert os.listdir(cache) == [library.name]


def test_the_loader_is_given_the_bytes_that_were_checked(
    cache: Path, builds: list[Path], compiled: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is swapped between the check and loading it."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("no names for descriptors here")
    real = ctypes.CDLL

    def swapped(name: str) -> ctypes.CDLL:
        (library,) = cache.iterdir()
        library.unlink()
        shutil.copyfile(compiled("eight"), library)
        return real(name)

    monkeypatch.setattr(build.ctypes, "CDLL", swapped)
    assert seven() == 7
