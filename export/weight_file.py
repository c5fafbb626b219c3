"""The one file that holds the weights of all graphs of a bundle, written as they come; each starts on a page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

PAGE = 4096
INLINE_BYTES = 1024  # what is smaller belongs into the graph


@dataclass(frozen=True)
class Entry:
    """Where a tensor is."""

    dtype: np.dtype
    shape: tuple[int, ...]
    file: str = ""
    offset: int = 0
    length: int = 0
    inline: bytes | None = None  # the data themselves, of a small tensor

    def place(self) -> dict[str, Any]:
        """Where it is, as a manifest says it."""
        return {"file": self.file, "offset": self.offset, "dtype": str(self.dtype), "shape": list(self.shape)}


class WeightFile:
    """Tensors by key, each written once, whichever graph needs it first."""

    def __init__(self, path: Path) -> None:
        self._path, self._entries = path, dict[str, Entry]()
        self._file = open(path, "wb")  # noqa: SIM115, closed by __exit__

    def __enter__(self) -> "WeightFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def entry(self, key: str, make: Callable[[], np.ndarray]) -> Entry:
        """Where the tensor of this key is; ``make`` is called if it is not there yet."""
        if key not in self._entries:
            array = np.ascontiguousarray(make())
            if array.nbytes <= INLINE_BYTES:
                self._entries[key] = Entry(array.dtype, array.shape, inline=array.tobytes())
            else:
                offset = -(-self._file.tell() // PAGE) * PAGE
                self._file.seek(offset)
                self._file.write(array.data)
                self._entries[key] = Entry(array.dtype, array.shape, self._path.name, offset, array.nbytes)
        return self._entries[key]
