"""The golden bundle: how it is made, whole runs on it, and damage that a reader must refuse."""

import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk import Personalizer, generate
from edge_sdk.images import Photos, _square, _to_array
from edge_sdk.picture_file import decode
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.objective import Latents

HERE = Path(__file__).parent
BUNDLE = HERE / "bundle"
PHOTOS = ("photo_wide.png", "photo_turned.png", "photo_clear.png")
RUNS: list[dict[str, Any]] = [
    {"preset": "fast", "change": {"max_train_steps": 6}, "num_vectors": 1, "seed": 5},
    {
        "preset": "fast",
        "change": {"max_train_steps": 5, "zo_samples": 12, "train_batch_size": 2, "average_from": 0.5},
        "num_vectors": 2,
        "seed": 1,
    },
    {"preset": "paper", "change": {"max_train_steps": 8, "subspace_buffer": 4}, "num_vectors": 1, "seed": 0},
]
TOKEN, WORD = "<mug>", "mug"
PICTURE = {"prompt": "a photo of <mug>", "seed": 3, "num_inference_steps": 4, "guidance_scale": 4.0, "num_images": 2}


def write_bundle(folder: Path) -> None:
    """Make the model and export it; a file that is there is replaced."""
    from edge_sdk.export.bundle import export
    from tests.golden import small_model

    with tempfile.TemporaryDirectory() as temporary:
        model = small_model.build(Path(temporary) / "golden")
        export(str(model), Path(temporary) / "bundle")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(temporary) / "bundle", folder)


def load_photos(side: int) -> Photos:
    images = [decode(io.BytesIO((HERE / name).read_bytes()), side).image for name in PHOTOS]
    pixels = np.stack([_to_array(_square(image, side, True)) for image in images])
    return Photos(pixels, ("",) * len(images), (), tuple((image.height, image.width) for image in images))


def bundle_runs() -> dict[str, Any]:
    """bundle_runs.json."""
    runs: list[dict[str, Any]] = []
    latents: Latents | None = None
    learned = None
    for settings in RUNS:
        personalizer = Personalizer.from_bundle(BUNDLE)
        options = {name: value for name, value in settings.items() if name != "change"} | settings["change"]
        photos = load_photos(personalizer.model.resolution())
        steps = personalizer.fit(photos, placeholder_token=TOKEN, initializer_token=WORD, **options)
        initial = personalizer.fitted().initial
        before = personalizer.held_out_loss(initial)
        losses = [{"loss": step.loss, "clamped": step.clamped, "forwards": step.forwards} for step in steps]
        latents = personalizer.fitted().objective.latents
        learned = learned or personalizer.embedding
        runs.append(
            {
                **settings,
                "initial": initial.tolist(),
                "held_out_loss_before": before,
                "steps": losses,
                "held_out_loss_after": personalizer.held_out_loss(),
                "vectors": personalizer.embedding.vectors.tolist(),
            }
        )
    assert latents is not None and learned is not None
    pictures = generate(bundle=BUNDLE, embeddings=[learned], **PICTURE)
    return {
        "bundle": "bundle",
        "photos": list(PHOTOS),
        "placeholder_token": TOKEN,
        "initializer_token": WORD,
        "prompts": "object",
        "latents": [
            {"file": name, "mean": mean.reshape(-1).tolist(), "std": std.reshape(-1).tolist()}
            for name, mean, std in zip(PHOTOS, latents.mean, latents.std, strict=True)
        ],
        "runs": runs,
        "pictures": {**PICTURE, "vectors_of_run": 0, "rgb": [picture.tobytes().hex() for picture in pictures]},
    }


# damage
OPSET_FILE = "unknown_opset.onnx"


def write_unknown_opset(path: Path) -> None:
    """A graph of an operator set that no runtime has."""
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 999)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def _files(name: str) -> tuple[str, str]:
    entry = Bundle.open(BUNDLE).manifest["files"][name]
    return f'"bytes": {entry["bytes"]}', f'"sha256": "{entry["sha256"]}"'


