"""One case of `versions.py` under whatever version of the package is first on Python's path.

Answers a line for each line of its input: "time" with processor seconds, "noise" with those of a small change.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

LENGTH = 0.4  # of a token's states, by which they are moved


def forward(checkpoint: str, bits: int) -> Callable[[np.ndarray | None], np.ndarray]:
    """A forward pass of the denoiser on given text states, or on random ones."""
    from edge_sdk.quantization import native
    from edge_sdk.quantization.layers import integer_layers
    from edge_sdk.runtime.pytorch.model import open_model

    assert native.library() is not None
    unet = open_model(checkpoint, "int8").load("unet")
    for layer in integer_layers(unet).values():
        layer.activation_bits = bits
    x, words = random_inputs()
    sample, timestep = torch.from_numpy(x), torch.tensor([500])

    def run(text: np.ndarray | None = None) -> np.ndarray:
        with torch.inference_mode():
            return unet(sample, timestep, torch.from_numpy(words if text is None else text)).numpy().astype(np.float64)

    return run


def random_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Latents and text states of one row of Stable Diffusion 1.5."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, 4, 64, 64)).astype(np.float32), rng.standard_normal((1, 77, 768)).astype(np.float32)


def noise_of(run: Callable[[np.ndarray], np.ndarray], text: np.ndarray) -> dict[str, float]:
    """First and second difference along a random direction, as shares of the output.

    The second one vanishes with the change for an exact network; what stays is the noise of rounding activations.

    Args:
        run: text states (1, words, width) -> prediction, float64.
        text: the states in the middle.
    """
    step = np.zeros_like(text)
    step[:, 4] = LENGTH * np.random.default_rng(7).standard_normal(text.shape[2])
    middle, above, below = run(text), run(text + step), run(text - step)
    size = float(np.linalg.norm(middle))
    second = np.linalg.norm(above + below - 2 * middle) / 6**0.5
    return {"signal": float(np.linalg.norm(above - below)) / 2 / size, "noise": float(second) / size}


def steps_of_fast() -> Callable[[], Any]:
    """Ten steps of `fast` on the embedded model."""
    from edge_sdk import Personalizer, pocket

    learning = iter(Personalizer.from_pretrained("pocket").fit(pocket.PHOTOS, seed=0))
    next(learning)
    return lambda: [next(learning) for _ in range(10)]


def main() -> None:
    case = json.loads(sys.argv[1])
    run: Callable[..., Any] = steps_of_fast() if case["kind"] == "fast" else forward(case["checkpoint"], case["bits"])
    if case["kind"] == "forward":
        run()
    print("{}", flush=True)
    for line in sys.stdin:
        if line.strip() == "noise":
            print(json.dumps(noise_of(run, random_inputs()[1])), flush=True)
            continue
        begun = time.process_time()
        run()
        seconds = (time.process_time() - begun) / (10 if case["kind"] == "fast" else 1)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
