"""Kinds of inputs: whole ones, which files of them are mutated, and the command that reads them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edge_sdk import quantize
from edge_sdk.cli.main import main
from edge_sdk.export import verify
from edge_sdk.export.bundle import export
from tests import tiny_models

GENERATE = ["--prompt", "a dog and <s>", "--num_inference_steps", "1", "--quiet"]
UNLEARN = [
    "--dry_run",
    "--forget_batch",
    "1",
    "--retain_batch",
    "1",
    "--max_retained_similarity",
    "1",
    "--max_background_change",
    "1",
    "--quiet",
]


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        base: a folder of whole inputs, of which each run has a copy by links.
        files: which of them are mutated, patterns below the folder.
        command: its words, of the copy and the place of outputs.
        manifest: a bundle's, below the folder, to be made right after the mutation.
        may_write: the output is also written by a run that ends in an error.
        status: with which the whole input ends.
    """

    name: str
    base: Path
    files: tuple[str, ...]
    command: Callable[[Path, Path], list[str]]
    manifest: str | None = None
    may_write: bool = False
    status: int = 0

    def paths(self) -> list[Path]:
        """The files that are mutated, relative to the base."""
        found = [path for pattern in self.files for path in sorted(self.base.glob(pattern)) if path.is_file()]
        return [path.relative_to(self.base) for path in found]


def link_copy(source: Path, folder: Path) -> None:
    """A copy whose files are links to the same data."""
    shutil.copytree(source, folder, copy_function=os.link)


def write_mutated(target: Target, folder: Path, path: Path, data: bytes) -> None:
    """Put a mutated file in a copy's place and make the manifest's hash right."""
    _replace(folder / path, data)
    if target.manifest is None or path.name == "manifest.json":
        return
    bundle = (folder / target.manifest).parent
    manifest = json.loads((folder / target.manifest).read_text())
    entry = manifest["files"][(folder / path).relative_to(bundle).as_posix()]
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    _replace(folder / target.manifest, json.dumps(manifest).encode())


def _replace(path: Path, data: bytes) -> None:
    path.unlink()  # the link, not the data that other copies have
    path.write_bytes(data)


def build(folder: Path) -> list[Target]:
    """Make every kind of input in a new folder; some seconds."""
    models = folder / "models"
    for family in tiny_models.FAMILIES:
        tiny_models.build(models / family, family)
    tiny_models.build_ddpm(models / "ddpm")
    tiny_models.build_sd3(models / "sd3")
    requests = {"requests": [{"salt": "00" * 16, "targets": ["ab" * 32], "config": {"prompt": ""}}]}
    (models / "ddpm" / "unlearned.json").write_text(json.dumps(requests))
    for family, weights in (("sd1", "int4"), ("sdxl", "int8")):
        quantize(str(models / family), folder / f"integer-{family}", weights)
    for family in ("sd1", "sdxl"):
        export(str(models / family), folder / f"bundle-{family}", weights="int8")
    export(str(models / "sd1"), folder / "bundle-coreml", "coreml", "int8")
    shutil.copytree(folder / "bundle-sd1", folder / "runs" / "bundle")
    _pictures(folder)
    shutil.copytree(folder / "photos", folder / "runs" / "photos")
    main(_personalize(folder / "runs" / "bundle", folder / "photos", folder / "runs" / "run", steps="3"))
    (folder / "tokens").mkdir()
    shutil.copyfile(folder / "runs" / "run" / "learned_embeds.safetensors", folder / "tokens" / "t.safetensors")
    (folder / "limits").mkdir()
    (folder / "limits" / "limits.json").write_text(json.dumps({"drift": 0.1, "hit_rate": 0.05, "target_change": -0.04}))
    for name in ("learned_embeds.safetensors", "run.json"):
        (folder / "runs" / "run" / name).unlink()
    verify.RUNTIMES["onnx"] = verify.RUNTIMES["onnx"][:1]
    return _targets(folder)


