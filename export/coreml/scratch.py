"""Arrays that are in a temporary file instead of memory, each once, for as long as a program is being put together."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np

CHUNK = 2**28  # bytes of a mapping; the file grows by so many


class Scratch:
    """Keeps arrays in a nameless file in a folder; the system pages them out when memory is short."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it lives as long as the arrays
        self._chunk, self._end, self._used = np.zeros(0, np.uint8), 0, 0
        self._kept: dict[str, np.ndarray] = {}

    def keep(self, array: np.ndarray) -> tuple[np.ndarray, str]:
        """The same values, C-contiguous, in the file; and a name that equal arrays have in common."""
        array = np.ascontiguousarray(array)
        name = f"{array.dtype}.{'x'.join(map(str, array.shape))}.{hashlib.sha256(array.data).hexdigest()}"
        if name not in self._kept:
            self._kept[name] = self._written(array)
        return self._kept[name], name

    def _written(self, array: np.ndarray) -> np.ndarray:
        if self._used + array.nbytes > self._chunk.size:
            size = max(CHUNK, array.nbytes)
            self._chunk = np.memmap(self._file, np.uint8, "r+" if self._end else "w+", self._end, (size,))
            self._end, self._used = self._end + size, 0
        place = self._chunk[self._used : self._used + array.nbytes]
        self._used += -(-array.nbytes // 64) * 64
        written = place.view(array.dtype).reshape(array.shape)
        written[...] = array
        return written
