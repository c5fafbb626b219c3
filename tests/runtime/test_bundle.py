"""What a reader refuses before any runtime opens a file: one line each, naming the entry or the file."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.onnx.bundle import Bundle
from edge_sdk.runtime.onnx.model import open_bundle
from edge_sdk.runtime.onnx.session import open_session
from edge_sdk.runtime.onnx.text import BundleText
from edge_sdk.runtime.pytorch.model import open_model

Break = Callable[[Path], None]
DIRECTIONS = "principal_directions.f32"


def edited(change: Callable[[dict[str, Any]], Any]) -> Break:
    """Changes the manifest."""

    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return apply


def entry(where: str, value: Any) -> Break:
    """Sets an entry of the manifest, given with dots."""

    def change(manifest: dict[str, Any]) -> None:
        *path, last = where.split(".")
        for name in path:
            manifest = manifest[int(name) if name.isdigit() else name]
        manifest[last] = value

    return edited(change)


def listed(name: str, **more: Any) -> Break:
    return edited(lambda m: m["files"].update({name: {"role": "graph", "bytes": 1, "sha256": "0" * 64, **more}}))


def flipped(folder: Path, name: str = "weights.bin") -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)


def linked(name: str, target: str) -> Break:
    """Makes a file a link."""

    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return apply


def linked_to_other_bytes(folder: Path) -> None:
    (folder.parent / "other").write_bytes((folder / "unet.onnx").read_bytes()[::-1])
    linked("unet.onnx", "../other")(folder)


def linked_to_pipe(folder: Path) -> None:
    os.mkfifo(folder.parent / "pipe")
    linked("unet.onnx", "../pipe")(folder)


def linked_folder(folder: Path) -> None:
    shutil.move(folder / "tokenizer", folder.parent / "tokenizer")
    (folder / "tokenizer").symlink_to(folder.parent / "tokenizer")


BREAKS: dict[str, tuple[Break, str]] = {
    "no folder": (shutil.rmtree, "manifest.json cannot be read .*No such file"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json cannot be read"),
    "manifest a folder": (lambda f: ((f / "manifest.json").unlink(), (f / "manifest.json").mkdir()), "cannot be read"),
    "manifest a link to a device": (linked("manifest.json", "/dev/zero"), "manifest.json cannot be read .*a device"),
    "manifest a link to nothing": (linked("manifest.json", "nowhere"), "manifest.json cannot be read .*No such file"),
    "not JSON": (lambda f: (f / "manifest.json").write_text("{"), "cannot be read as JSON"),
    "not UTF-8": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe{}x"), "cannot be read as JSON"),
    "deep": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "cannot be read as JSON"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "schema version None"),
    "newer": (entry("schema_version", 4), "has schema version 4; this program reads 3"),
    "older": (entry("schema_version", 2), "has schema version 2; .*; make the bundle again with edge-sdk export"),
    "version true": (entry("schema_version", True), "has schema version True"),
    "no version": (edited(lambda m: m.pop("schema_version")), "has schema version None"),
    "key missing": (edited(lambda m: m.pop("vocabulary_std")), "vocabulary_std is missing"),
    "inner key missing": (edited(lambda m: m["embedding"][0]["table"].pop("offset")), "0.table.offset is missing"),
    "text for a number": (entry("resolution", "16"), "resolution is '16', not an integer"),
    "true for a number": (entry("resolution", True), "resolution is True, not an integer"),
    "a floor that is a text": (entry("mu_min", "1e-3"), "mu_min is .1e-3., not a number of at least 0 or null"),
    "a floor below 0": (entry("mu_min", -1.0), "mu_min is -1.0, not a number of at least 0"),
    "infinity": (entry("vocabulary_std", float("inf")), "vocabulary_std is inf, not a finite number"),
    "number for a text": (entry("execution", 3), "execution is 3, not a text"),
    "object for a list": (entry("embedding", {}), "embedding is {}, not a list"),
    "list for an object": (entry("files", []), "files is .*, not an object"),
    "integer of 400 digits": (
        lambda f: (f / "manifest.json").write_text('{"schema_version": 2, "vocabulary_std": ' + "9" * 400 + "}"),
        "an integer has 400 digits",
    ),
    "an entry twice": (
        lambda f: (f / "manifest.json").write_text('{"schema_version": 1, "schema_version": 2}'),
        "is given twice",
    ),
    "long prompts": (entry("tokens.0.length", 10**9), "tokens.0.length is 1000000000, not an integer from 3 to 4096"),
    "large pictures": (entry("resolution", 10**6), "resolution is 1000000, not an integer from 8 to 4096"),
    "large latents": (entry("latents", [4, 10**9, 8]), "latents.1 is 1000000000, not an integer from 1 to 4096"),
    "latents of other pictures": (entry("latents", [4, 7, 7]), "the last two of which divide the resolution"),
    "large tensors": (
        entry("graphs.unet.inputs.sample.shape", [1, 60000, 60000]),
        "sample must have at most 67108864 values",
    ),
    "many timesteps": (entry("scheduler.num_train_timesteps", 10**9), "num_train_timesteps is 1000000000"),
    "a scale beyond float32": (entry("embedding.0.scale", 1e300), r"embedding.0.scale is 1e\+300, not a finite number"),
    "zeros for a negative prompt": (entry("force_zeros_for_empty_prompt", "no"), "_empty_prompt is 'no'"),
    "unknown family": (entry("model.family", "gan"), "model.family is 'gan', not one of pocket"),
    "unknown dtype": (entry("embedding.0.table.dtype", "int8"), "embedding.0.table.dtype is 'int8', not one of"),
    "unhashable": (entry("format", []), "format is "),
    "short table of a": (edited(lambda m: m["scheduler"]["a"].pop()), "scheduler.a and scheduler.b must have"),
    "two encoders": (edited(lambda m: m["tokens"].append(m["tokens"][0])), "as many text encoders"),
    "prompt without mark": (entry("prompts.object.0.text", "a dog"), "must hold the placeholder's mark"),
    "no prompts": (entry("prompts", {}), "there must be a prompt"),
    "norms turned around": (entry("embedding.0.norm_range", [2.0, 1.0]), "norm_range must be a least and a largest"),
    "table of another shape": (entry("embedding.0.table.shape", [400, 31]), "table.shape must be vocab_size, width"),
    "table past the end": (entry("embedding.0.table.offset", 10**9), "a table goes beyond the end of weights.bin"),
    "no presets": (edited(lambda m: m.pop("presets")), "presets is missing"),
    "one preset": (edited(lambda m: m["presets"].pop("paper")), "presets.paper is missing"),
    "a setting missing": (edited(lambda m: m["presets"]["fast"].pop("damping")), "presets.fast.damping is missing"),
    "a setting unknown": (entry("presets.fast.zo_mood", 1), "presets.fast: unknown setting 'zo_mood'"),
    "a setting out of range": (entry("presets.fast.zo_mu", 0), "presets.fast: zo_mu is 0; it must be above 0"),
    "a setting of another type": (entry("presets.paper.zo_samples", 2.5), "zo_samples is 2.5, not an integer"),
    "one timestep": (entry("presets.fast.timestep_range", [0]), "timestep_range is a list of 1"),
    "timesteps of another model": (entry("presets.paper.timestep_range", [0, 1001]), "end within num_train_timesteps"),
    "no draws to measure": (entry("presets.fast.eval_draws", 0), "eval_draws is 0, not an integer from 1 to 65536"),
    "the initializer's id a number": (entry("initializer_id", 3), "initializer_id is 3, not a list or null"),
    "the initializer's ids too many": (entry("initializer_id", [3, 3]), "initializer_id must be a word's ids, one"),
    "an id beyond the table": (entry("initializers.dog", [10**6]), "dog must be a word's ids, one a text encoder"),
    "no directions": (edited(lambda m: m.pop("principal_directions")), "principal_directions is missing"),
    "directions of no file": (edited(lambda m: m["principal_directions"].pop("file")), "directions.file is missing"),
    "none of the directions": (entry("principal_directions.count", 0), "principal_directions.count must be above 0"),
    "directions of another width": (entry("principal_directions.width", 31), "width the sum of embedding's widths"),
    "more directions than are there": (
        entry("principal_directions.count", 33),
        "f32 has 4096 bytes and 33 directions of 32 numbers take 4224",
    ),
    "directions outside": (entry("principal_directions.file", "../x.f32"), r"names the path '\.\./x.f32'"),
    "directions not listed": (entry("principal_directions.file", "x.f32"), "uses x.f32 but does not list it"),
    "directions missing": (lambda f: (f / DIRECTIONS).unlink(), "f32 is missing, which manifest.json lists; copy"),
    "directions cut short": (lambda f: os.truncate(f / DIRECTIONS, 100), "f32 has 100 bytes and .* says 4096; copy"),
    "one bit of directions": (lambda f: flipped(f, DIRECTIONS), "f32 is not the file that manifest.json lists"),
    "absolute path": (listed("/etc/passwd"), "names the path '/etc/passwd'; paths are relative"),
    "parent": (listed("../manifest.json"), r"names the path '\.\./manifest.json'"),
    "parent inside": (listed("a/../../b"), r"names the path 'a/\.\./\.\./b'"),
    "backslash": (listed("a\\b"), "names the path"),
    "drive": (listed("C:b"), "names the path 'C:b'"),
    "empty part": (listed("a//b"), "names the path 'a//b'"),
    "graph outside": (entry("graphs.unet.file", "../unet.onnx"), r"names the path '\.\./unet.onnx'"),
    "tokenizer outside": (entry("tokens.0.folder", "/tmp"), "names the path '/tmp'"),
    "table outside": (entry("embedding.0.table.file", "../weights.bin"), r"names the path '\.\./weights.bin'"),
    "manifest lists itself": (listed("manifest.json"), "names the path 'manifest.json'"),
    "graph not listed": (edited(lambda m: m["files"].pop("unet.onnx")), "uses unet.onnx but does not list it"),
    "table not listed": (edited(lambda m: m["files"].pop("weights.bin")), "uses weights.bin but does not list it"),
    "tokenizer not listed": (entry("tokens.0.folder", "words"), "uses words but does not list it"),
    "more than listed": (lambda f: (f / "tokenizer" / "x.json").write_text("{}"), "x.json is not listed in"),
    "missing file": (lambda f: (f / "unet.onnx").unlink(), "unet.onnx is missing, which manifest.json lists"),
    "cut short": (lambda f: os.truncate(f / "weights.bin", 100), r"weights.bin has 100 bytes and .* says \d"),
    "one bit": (flipped, "weights.bin is not the file that manifest.json lists"),
    "link to other bytes": (linked_to_other_bytes, "unet.onnx is not the file that manifest.json lists"),
    "link to a file of another size": (linked("unet.onnx", "/proc/self/exe"), r"unet.onnx has \d+ bytes and"),
    "link to a device": (linked("weights.bin", "/dev/zero"), "weights.bin is not a file"),
    "link to a pipe": (linked_to_pipe, "unet.onnx is not a file"),
    "link to nothing": (linked("unet.onnx", "nowhere"), "unet.onnx leads nowhere, which manifest.json lists"),
    "link to itself": (linked("unet.onnx", "unet.onnx"), "unet.onnx leads nowhere, which manifest.json lists"),
    "link to a folder": (linked_folder, "tokenizer is a link"),
    "a further link to a device": (lambda f: (f / "x").symlink_to("/dev/zero"), "x is not a file"),
    "a further link to a folder": (lambda f: (f / "x").symlink_to("/"), "x is a link to a folder"),
    "a further graph": (lambda f: (f / "unet2.onnx").write_text(""), "unet2.onnx is not listed in"),
    "further weights": (lambda f: (f / "weights2.bin").write_text(""), "weights2.bin is not listed in"),
    "a further file of a tokenizer": (
        lambda f: (f / "tokenizer" / "added_tokens.json").write_text("{}"),
        "added_tokens.json is not listed in",
    ),
    "a pipe": (lambda f: os.mkfifo(f / "pipe"), "pipe is not a file"),
}


@pytest.mark.parametrize(("damage", "said"), BREAKS.values(), ids=BREAKS)
def test_a_bad_bundle_is_refused_in_one_line_before_a_session_opens(
    damage: Break, said: str, copy_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bundle.open(copy_of)
    damage(copy_of)

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    with pytest.raises(EdgeSdkError, match=said) as caught:
        open_bundle(copy_of)
    assert "\n" not in str(caught.value) and str(copy_of) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (entry("format", "coreml"), "is a bundle for coreml; this command runs onnx"),
        (entry("runtime.onnxruntime.graph_optimization_level", "most"), "settings for onnxruntime that cannot be used"),
        (entry("runtime.onnxruntime.session", [1]), "settings for onnxruntime that cannot be used"),
        (entry("runtime.onnxruntime.intra_op_num_threads", 100_000), "intra_op_num_threads is 100000, not an integer"),
        (entry("runtime.onnxruntime.intra_op_num_threads", -1), "intra_op_num_threads is -1, not an integer"),
        (entry("runtime.onnxruntime.enable_mem_reuse", "x"), "enable_mem_reuse is 'x', not true or false"),
        (entry("tokens.0.pad", 3), "manifest.json says otherwise"),
        (edited(lambda m: m["graphs"].pop("zo_loss")), "has no graph zo_loss; it has text_encoder, unet"),
    ],
    ids=["Core ML", "level", "settings", "threads", "threads below zero", "reuse", "other marks", "no graph"],
)
def test_what_only_this_runtime_refuses_is_one_line_too(damage: Break, said: str, copy_of: Path) -> None:
    damage(copy_of)
    with pytest.raises(EdgeSdkError, match=said) as caught:
        bundle = open_bundle(copy_of).bundle
        BundleText(bundle)
        open_session(bundle, "zo_loss")
    assert "\n" not in str(caught.value)


def test_a_graph_that_the_runtime_cannot_load_is_one_line(copy_of: Path) -> None:
    data = b"not a graph"
    (copy_of / "unet.onnx").write_bytes(data)
    listed("unet.onnx", bytes=len(data), sha256=hashlib.sha256(data).hexdigest())(copy_of)
    with pytest.raises(
        EdgeSdkError, match=f"unet.onnx cannot be loaded by onnxruntime {onnxruntime.__version__}"
    ) as said:
        open_session(Bundle.open(copy_of), "unet")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("family", "weights"), [("sd1", "int8"), ("sdxl", "int8"), ("pocket", "int8")])
def test_text_is_that_of_the_model(family: str, weights: str, bundle_of: Callable[[str, str], Path]) -> None:
    folder = bundle_of(family, weights)
    bundle = Bundle.open(folder)
    text, wanted = (
        BundleText(bundle),
        open_model("pocket" if family == "pocket" else str(folder.parent / family)).load_text(),
    )
    prompts = ["a photo of <s>", "zebra <s> 42, (<s>)", ""]
    assert (text.tokenize(prompts, {"<s>": 2}) == wanted.tokenize(prompts, {"<s>": 2})).all()
    np.testing.assert_allclose(
        text.initial_embedding("person", 2), wanted.initial_embedding("person", 2), rtol=1e-3, atol=1e-5
    )
    for word, said in (("dog cat", "makes 2 tokens"), ("", "makes 0 tokens")):
        with pytest.raises(EdgeSdkError, match=said):
            text.initial_embedding(word, 1)
    with pytest.raises(EdgeSdkError, match="already a word of the model"):
        text.check_placeholder("person")


def test_the_hash_names_the_bundle(copy_of: Path) -> None:
    before = Bundle.open(copy_of).sha256
    assert re.fullmatch("[0-9a-f]{64}", before) and Bundle.open(copy_of).sha256 == before
    entry("created_by", "another")(copy_of)
    assert Bundle.open(copy_of).sha256 != before


def test_a_graph_may_be_a_folder_as_for_core_ml(copy_of: Path) -> None:
    (copy_of / "unet.mlpackage").mkdir()
    (copy_of / "unet.onnx").rename(copy_of / "unet.mlpackage" / "model")
    with pytest.raises(EdgeSdkError, match=r"unet.onnx is missing"):
        Bundle.open(copy_of)
    edited(lambda m: m["files"].update({"unet.mlpackage/model": m["files"].pop("unet.onnx")}))(copy_of)
    entry("graphs.unet.file", "unet.mlpackage")(copy_of)
    assert Bundle.open(copy_of).graph("unet") == copy_of / "unet.mlpackage"
    (copy_of / "unet.mlpackage" / "more").write_text("")
    with pytest.raises(EdgeSdkError, match=r"unet.mlpackage/more is not listed"):
        Bundle.open(copy_of)
