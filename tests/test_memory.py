"""What the process does not need is let go without losing anything."""

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.system.memory import code, leave_out_tracing, release

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the mappings that Linux shows")
PAGES = 4 * mmap.PAGESIZE


def executable(path: Path, write: bytes = b"") -> tuple[mmap.mmap, int]:
    """A file mapped privately as code, its first page written to before; and the address."""
    path.write_bytes(b"\x01" * PAGES)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), PAGES, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    mapped[: len(write)] = write
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), PAGES, mmap.PROT_READ | mmap.PROT_EXEC) == 0
    return mapped, start


def test_code_that_only_an_import_ran_is_let_go_and_what_is_needed_runs_again() -> None:
    program = """
import torch
from edge_sdk.system.memory import release, status_mb
x = torch.arange(12.0).view(3, 4)
expected, before = torch.linalg.svdvals(x), status_mb("RssFile")
release()
print(before - status_mb("RssFile"), torch.equal(torch.linalg.svdvals(x), expected))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    megabytes, same = done.stdout.split()
    assert float(megabytes) > 30 and same == "True"


def test_code_that_was_written_to_is_kept(tmp_path: Path) -> None:
    _clean, first = executable(tmp_path / "clean.so")
    _written, second = executable(tmp_path / "written.so", b"patched")
    starts = [start for start, _ in code()]
    assert first in starts and second not in starts
    release()
    assert ctypes.string_at(second, 7) == b"patched" and ctypes.string_at(first, PAGES) == b"\x01" * PAGES


def test_without_the_rules_for_tracing_a_run_is_the_same_and_smaller() -> None:
    program = """
import sys
from edge_sdk.system.memory import leave_out_tracing, status_mb
if sys.argv[1] == "without":
    leave_out_tracing()
import torch
imported = status_mb("RssAnon")
from edge_sdk import Personalizer, pocket
steps = list(Personalizer.from_pretrained("pocket").fit(pocket.PHOTOS, max_train_steps=1))
print(imported, steps[0].embedding.tobytes().hex())
"""
    outputs = []
    for how in ("with", "without"):
        done = subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    (more, token), (less, same) = outputs
    assert float(more) - float(less) > 10 and token == same


def test_where_pytorch_is_imported_already_tracing_stays() -> None:
    import torch._meta_registrations

    leave_out_tracing()
    assert sys.modules["torch._meta_registrations"] is torch._meta_registrations
    assert hasattr(torch._meta_registrations, "register_meta")
