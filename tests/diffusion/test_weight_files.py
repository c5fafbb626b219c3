"""Which files of a folder are a model's weights: plain ones, those of another precision, shards of either spelling."""

import fnmatch
import json
import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from edge_sdk.cli.main import main
from edge_sdk.diffusion.components import PARTS
from edge_sdk.diffusion.folder import check, find
from edge_sdk.diffusion.weight_files import chosen_name, is_index, patterns, weight_files
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import generate
from edge_sdk.system import privacy

UNET = "diffusion_pytorch_model"
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SPELLINGS = (
    "{stem}.safetensors.index.{v}.json",
    "{stem}.{v}.safetensors.index.json",
    "{stem}.safetensors.{v}.index.json",
)


@pytest.fixture
def model(sd1_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd1_folder, tmp_path / "model"))


def as_variant(folder: Path, variant: str, parts: tuple[str, ...] = PARTS) -> None:
    """Give the weights of parts the precision and the name of a variant."""
    for part in parts:
        (path,) = (folder / part).glob("*.safetensors")
        save_file({name: value.to(HALF[variant]) for name, value in load_file(path).items()}, path)
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def in_shards(
    folder: Path, variant: str = "", spelling: str = "{stem}.safetensors.index.json", old: bool = False
) -> None:
    """Split the only weights of a part into two files with an index."""
    (path,) = folder.glob("*.safetensors")
    tensors, stem = load_file(path), path.name.partition(".")[0]
    mark, half = f".{variant}" if variant else "", len(tensors) // 2
    names, places = sorted(tensors), {}
    for number, some in enumerate((names[:half], names[half:]), 1):
        where = f"-0000{number}-of-00002"
        file = f"{stem}{where}{mark}.safetensors" if old else f"{stem}{mark}{where}.safetensors"
        save_file({name: tensors[name] for name in some}, folder / file)
        places |= dict.fromkeys(some, file)
    path.unlink()
    (folder / spelling.format(stem=stem, v=variant)).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def picture(folder: Path) -> np.ndarray:
    (drawn,) = generate("a dog", str(folder), weights="none", num_inference_steps=2)
    return np.asarray(drawn, np.int16)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "fp32"])
def test_a_folder_with_nothing_but_a_variant_draws_nearly_the_same(variant: str, model: Path, sd1_folder: Path) -> None:
    as_variant(model, variant)
    assert check(model) is None
    assert np.abs(picture(model) - picture(sd1_folder)).mean() < 3


