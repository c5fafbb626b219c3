"""How long a phone would take to learn a word: published speeds of the same network, and our count of its products.

    python -m benchmarks.speed.phones

Nothing here was run on a phone. A published time gives a rate, multiplications a second. The text encoder and the
denoiser of every forward pass of a run of `fast` are divided by it. Published times are of bursts: a phone that works
for minutes gets hot and slows down.
"""

import argparse
import json
import shlex
import sys
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.lib.report import markdown, say
from benchmarks.speed.products import architecture_products
from edge_sdk.system.files import write_json
from edge_sdk.zo import fast

PUBLISHED = Path(__file__).with_name("published.json")
SIDE = 512  # pixels, of all published times
MODEL, WIDTH = "sd15", 768  # what is learned on, and the width of its tokens
HELD_OUT = 2 * 32  # forward passes for the losses before and after


def estimate(published: dict[str, Any]) -> dict[str, Any]:
    """Minutes for each device, from its rate."""
    products = cache(lambda model: architecture_products(model, SIDE))
    config = fast(1.0, WIDTH)
    forwards = config.max_train_steps * (config.zo_samples + 1) * config.train_batch_size + HELD_OUT
    denoiser, text = products(MODEL)
    rows = []
    for one in published["devices"]:
        rate = products(one["model"])[0] * one["rows"] / one["seconds"]  # of the denoiser alone, as it was published
        seconds = (denoiser + text) / rate
        rows.append(one | {"products_per_second": rate, "row_seconds": seconds, "minutes": forwards * seconds / 60})
    return {"forwards": forwards, "denoiser_products": denoiser, "text_products": text, "devices": rows}


def table(result: dict[str, Any], sources: dict[str, str]) -> str:
    """Markdown, with the sources below."""
    head = [
        "device",
        "unit",
        "published, s",
        "rows",
        "10^12 products a second",
        "s a forward pass",
        "minutes",
        "source",
    ]
    rows = [
        [
            one["device"],
            one["unit"],
            f"{one['seconds']:.3f}",
            f"{one['rows']}",
            f"{one['products_per_second'] / 1e12:.2f}",
            f"{one['row_seconds']:.3f}",
            f"{one['minutes']:.1f}",
            one["source"],
        ]
        for one in result["devices"]
    ]
    counted = (
        f"{result['forwards']} forward passes of {result['denoiser_products'] / 1e9:.1f} + "
        f"{result['text_products'] / 1e9:.1f} 10^9 products (denoiser, text encoder). Estimated, not measured."
    )
    return "\n\n".join([counted, markdown(head, rows), *(f"{name}: {text}." for name, text in sources.items())])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.phones", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/phones.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.speed.phones", *sys.argv[1:]])
    published = json.loads(PUBLISHED.read_text())
    result = estimate(published)
    about = {"command": [command], "date": date.today().isoformat(), "read": published["read"]}
    write_json(args.output, about | {"sources": published["sources"]} | result)
    say(table(result, published["sources"]), command, args.output)


if __name__ == "__main__":
    main()
