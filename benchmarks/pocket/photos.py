"""Draw the five pictures that ship with the package: one of the people that no part of the model has seen.

python -m benchmarks.pocket.photos --output_dir edge_sdk/pocket/photos
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.pocket.people import held_out_people, render
from edge_sdk.images import save_png, to_pil

SUBJECT, PHOTOS = 22, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("edge_sdk/pocket/photos"))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    people = np.repeat(held_out_people()[SUBJECT : SUBJECT + 1], PHOTOS, axis=0)
    backgrounds = np.array([3, 0, 6, 1, 7])  # green, white, orange, grey, purple
    for i, pixels in enumerate(render(people, np.random.default_rng(1), backgrounds).pixels):
        save_png(to_pil(pixels), args.output_dir / f"{i + 1}.png")


if __name__ == "__main__":
    main()
