"""A hard memory limit for a child process: a control group, in which the page cache that it uses counts too."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_sdk.errors import EdgeSdkError

ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_limit(megabytes: int | None) -> Iterator[Callable[[], None] | None]:
    """Yield what a child has to call before it starts (``preexec_fn``), or None for no limit.

    Raises:
        EdgeSdkError: this machine lets us make no memory control group.
    """
    if megabytes is None:
        yield None
        return
    first = (ROOT / "cgroup.controllers").exists()  # version 2
    group = (ROOT if first else ROOT / "memory") / f"edge-sdk-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if first else "memory.limit_in_bytes")).write_text(str(megabytes * 10**6))
        with contextlib.suppress(OSError):  # no swap, where there is any
            name, value = ("memory.swap.max", "0") if first else ("memory.memsw.limit_in_bytes", str(megabytes * 10**6))
            (group / name).write_text(value)
    except OSError as error:
        raise EdgeSdkError(
            f"a memory limit cannot be set here ({error}); run as root on Linux with memory control groups"
        ) from error

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        yield enter
    finally:
        group.rmdir()
