"""One case of `benchmarks.speed.busy`, for any version of the package: the one on PYTHONPATH.

    python busy_case.py learn BUSY STEPS | bundle BUSY STEPS FOLDER | size BUSY CALLS CHECKPOINT

Prints seconds and processor seconds a step (or a call of the objective) with so many busy processes beside it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(0.5 * bool(count))
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def learning(folder: str | None = None) -> Callable[[], object]:
    """A step of `fast` on the embedded model, or on its bundle."""
    from edge_sdk import Personalizer, pocket

    personalizer = Personalizer.from_bundle(folder) if folder else Personalizer.from_pretrained("pocket")
    steps = personalizer.fit(pocket.PHOTOS, seed=0)
    return lambda: next(steps)


def at_true_size(checkpoint: str) -> Callable[[], object]:
    """Two rows of a step, as many as are computed together, at the size of an integer checkpoint."""
    import numpy as np

    try:
        from benchmarks.memory.case import integer_objective
    except ImportError:  # its place in earlier versions
        from benchmarks.memory_case import integer_objective  # type: ignore[import-not-found, no-redef]
    from edge_sdk.zo.draws import draw

    objective = integer_objective(checkpoint, "int8", "resident")
    text, drawn = objective.text, draw(objective, 0, 0, 1, (500, 900))
    rows = np.repeat((text.initial_embedding("a", 1) / text.scale)[None], 2, axis=0).astype(np.float32)
    return lambda: objective.residuals(rows, drawn * 2)


def main() -> None:
    kind, count, steps, *folder = sys.argv[1:]
    load = os.getloadavg()[0]
    step = at_true_size(*folder) if kind == "size" else learning(*folder)
    step()  # what only the first one does is not timed
    with busy(int(count)):
        wall, processor = time.monotonic(), time.process_time()
        for _ in range(int(steps)):
            step()
        times = {"seconds": time.monotonic() - wall, "processor": time.process_time() - processor}
    print(json.dumps({key: value / int(steps) for key, value in times.items()} | {"load": load}))


if __name__ == "__main__":
    main()