def _targets(folder: Path) -> list[Target]:
    models, json_files, weights = folder / "models", ("*.json", "*/*.json"), ("*/*.safetensors",)
    bundle, photos = folder / "bundle-sd1", folder / "photos"

    def generate(copy: Path, out: Path) -> list[str]:
        return ["generate", "--pretrained_model_name_or_path", str(copy), *GENERATE, "--output", f"{out}.png"]

    def generate_integer(copy: Path, out: Path) -> list[str]:
        stored = json.loads((folder / copy.name.rpartition(".")[0] / "integer_checkpoint.json").read_text())["weights"]
        return [*generate(copy, out), "--weights", stored]

    def generate_bundle(copy: Path, out: Path) -> list[str]:
        return ["generate", "--bundle", str(copy), *GENERATE, "--output", f"{out}.png"]

    def personalize_bundle(copy: Path, out: Path) -> list[str]:
        return _personalize(copy, photos, out)

    def unlearn(copy: Path, out: Path) -> list[str]:
        return _unlearn(copy, folder / "pictures", out)

    targets = [Target(f"model {name}", models / name, (*json_files, "*/*.txt"), generate) for name in ("sd1", "sdxl")]
    targets += [Target(f"weights {name}", models / name, weights, generate) for name in ("sd2",)]
    targets += [
        Target(f"integer {name}", folder / f"integer-{name}", (*json_files, *weights), generate_integer)
        for name in ("sd1", "sdxl")
    ]
    manifest = {"manifest": "manifest.json"}
    targets += [
        Target("manifest", folder / "bundle-sdxl", ("manifest.json",), personalize_bundle, may_write=True),
        Target("manifest drawn with", bundle, ("manifest.json",), generate_bundle),
        Target("bundle's tokenizer", bundle, ("tokenizer*/*",), generate_bundle, **manifest),
        Target("bundle's graphs", bundle, ("*.onnx", "*.bin", "*.f32"), personalize_bundle, **manifest, may_write=True),
        Target(
            "Core ML programs",
            folder / "bundle-coreml",
            ("manifest.json", "golden.json", "*.bin", "*.mlpackage/**/*"),
            lambda copy, _: ["verify", str(copy)],
            **manifest,
        ),
        Target("golden", bundle, ("golden.json",), lambda copy, _: ["verify", str(copy)], **manifest),
        Target(
            "embedding",
            folder / "tokens",
            ("*.safetensors",),
            lambda copy, out: [*generate_bundle(bundle, out), "--embedding", str(copy / "t.safetensors")],
        ),
        Target(
            "checkpoint",
            folder / "runs",
            ("run/checkpoint-*/*",),
            lambda copy, _: [
                *_personalize(copy / "bundle", copy / "photos", copy / "run", steps="3"),
                "--resume_from_checkpoint",
                "latest",
            ],
            may_write=True,
        ),
        Target(
            "photos",
            photos,
            ("*.png", "*.jpg", "*.webp", "*.txt"),
            lambda copy, out: [*_personalize(bundle, copy, out), "--use_captions"],
        ),
        Target(
            "limits",
            folder / "limits",
            ("*.json",),
            lambda copy, out: [
                "audit",
                "--before",
                "./none",
                "--after",
                "./none",
                "--forget_data_dir",
                "x",
                "--retain_data_dir",
                "x",
                "--output_dir",
                str(out),
                "--limits",
                str(copy / "limits.json"),
            ],
            status=2,
        ),
        Target("requests", models / "ddpm", ("unlearned.json",), unlearn),
        Target(
            "masks",
            folder / "pictures",
            ("*/*",),
            lambda copy, out: [*_unlearn(models / "ddpm", copy, out), "--mask_data_dir", str(copy / "mask")],
        ),
        Target("model of unlearn ddpm", models / "ddpm", (*json_files, *weights), unlearn),
        Target("model of unlearn sd1", models / "sd1", json_files, unlearn),
        Target("model of unlearn sd3", models / "sd3", (*json_files, *weights), unlearn),
    ]
    return targets


def _personalize(bundle: Path, photos: Path, out: Path, steps: str = "1") -> list[str]:
    return [
        "personalize",
        "--bundle",
        str(bundle),
        "--train_data_dir",
        str(photos),
        "--output_dir",
        str(out),
        "--initializer_token",
        "dog",
        "--placeholder_token",
        "<s>",
        "--max_train_steps",
        steps,
        "--checkpointing_steps",
        "1",
        "--zo_samples",
        "2",
        "--eval_draws",
        "1",
        "--no_preview",
        "--quiet",
    ]


def _unlearn(model: Path, pictures: Path, out: Path) -> list[str]:
    return [
        "unlearn",
        "--pretrained_model_name_or_path",
        str(model),
        "--forget_data_dir",
        str(pictures / "forget"),
        "--retain_data_dir",
        str(pictures / "retain"),
        "--surrogate_data_dir",
        str(pictures / "given"),
        "--output_dir",
        str(out),
        *UNLEARN,
    ]


def _pictures(folder: Path) -> None:
    """Photos of three formats with captions, and small pictures for unlearning, with masks."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for suffix in ("png", "jpg", "webp"):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(
            folder / "photos" / f"{suffix}.{suffix}"
        )
        (folder / "photos" / f"{suffix}.txt").write_text("a dog on a mat")
    for name, count in (("forget", 1), ("retain", 3), ("given", 1), ("mask", 1)):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{i}.png")
