"""A file that is opened once and read by its descriptor: what its name stands for later does not matter."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_sdk.errors import EdgeSdkError
from edge_sdk.system import platform

CLOCK_TICK_S = 0.02  # twice the coarsest step of a kernel's file times


class HeldFile:
    """An open file, and how to see that its bytes may have been changed.

    Attributes:
        size: in bytes.
        headers: of the answer that carries it.
    """

    def __init__(self, path: Path, headers: Mapping[str, str], sha256: str | None = None) -> None:
        """Open a file.

        Args:
            sha256: what its bytes must have; the file may then not be a link either.

        Raises:
            EdgeSdkError: it cannot be opened, is no regular file, or has other bytes.
        """
        self.path, self.headers = path, headers
        flags = platform.READ | (platform.NOFOLLOW if sha256 else 0)
        try:
            self._file = open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
        except OSError as error:
            raise EdgeSdkError(
                f"{path} cannot be opened ({error.strerror or error}); check it and try again"
            ) from error
        try:
            info = os.fstat(self._file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise EdgeSdkError(f"{path} is not a file; replace it by the file that it was")
            if abs(time.time_ns() - info.st_ctime_ns) < CLOCK_TICK_S * 1e9:
                time.sleep(CLOCK_TICK_S)  # or the next change could have the same time
                info = os.fstat(self._file.fileno())
            self.size, self._state = info.st_size, _state(info)
            if sha256 and (hashlib.file_digest(self._file, "sha256").hexdigest() != sha256 or self.is_changed()):
                raise EdgeSdkError(f"{path} changed while it was checked; try again when nothing writes to it")
        except BaseException:
            self.close()
            raise

    def is_changed(self) -> bool:
        """True if anything was done to the file since it was opened, even if its name stands for another by now."""
        return _state(os.fstat(self._file.fileno())) != self._state

    def chunks(self, length: int) -> Iterator[bytes]:
        """The bytes, in pieces of at most ``length``.

        Raises:
            OSError: the file was changed; no changed byte is among those yielded.
        """
        for offset in range(0, self.size, length):
            wanted = min(length, self.size - offset)
            data = platform.read_at(self._file.fileno(), wanted, offset)
            if len(data) != wanted or self.is_changed():  # asked after reading: a write is dated before its bytes land
                raise OSError(f"{self.path} has changed")
            yield data

    def close(self) -> None:
        self._file.close()


def _state(info: os.stat_result) -> tuple[int, int, int]:
    """Size, and times of change in ns; the second of these cannot be set back."""
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns
