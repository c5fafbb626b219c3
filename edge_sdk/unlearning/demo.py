"""Forgetting one picture of the embedded model: a person that it draws, whom no prompt names.

No data is needed: what is to be kept are other pictures that the model draws.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import disk_errors
from edge_sdk.generate import generate
from edge_sdk.images import save_png
from edge_sdk.unlearning.audit import Limits, audit
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.loop import UnlearnStep
from edge_sdk.unlearning.unlearn import Sources, unlearn

PROMPT = "a picture of a person"
KEPT, HELD_OUT = 256, 64  # pictures to train retention on, and to measure it on
SETTINGS: dict[str, Any] = {"prompt": PROMPT, "num_surrogates": 4, "max_train_steps": 150, "learning_rate": 5e-5}


def forget_one(
    output_dir: str | Path, seed: int, notify: Callable[[str], None], progress: Callable[[UnlearnStep], None],
    stop: Callable[[], bool],
) -> dict[str, Any]:  # fmt: skip
    """Draw pictures, forget the first one, audit the result; returns the audit's record.

    Raises:
        EdgeSdkError: the folder holds something or cannot be written.
    """
    folder = Path(output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EdgeSdkError(f"{folder} already exists and is not an empty folder; use another --output_dir")
    notify(f"drawing {1 + KEPT + HELD_OUT} people")
    pictures = generate(PROMPT, "pocket", weights="none", num_images=1 + KEPT + HELD_OUT, guidance_scale=1.0, seed=seed)
    kept, held_out = pictures[1 : 1 + KEPT], pictures[1 + KEPT :]
    with disk_errors(folder):
        for name, drawn in (("forget", pictures[:1]), ("retain", kept), ("held_out", held_out)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i, picture in enumerate(drawn):
                save_png(picture, folder / name / f"{i:03}.png")
    config = UnlearnConfig.from_options(**SETTINGS, seed=seed)
    sources = Sources("pocket", folder / "forget", folder / "retain")
    unlearn(sources, folder / "unlearned", config, notify=notify, progress=progress, stop=stop)
    return audit(
        "pocket", str(folder / "unlearned" / "model"), folder / "forget", folder / "held_out", folder / "audit",
        Limits(), prompt=PROMPT, seed=seed, include_images=True, notify=notify,
    )  # fmt: skip