@pytest.mark.parametrize("old", [False, True], ids=["new shards", "old shards"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_shards_of_a_variant_are_read_by_each_spelling_of_their_index(
    spelling: str, old: bool, model: Path, sd1_folder: Path
) -> None:
    as_variant(model, "fp16")
    in_shards(model / "unet", "fp16", spelling, old)
    in_shards(model / "text_encoder", "fp16", spelling, old)
    assert len(weight_files(model / "unet")) == len(weight_files(model / "text_encoder")) == 2
    assert np.abs(picture(model) - picture(sd1_folder)).mean() < 3


def test_what_stock_diffusers_saves_as_a_variant_is_read(sd1_folder: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(sd1_folder, torch_dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "model", variant="fp16", max_shard_size="200KB")
    assert len(weight_files(tmp_path / "model" / "unet")) > 1 and check(tmp_path / "model") is None


def test_plain_files_come_first_and_then_fp16(model: Path) -> None:
    unet, plain = model / "unet", model / "unet" / f"{UNET}.safetensors"
    for variant in HALF:
        shutil.copy(plain, unet / f"{UNET}.{variant}.safetensors")
    shutil.copy(plain, unet / f"{UNET}.non_ema.safetensors")
    assert weight_files(unet) == [plain]
    plain.unlink()
    assert weight_files(unet) == [unet / f"{UNET}.fp16.safetensors"]
    (unet / f"{UNET}.fp16.safetensors").unlink()
    assert weight_files(unet) == [unet / f"{UNET}.fp32.safetensors"]


@pytest.mark.parametrize("pickle", [f"{UNET}.bin", f"{UNET}.fp16.bin", "pytorch_model.bin", "model.ckpt"])
def test_no_pickle_is_named_where_safe_weights_lie_beside_it(pickle: str, model: Path) -> None:
    as_variant(model, "fp16")
    (model / "unet" / pickle).write_bytes(b"")
    assert check(model) is None
    (model / "unet" / f"{UNET}.fp16.safetensors").rename(model / "unet" / f"{UNET}.non_ema.safetensors")
    with pytest.raises(
        EdgeSdkError, match=rf"^[^\n]*unet has no safetensors weights [^\n]*{UNET}\.non_ema[^\n]*$"
    ) as error:
        check(model)
    assert "is a pickle" not in str(error.value)


@pytest.mark.parametrize("command", ["quantize", "export"])
def test_what_is_made_of_a_variant_works_without_it(command: str, model: Path, tmp_path: Path) -> None:
    as_variant(model, "fp16", ("unet", "vae"))
    out = tmp_path / "out"
    words = [command, "--pretrained_model_name_or_path", str(model), "--output_dir", str(out), "--quiet"]
    assert main(words) == 0 and not any("fp16" in path.name for path in out.rglob("*"))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.json"], None),
        (["model.fp16.safetensors"], "model.fp16.safetensors"),
        (["model.fp16.safetensors", "model.safetensors.index.json"], "model.safetensors.index.json"),
        (["model.safetensors.index.fp16.json"], "model.safetensors.index.fp16.json"),
        (["model.ema.safetensors", "pytorch_model.bin"], None),
        (["openvino_model.xml", "model.onnx", "flax_model.msgpack"], None),
    ],
    ids=str,
)
def test_a_part_is_read_by_one_file(names: list[str], chosen: str | None) -> None:
    assert chosen_name(names) == chosen and (chosen is None or is_index(chosen) == chosen.endswith(".json"))


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        ("", ["model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]),
        (
            "fp16",
            [
                "model.fp16.safetensors",
                "model.fp16-00001-of-00002.safetensors",
                "model-00001-of-00002.fp16.safetensors",
                *(spelling.format(stem=UNET, v="fp16") for spelling in SPELLINGS),
            ],
        ),
    ],
    ids=["plain", "fp16"],
)
def test_a_variants_patterns_match_its_files_only(variant: str, wanted: list[str]) -> None:
    others = ["model.bin", "model.bf16.safetensors", "model.non_ema.safetensors", "model.fp16.bin", "model.onnx"]
    others += ["model.fp16.safetensors"] if not variant else ["model.safetensors", "model-00001-of-00002.safetensors"]
    kept = [name for name in [*wanted, *others] if any(fnmatch.fnmatch(name, each) for each in patterns(variant))]
    assert kept == wanted


class Hub:
    """Stands for the hub: a repository that is a folder, of which files are copied by patterns, as its client does."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache, self.calls = repository, cache, 0

    def snapshot_download(self, _: str, allow_patterns: list[str], local_files_only: bool = False, **more: Any) -> str:
        assert not more and not local_files_only
        self.calls += 1
        files = [str(path.relative_to(self.repository)) for path in self.repository.rglob("*") if path.is_file()]
        for name in filter_repo_objects(files, allow_patterns=allow_patterns):
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repository / name, self.cache / name)
        return str(self.cache)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(model, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(privacy, "_offline_by_us", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    return made


@pytest.mark.parametrize("kind", ["plain and fp16", "fp16", "bf16 in one part", "fp16 shards"])
def test_a_hub_id_brings_the_weights_that_there_are_and_no_others(kind: str, hub: Hub) -> None:
    unet = hub.repository / "unet"
    (unet / f"{UNET}.bin").write_bytes(b"")
    shutil.copy(unet / f"{UNET}.safetensors", unet / f"{UNET}.non_ema.safetensors")
    if kind == "plain and fp16":
        shutil.copy(unet / f"{UNET}.safetensors", unet / f"{UNET}.fp16.safetensors")
        expected = {f"{UNET}.safetensors"}
    else:
        (unet / f"{UNET}.non_ema.safetensors").unlink()
        as_variant(hub.repository, kind.split()[0], ("unet",) if "one part" in kind else PARTS)
        if "shards" in kind:
            in_shards(unet, "fp16", SPELLINGS[0])
        expected = {path.name for path in unet.glob("*.safetensors")}
    folder = find("hub:org/name")
    assert {path.name for path in (folder / "unet").glob("*.safetensors")} == expected
    assert check(folder) is None and not list(folder.rglob("*.bin"))
    assert hub.calls == {"plain and fp16": 1, "bf16 in one part": 4}.get(kind, 2)


@pytest.fixture(params=["plain", "fp16"])
def cached(request: pytest.FixtureRequest, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model as the hub's client keeps it, links from a snapshot to blobs; the client is offline."""
    if request.param == "fp16":
        as_variant(model, "fp16")
    root, commit = tmp_path / "hub" / "models--org--name", "0" * 40
    for number, path in enumerate(path for path in sorted(model.rglob("*")) if path.is_file()):
        blob, place = root / "blobs" / f"{number:040x}", root / "snapshots" / commit / path.relative_to(model)
        for folder in (blob.parent, place.parent):
            folder.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        place.symlink_to(os.path.relpath(blob, place.parent))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(privacy, "_offline_by_us", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return root / "snapshots" / commit


def test_a_model_in_the_hubs_cache_is_found_by_its_id_without_the_network(cached: Path) -> None:
    assert find("hub:org/name") == cached and check(cached) is None
    assert picture(cached).shape == (16, 16, 3)
    with pytest.raises(EdgeSdkError, match=r"^org/other is not among the models that were downloaded before[^\n]*$"):
        find("hub:org/other")


def test_what_is_made_from_the_hubs_cache_holds_no_links(cached: Path, tmp_path: Path) -> None:
    words = ["quantize", "--pretrained_model_name_or_path", str(cached), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 0
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()] == []
    assert picture_of_integers(tmp_path / "out").shape == (16, 16, 3)


def picture_of_integers(folder: Path) -> np.ndarray:
    (drawn,) = generate("a dog", str(folder), residency="streamed", num_inference_steps=1)
    return np.asarray(drawn)


def test_the_parts_of_a_variant_are_the_numbers_that_diffusers_reads(model: Path) -> None:
    from edge_sdk.runtime.pytorch.model import open_model

    as_variant(model, "fp16")
    opened = open_model(str(model), "none")
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        stock = kind.from_pretrained(model / part, variant="fp16").float().state_dict()
        for name, value in opened.load(part).state_dict().items():
            assert torch.equal(value, stock[name]), name
