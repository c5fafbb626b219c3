"""One run of `fast` under whatever version of the package is first on Python's path: rows of its denoiser, by stage.

The run ends after its first step: what surrounds the steps is the same for any number of them. Answers with one line.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import edge_sdk.pocket as pocket
from edge_sdk.diffusion.networks.unet import UNet
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.onnx.session import Session

PARTS = {
    "measuring the floor of mu": "floor of mu",
    "measuring the loss on held-out draws": "held-out losses",
    "drawing preview.png": "preview",
}  # stages that a run names


class Rows:
    """Counts rows of all calls of a denoiser, and processor seconds, by the stage that was named last."""

    def __init__(self) -> None:
        self.stage, self.rows, self.seconds = "", dict.fromkeys(("steps", *PARTS.values()), 0), dict[str, float]()
        self._since = time.process_time()
        forward, call = UNet.forward, Session.__call__

        def network(unet: UNet, sample: Any, at: Any, hidden: Any, *inputs: Any, **more: Any) -> Any:
            self._add(len(hidden))
            return forward(unet, sample, at, hidden, *inputs, **more)

        def session(graph: Session, **inputs: Any) -> Any:
            if graph.name in ("zo_loss", "unet"):
                self._add(len(inputs["timestep"]))
            return call(graph, **inputs)

        UNet.forward, Session.__call__ = network, session  # type: ignore[method-assign]

    def _add(self, rows: int) -> None:
        self.rows[PARTS.get(self.stage, "steps")] += rows

    def on_progress(self, stage: str, done: int, total: int) -> None:
        self._mark(stage if done < total else "")

    def _mark(self, stage: str) -> None:
        now, part = time.process_time(), PARTS.get(self.stage, "rest")
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since, self.stage = now, stage


def main() -> None:
    case = json.loads(sys.argv[1])
    counted = Rows()
    with tempfile.TemporaryDirectory() as folder:
        run_personalization(
            pocket.PHOTOS, Path(folder) / "run", max_train_steps=1, on_progress=counted.on_progress, **case
        )
    print(json.dumps({"rows": counted.rows, "processor_seconds": counted.seconds}))


if __name__ == "__main__":
    main()