def damaged() -> dict[str, Any]:
    """damaged.json: what is done to a copy of the bundle, and why it must be refused."""
    size, digest = _files("vae_encoder.onnx")
    opset = (HERE / OPSET_FILE).read_bytes()
    edits = [
        ("an unsafe path", "a path up", '"unet.onnx": {', '"../unet.onnx": {'),
        ("an unsafe path", "an absolute path", '"unet.onnx": {', '"/unet.onnx": {'),
        ("an unsafe path", "a path up inside", '"unet.onnx": {', '"a/../../unet.onnx": {'),
        ("an unsafe path", "a backslash", '"unet.onnx": {', '"a\\\\unet.onnx": {'),
        ("an unsafe path", "a drive", '"unet.onnx": {', '"C:unet.onnx": {'),
        ("an unsafe path", "an empty name", '"unet.onnx": {', '"a//unet.onnx": {'),
        ("an unsafe path", "a graph's file", '"file": "unet.onnx"', '"file": "../unet.onnx"'),
        ("an unsafe path", "a tokenizer's folder", '"folder": "tokenizer"', '"folder": "../tokenizer"'),
        ("an unlisted file", "a graph that is not listed", '"file": "unet.onnx"', '"file": "other.onnx"'),
        ("a wrong size", "a size in the manifest", size, size + "0"),
        ("a wrong hash", "a hash in the manifest", digest, digest[:-2] + ('0"' if digest[-2] != "0" else '1"')),
        ("an unknown schema version", "a newer version", '{\n  "schema_version": 3,', '{\n  "schema_version": 4,'),
        ("an unknown schema version", "an older version", '{\n  "schema_version": 3,', '{\n  "schema_version": 2,'),
        ("an unknown schema version", "a text", '{\n  "schema_version": 3,', '{\n  "schema_version": "3",'),
        ("an unknown schema version", "no version", '{\n  "schema_version": 3,', "{"),
        ("an unknown value", "a format of another program", '"format": "onnx"', '"format": "tflite"'),
        ("an unknown value", "an unknown family", '"family": "stable-diffusion"', '"family": "gan"'),
        ("an unknown value", "an unknown prediction", '"prediction_type": "epsilon"', '"prediction_type": "score"'),
        ("an unknown value", "a table of another kind", '"dtype": "float16"', '"dtype": "int3"'),
        (
            "an entry of another format",
            "a function of Core ML",
            '"file": "unet.onnx"',
            '"file": "unet.onnx", "function": "unet"',
        ),
        ("a wrong type", "a number for a function", '"file": "unet.onnx"', '"file": "unet.onnx", "function": 1'),
        ("a missing entry", "no vocabulary_std", '"vocabulary_std":', '"vocabulary_std_":'),
        ("a missing entry", "no presets", '"presets":', '"presets_":'),
        ("a wrong type", "a text for a number", '"resolution": 8,', '"resolution": "8",'),
        ("a wrong type", "true for a number", '"resolution": 8,', '"resolution": true,'),
        ("a wrong type", "a fraction for a whole number", '"resolution": 8,', '"resolution": 8.5,'),
        ("a wrong type", "an object for a list", '"embedding": [', '"embedding": {}, "other": ['),
        ("an absurd number", "a negative size", '"resolution": 8,', '"resolution": -8,'),
        ("an absurd number", "infinity", '"vocabulary_std": ', '"vocabulary_std": 1e999, "other": '),
        ("an absurd number", "not a number", '"vocabulary_std": ', '"vocabulary_std": NaN, "other": '),
        ("an absurd number", "a table beyond its file", '"offset": 0,', '"offset": 1000000000000,'),
        ("an absurd number", "a preset's mu of 0", _mu(), '"zo_mu": 0,'),
        ("an absurd number", "more directions than the file holds", '"count": 32,', '"count": 33,'),
        ("a key given twice", "two resolutions", '"resolution": 8,', '"resolution": 8, "resolution": 8,'),
        ("not JSON", "cut short", '"files": {', '"files": '),
    ]
    actions = [
        ("a missing file", "a file that is gone", "remove", "unet.onnx"),
        ("an unlisted file", "a file too many", "add", "tokenizer/extra.txt"),
        ("a wrong size", "a file cut short by a byte", "cut", "weights.bin"),
        ("a wrong hash", "a bit of the last byte", "flip", "weights.bin"),
        ("a link", "a folder that is a link", "link", "tokenizer"),
    ]
    return {
        "manifest": [{"class": kind, "name": name, "replace": [old, new]} for kind, name, old, new in edits]
        + [*_of_target(), *_of_numbers()],
        "files": [
            {"class": kind, "name": name, "action": action, "file": file} for kind, name, action, file in actions
        ],
        "graph": {
            "class": "a graph that the runtime does not take",
            "name": "an unknown operator set",
            "copy": OPSET_FILE,
            "to": "vae_encoder.onnx",
            "replace": [
                [size, f'"bytes": {len(opset)}'],
                [digest, f'"sha256": "{hashlib.sha256(opset).hexdigest()}"'],
            ],
        },
    }


