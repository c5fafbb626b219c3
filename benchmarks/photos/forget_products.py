"""Forget single photos of products, with a clean licence: pictures of them may be shown.

    python -m benchmarks.photos.forget_products

needs the model of `benchmarks.photos.wardrobe` and the network of `benchmarks.photos.classifier`. The photos to forget
are those that the model was trained on again and again. Their relatives are photos of the same style that it has never
seen, which it must go on to reproduce as well as before.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.photos import classifier, fashion, wardrobe
from benchmarks.photos.command import run
from benchmarks.photos.forget import Case, Experiment, add_arguments, begun, report
from benchmarks.photos.forgetting import FALSE_ACCEPTS, Photos, Ruler
from edge_sdk.system.files import write_bytes
from edge_sdk.unlearning.similarity import Similarity

PROMPT = f"a photo of a {wardrobe.ANYTHING}"
RELATIVES, OTHERS, RETAINED_OF_CLASS, RETAINED = 8, 24, 150, 150
CENTRED_ON, PAIRED = 2000, 100  # photos, and of a class
NEAR_COPY = 0.95  # largest similarity of a surrogate to its target, in place of the limit for drawn people


def make_ruler(path: Path, photos: np.ndarray, classes: np.ndarray, work: Path) -> tuple[Ruler, Path]:
    """The classifier's hidden layer, and the similarity that one pair in a hundred of photos of one class exceeds."""
    network, graph = classifier.load(path), work / "products.onnx"
    with torch.inference_mode():
        centre = network.features(torch.from_numpy(fashion.pictures(photos[:CENTRED_ON]))).mean(dim=0).numpy()
    write_bytes(graph, classifier.graph(network, centre).SerializeToString())
    similarity, pairs = Similarity(str(graph)), []
    for number in range(len(fashion.CLASSES)):
        own = fashion.pictures(photos[classes == number][:PAIRED])
        pairs.append(similarity(own, own)[np.triu_indices(len(own), 1)])
    return Ruler(similarity, float(np.quantile(np.concatenate(pairs), 1 - FALSE_ACCEPTS))), graph


def make_cases(folder: Path, numbers: list[int]) -> list[Case]:
    photos, classes = fashion.read("train", folder)
    styles = fashion.styles(photos, classes, folder)
    unseen, unseen_classes = fashion.read("t10k", folder)
    unseen_styles = fashion.styles(unseen, unseen_classes, folder)
    known, fresh = (wardrobe.known(*each) for each in ((classes, styles), (unseen_classes, unseen_styles)))
    cases = []
    for target in wardrobe.by_heart(classes, styles):
        number, style, rng = int(classes[target]), styles[target], np.random.default_rng(int(target))
        if number not in numbers:
            continue
        own = fresh & (unseen_classes == number)
        kin = np.flatnonzero(own & (unseen_styles == style))[:RELATIVES]
        others = rng.choice(np.flatnonzero(fresh & ~(own & (unseen_styles == style))), OTHERS, replace=False)
        near = np.setdiff1d(np.flatnonzero(known & (classes == number)), [target])
        far = np.flatnonzero(known & (classes != number))
        kept = np.concatenate(
            [rng.choice(near, RETAINED_OF_CLASS, replace=False), rng.choice(far, RETAINED, replace=False)]
        )
        of = (photos[[target]], unseen[kin], unseen[others])
        cases.append(Case(fashion.CLASSES[number], Photos(*map(fashion.pictures, of)), fashion.pictures(photos[kept])))
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.forget_products", description=__doc__)
    parser.add_argument("--data", type=Path, default=fashion.FOLDER, help="folder of Fashion-MNIST's files")
    parser.add_argument("--ruler", type=Path, default=Path("benchmarks/work/products.safetensors"))
    known = [name for i, name in enumerate(fashion.CLASSES) if i != wardrobe.UNKNOWN_CLASS]
    parser.add_argument("--targets", nargs="+", choices=known, default=known)
    add_arguments(parser, "wardrobe", "forget_products", "photos_products.json")
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    photos, classes = fashion.read("t10k", args.data)
    ruler, graph = make_ruler(args.ruler, photos, classes, args.work_dir)
    command = shlex.join(["python", "-m", "benchmarks.photos.forget_products", *sys.argv[1:]])
    record = begun(args.output, command, ruler={"threshold": ruler.threshold})
    cases = make_cases(args.data, [fashion.CLASSES.index(name) for name in args.targets])
    Experiment(args.model, PROMPT, ruler, graph, {"max_target_similarity": NEAR_COPY}, args.work_dir).run(
        cases, args.runs, record, args.output
    )
    report(record, args.output)


if __name__ == "__main__":
    run(main)
