"""Machines without what Linux has: locks, counters, owners, most signals, folders that can be opened."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk import load_embedding, pocket
from edge_sdk.quantization.native import FLAGS, HEADERS, SOURCES

# What Python lacks on Windows, taken away after the standard library has looked.
WINDOWS = """
import asyncio, http.server, logging, mmap, os, shutil, signal, socket, stat, subprocess, sys, tempfile
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
opened, replaced = os.open, os.replace
def open_file(path, flags, mode=0o777, *, dir_fd=None):
    assert dir_fd is None and not flags & (0x800 | 0o400000 | 0o200000), "a flag that Windows lacks"
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return opened(path, flags, mode)
def replace(source, target, **options):
    assert not options
    if os.path.isdir(target):
        raise PermissionError(5, "Access is denied", target)
    replaced(source, target)
for name in (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fork", "getegid", "geteuid",
    "getgid", "getuid", "killpg", "pread", "sysconf",
):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1"):
    delattr(signal, name)
del mmap.MADV_DONTNEED
shutil._use_fd_functions = False
tempfile._bin_openflags = tempfile._text_openflags = os.O_RDWR | os.O_CREAT | os.O_EXCL
os.open, os.replace = open_file, replace
import pathlib
exists = pathlib.Path.exists
pathlib.Path.exists = lambda self, **options: not str(self).startswith("/proc") and exists(self, **options)
"""


def command(machine: str, *words: object, status: int = 0) -> str:
    """Run a command on such a machine; what it wrote."""
    program = f"{machine}\nfrom edge_sdk.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_bundle_learns_and_draws_without_what_windows_lacks(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    learn = ["personalize", "--bundle", pocket.BUNDLE, "--train_data_dir", pocket.PHOTOS, "--no_preview"]
    learn += ["--eval_draws", 4, "--zo_samples", 4, "--checkpointing_steps", 1]
    assert "2 steps" in command(WINDOWS, *learn, "--max_train_steps", 2, "--output_dir", there)
    assert "peak memory" in command("import sys", *learn, "--max_train_steps", 2, "--output_dir", here)
    learned = [load_embedding(folder / "learned_embeds.safetensors").vectors for folder in (there, here)]
    assert (learned[0] == learned[1]).all()
    options = ["--max_train_steps", 2, "--output_dir", there, "--resume_from_checkpoint", there / "checkpoint-1"]
    assert "2 steps" in command(WINDOWS, *learn, *options)
    drawn = ["generate", "--bundle", pocket.BUNDLE, "--embedding", there / "learned_embeds.safetensors"]
    command(WINDOWS, *drawn, "--prompt", "a <subject>", "--num_inference_steps", 2, "--output", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob(".edge-sdk-*"))


def test_a_second_run_in_a_folder_of_results_is_refused_there(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    learn = ["personalize", "--bundle", pocket.BUNDLE, "--train_data_dir", pocket.PHOTOS, "--output_dir", tmp_path]
    assert "already holds run.json" in command(WINDOWS, *learn, status=2)


@pytest.mark.parametrize("words", [["--help"], ["personalize", "--help"], ["verify", pocket.BUNDLE]], ids=str)
def test_other_commands_start(words: list[object]) -> None:
    command(WINDOWS, *words)


def test_the_embedded_model_runs_without_compiled_kernels(tmp_path: Path) -> None:
    learn = ["personalize", "--train_data_dir", pocket.PHOTOS, "--output_dir", tmp_path / "run", "--no_preview"]
    few = ["--max_train_steps", 1, "--zo_samples", 2, "--eval_draws", 2]
    assert "1 steps" in command(WINDOWS, *learn, *few)


def test_kernels_need_no_openmp() -> None:
    assert "-fopenmp" not in FLAGS and not any("omp.h" in path.read_text() for path in (*SOURCES, *HEADERS))


@pytest.mark.skipif(shutil.which("clang++") is None, reason="there is no clang here")
def test_kernels_are_compiled_by_clang(tmp_path: Path) -> None:
    command = ["clang++", *FLAGS, "-shared", "-fPIC", *map(str, SOURCES), "-o", str(tmp_path / "library.so")]
    subprocess.run(command, check=True)