def _mu() -> str:
    return f'"zo_mu": {Bundle.open(BUNDLE).manifest["presets"]["fast"]["zo_mu"]!r},'


def _of_target() -> list[dict[str, Any]]:
    """Cases of a target; ``entry`` is what the line must name."""
    good: dict[str, Any] = {"name": "qnn", "rows": 1, "vectors": 1}
    missing, wrong, absurd = "a missing entry", "a wrong type", "an absurd number"
    changes: list[tuple[str, str, Any]] = [(wrong, "a text for a target", "qnn")]
    changes += [(wrong, f"{what} for a target", value) for what, value in (("null", None), ("a list", [good]))]
    changes += [(missing, f"a target without {key}", {k: v for k, v in good.items() if k != key}) for key in good]
    changes += [
        ("an unknown value", "a target of another program", good | {"name": "tpu"}),
        ("an unknown value", "a number for a target's name", good | {"name": 1}),
        ("an entry of another format", "a target of Core ML", good | {"name": "ane"}),
        (absurd, "a target of graphs without fixed sizes", good),
    ]
    for key, most in (("rows", 4096), ("vectors", 64)):
        kinds = ("a text", "1"), ("true", True), ("a fraction", 1.5), ("null", None)
        changes += [(wrong, f"{what} for a target's {key}", good | {key: value}) for what, value in kinds]
        numbers = ("no", 0), ("negative", -1), ("too many", most + 1)
        changes += [(absurd, f"a target of {what} {key}", good | {key: value}) for what, value in numbers]
    cases = []
    for kind, name, target in changes:
        key = next((one for one in good if isinstance(target, dict) and target.get(one) != good[one]), None)
        new = f'"format": "onnx", "target": {json.dumps(target)},'
        entry = f"target.{key}" if key else "target"
        cases.append({"class": kind, "name": name, "entry": entry, "replace": ['"format": "onnx",', new]})
    return cases


def _of_numbers() -> list[dict[str, Any]]:
    """Cases of numbers that may be left out; ``entry`` is what the line must name, where every reader parses them."""
    wrong, absurd = "a wrong type", "an absurd number"
    values = [(wrong, "a text", '"1e-3"'), (wrong, "true", "true"), (wrong, "a list", "[1e-3]")]
    values += [(absurd, "a negative number", "-1e-3"), (absurd, "a number beyond float32", "1e39")]
    values += [(absurd, "infinity", "1e999"), (absurd, "not a number", "NaN")]
    places = {"mu_min": f'"mu_min": {Bundle.open(BUNDLE).manifest["mu_min"]!r},'}
    places["principal_directions.variance_share"] = '"count": 32,'
    cases = []
    for entry, old in places.items():
        name = entry.split(".")[-1]
        kept = "" if name in old else f"{old} "
        extra = [] if name == "mu_min" else [(wrong, "null", "null"), (absurd, "more than the whole", "1.001")]
        for kind, what, value in [*values, *extra]:
            named = {} if value in ("1e999", "NaN") else {"entry": entry}
            edit = {"replace": [old, f'{kept}"{name}": {value},']}
            cases.append({"class": kind, "name": f"{what} for {name}", **named, **edit})
    return cases
