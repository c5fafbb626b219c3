"""Small models made to forget a person from one picture: ours beside other methods, on the same draws.

Every method is run at several strengths, so that forgetting can be compared at the same drift of everything else.
Rows are on the disk as soon as they are measured; ``--resume`` goes on.
"""

import argparse
import json
from pathlib import Path

from edge_sdk.config import DEVICES

# Strength of forgetting and learning rate of each method's runs. No metric shortens the others' steps, so their rates
# are lower; the lowest is there to have a run of each at a drift that ours has too.
RUNS: dict[str, tuple[tuple[float, float], ...]] = {
    "naive deletion": ((1.0, 3e-5), (1.0, 9e-5)),
    "NegGrad with retention": ((0.5, 3e-5), (0.1, 9e-5), (0.5, 9e-5)),
    "SISS": ((0.5, 3e-5), (0.05, 9e-5), (0.3, 9e-5)),
    "EraseDiff": ((0.0005, 1e-5), (0.01, 3e-6), (0.0005, 9e-5)),
    "SalUn, ported": ((0.1, 3e-5), (0.03, 9e-5), (0.1, 9e-5)),
    "ReTrack": ((0.03, 3e-5), (0.01, 9e-5), (0.03, 9e-5)),
    "ESD": ((3.0, 3e-5), (1.0, 9e-5), (3.0, 9e-5)),
    "ours": ((2.6, 5.4e-4), (4.0, 5.4e-4)),
}

# Variants of ours, by name. "ablation" changes one thing at a time: the reconstructions of what the paper does not say,
# and our own parts.
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "rounding": {"ours": {}, "ours, through int4": {"quantization_aware": "int4"}},
    "ablation": {
        "ours": {},
        "weights: uniform": {"timestep_weight": "uniform"},
        "weights: clamped SNR": {"timestep_weight": "snr"},
        "weights: window": {"timestep_weight": "window"},
        "surgery: none": {"surgery": "none"},
        "surgery: symmetric": {"surgery": "symmetric"},
        "surgery: tensor by tensor": {"surgery_scope": "tensor"},
        "surgery: of gradients": {"surgery_space": "gradient"},
        "surgery: preconditioned": {"surgery_space": "preconditioned"},
        "surrogates: 4 edits": {"surrogate": "edit"},
        "surrogates: the nearest one": {"num_surrogates": 1},
        "no path to surrogates": {"surrogate_path": 0.0},
        "metric: Euclidean": {"metric": "euclidean", "learning_rate": 9e-5},
        "layers: all": {"layers": "all"},
        "retention: by noise": {"retention": "data"},
        "retention: no more of neighbours": {"neighbour_share": 0.0},
        "adapters of rank 8, 10 times the rate": {"lora_rank": 8, "learning_rate": 5.4e-3},
        "adapters of rank 8, 30 times the rate": {"lora_rank": 8, "learning_rate": 1.62e-2},
    },
}


def setting(text: str) -> tuple[str, object]:
    """NAME=VALUE as a name and a number, tuple or string."""
    name, given, value = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        found = json.loads(value)
    except ValueError:
        return name, value
    return name, tuple(found) if isinstance(found, list) else found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("benchmarks/work/faces"),
        help="what python -m benchmarks.unlearning.ddpm, or for ESD .sd3, made",
    )
    parser.add_argument(
        "--reference", type=Path, help="the same model trained without the outlier, which is then the only target"
    )
    parser.add_argument("--targets", nargs="+", type=int, default=list(range(8)), help="people, by number")
    parser.add_argument("--seeds", type=int, choices=range(1, 101), metavar="{1..100}", default=3)
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=RUNS,
        default=[m for m in RUNS if m != "ESD"],
        help="default: all but ESD, which takes a conditional model",
    )
    parser.add_argument(
        "--strengths",
        nargs="+",
        type=float,
        help="of every method, in place of its own, with each of its learning rates",
    )
    parser.add_argument("--rates", nargs="+", type=float, help="only the runs with these learning rates")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--set", nargs="+", type=setting, default=[], metavar="NAME=VALUE", help="settings of the methods"
    )
    parser.add_argument("--label", help="what is added to the methods' names, with these settings")
    parser.add_argument(
        "--variants",
        choices=VARIANTS,
        help="of ours, instead of --methods: with training through rounding, or with one thing changed at a time",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the models run")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/unlearning.json"))


def run_benchmark(args: argparse.Namespace, command: str) -> None:
    from benchmarks.unlearning.benchmark import run_all

    run_all(args, command)
