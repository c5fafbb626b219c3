"""A single-file checkpoint is the model of the folder with its weights, or refused in a line that says how to go on."""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from edge_sdk import quantize
from edge_sdk.diffusion.tokenizer import ClipTokenizer, load_tokenizer, padding_word
from edge_sdk.diffusion.vocabulary import write_tokenizer
from edge_sdk.errors import EdgeSdkError
from edge_sdk.export.bundle import export
from edge_sdk.export.verify import verify
from edge_sdk.generation import generate
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.pytorch.model import open_model
from tests import single_files
from tests.cli.test_main import call, refused

HALVES = ("2.x", "ssd-1b")  # in float16
Pairs = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """A folder and a single file, by family."""
    base = tmp_path_factory.mktemp("single-files")

    @functools.cache
    def pair(family: str) -> tuple[Path, Path]:
        dtype = torch.float16 if family in HALVES else torch.float32
        return single_files.build(base / family.replace(".", ""), family, dtype)

    return pair


def header_of(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def write_zeros(path: Path, header: dict[str, Any]) -> Path:
    """A file of this header's tensors and metadata; all numbers are zero and take no space."""
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            count = int(np.prod(entry["shape"]))
            size = count * {"F32": 4, "F16": 2, "I64": 8, "F8_E4M3": 1}[entry["dtype"]]
            entry["data_offsets"], end = [end, end + size], end + size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def program_of(line: str) -> str:
    """The program of the command at the end of a line."""
    words = shlex.split(line[line.index("python -c") :])
    assert words[:2] == ["python", "-c"] and len(words) == 3
    return words[2]


@pytest.mark.parametrize("family", ["1.x", "2.x", "XL"])
def test_diffusers_makes_the_folder_of_the_file(family: str, pair_of: Pairs) -> None:
    folder, path = pair_of(family)
    tensors = load_file(path)
    for part, convert in (
        ("unet", single_file_utils.convert_ldm_unet_checkpoint),
        ("vae", single_file_utils.convert_ldm_vae_checkpoint),
    ):
        config = json.loads((folder / part / "config.json").read_text())
        converted = convert(dict(tensors), config=config)
        expected = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        assert set(expected) == set(converted)
        assert all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", single_files.FAMILIES)
def test_every_tensor_and_config_is_the_folders(family: str, pair_of: Pairs) -> None:
    folder, path = pair_of(family)
    one, other = open_model(str(folder), "none"), open_model(str(path), "none")
    assert one.parts == other.parts and one.load_schedule() == other.load_schedule()
    for part in one.parts:
        expected, own = one.load(part), other.load(part)
        ours, theirs = (vars(module.config) | {"sample_size": 0} for module in (own, expected))
        assert {name: ours[name] for name in ours if not name.endswith("blocks")} == {
            name: theirs[name] for name in theirs if not name.endswith("blocks")
        }
        tensors = own.state_dict()
        assert set(tensors) == set(expected.state_dict())
        assert all(torch.equal(tensors[name], value) for name, value in expected.state_dict().items())
    assert not list(other.folder.rglob("*.safetensors")) and other.label == path.stem


@pytest.mark.parametrize("family", ["1.x", "2.x", "XL"])
@pytest.mark.parametrize("weights", ["int8", "none"])
def test_pictures_are_the_folders(family: str, weights: str, pair_of: Pairs) -> None:
    pictures = [
        np.asarray(generate("a photo of a dog", str(model), weights=weights, num_inference_steps=2, resolution=32)[0])
        for model in pair_of(family)
    ]
    assert (pictures[0] == pictures[1]).all() and pictures[0].std() > 1


@pytest.mark.parametrize(("family", "weights"), [("XL", "int4"), ("bk-sdm", "int8")])
def test_an_integer_checkpoint_of_it_is_the_folders(family: str, weights: str, pair_of: Pairs, tmp_path: Path) -> None:
    checkpoints = [tmp_path / "of-folder", tmp_path / "of-file"]
    for model, checkpoint in zip(pair_of(family), checkpoints, strict=True):
        quantize(str(model), checkpoint, weights)
    parts = sorted(path.parent.name for path in checkpoints[0].rglob("integer_model.safetensors"))
    assert len(parts) == (4 if family == "XL" else 3)
    for part in parts:
        expected, own = (load_file(folder / part / "integer_model.safetensors") for folder in checkpoints)
        assert set(expected) == set(own) and all(torch.equal(own[name], expected[name]) for name in expected)
    assert open_model(str(checkpoints[1]), weights).load_text().tokenize(["a dog"]).shape[1] in (77, 154)


def test_a_token_that_is_learned_on_it_is_the_folders(pair_of: Pairs, photos: Path, tmp_path: Path) -> None:
    few = {"initializer_token": "dog", "max_train_steps": 1, "eval_draws": 2, "preview": False, "resolution": 32}
    for i, model in enumerate(pair_of("2.x")):
        run_personalization(photos, tmp_path / str(i), str(model), **few)
    expected, own = (load_file(tmp_path / str(i) / "learned_embeds.safetensors")["<subject>"] for i in range(2))
    assert torch.equal(own, expected)
    assert json.loads((tmp_path / "1/run.json").read_text())["model"] == "2x"


def test_a_bundle_of_it_computes_what_pytorch_does(pair_of: Pairs, tmp_path: Path) -> None:
    path = pair_of("bk-sdm")[1]
    manifest = export(str(path), tmp_path / "bundle", weights="int8", resolution=32)
    assert manifest["model"]["name"] == path.stem and manifest["prediction_type"] == "epsilon"
    assert all(outcome.good for outcome in verify(tmp_path / "bundle"))


def test_what_identifies_it_is_its_bytes_and_how_it_is_read(pair_of: Pairs, tmp_path: Path) -> None:
    path = pair_of("1.x")[1]
    other = tmp_path / "renamed.safetensors"
    other.write_bytes(path.read_bytes())
    first = open_model(str(path)).fingerprint()
    assert open_model(str(other)).fingerprint() == first
    assert open_model(str(path), prediction_type="v_prediction").fingerprint() != first
    with open(other, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    assert open_model(str(other)).fingerprint() != first


PREDICTIONS: dict[str, tuple[str, dict[str, str], tuple[str, ...], str | None, str]] = {
    "1.x": ("1.x", {}, (), None, "epsilon"),
    "1.x, chosen": ("1.x", {}, (), "v_prediction", "v_prediction"),
    "2.x": ("2.x", {}, (), None, "v_prediction"),
    "2.x, chosen": ("2.x", {}, (), "epsilon", "epsilon"),
    "2.x, stated": ("2.x", {"modelspec.prediction_type": "epsilon"}, (), None, "epsilon"),
    "2.x of 512 pixels": ("2.x", {"modelspec.architecture": "stable-diffusion-v2-512"}, (), None, "epsilon"),
    "1.x, stated": ("1.x", {"modelspec.prediction_type": "v"}, (), None, "v_prediction"),
    "XL": ("XL", {}, (), None, "epsilon"),
    "XL, marked": ("XL", {}, ("v_pred", "ztsnr"), None, "v_prediction"),
    "XL, marked, chosen": ("XL", {}, ("v_pred",), "epsilon", "epsilon"),
}


@pytest.mark.parametrize(("family", "metadata", "marks", "chosen", "kind"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_what_it_predicts_is_chosen_or_stated_or_usual_and_an_assumption_is_said(
    family: str,
    metadata: dict[str, str],
    marks: tuple[str, ...],
    chosen: str | None,
    kind: str,
    pair_of: Pairs,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    header = header_of(pair_of(family)[1]) | {mark: {"dtype": "F32", "shape": [0]} for mark in marks}
    header["__metadata__"] = {"modelspec.resolution": "640x640"} | metadata
    path = write_zeros(tmp_path / "model.safetensors", header)
    model = open_model(str(path), prediction_type=chosen)
    schedule = model.load_schedule()
    assert schedule.prediction_type == kind and model.resolution() == 640
    assert schedule.rescale_betas_zero_snr == ("ztsnr" in marks)
    is_assumed = family == "2.x" and not metadata and chosen is None
    assert [record.getMessage().count("--prediction_type epsilon") for record in caplog.records] == [1] * is_assumed


def test_a_folder_is_not_asked_what_it_predicts(pair_of: Pairs) -> None:
    with pytest.raises(
        EdgeSdkError, match=r"\Aprediction_type is given, and [^\n]*scheduler_config\.json; leave it out"
    ):
        open_model(str(pair_of("1.x")[0]), prediction_type="epsilon")
    with pytest.raises(EdgeSdkError, match="must be one of epsilon, v_prediction"):
        open_model(str(pair_of("1.x")[1]), prediction_type="flow")


UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer.text_model."


def without(*prefixes: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        for name in [name for name in header if name.startswith(prefixes)]:
            del header[name]

    return change


def with_shape(name: str, shape: list[int]) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(shape=shape)


def with_tensor(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.update({name: {"dtype": "F32", "shape": [4, 4, 1, 1]}})


def with_bytes(header: dict[str, Any]) -> None:
    header[f"{UNET}out.2.weight"]["dtype"] = "F8_E4M3"


def only(name: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header.clear()
        with_tensor(name)(header)

    return change


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "one tensor": (only(f"{UNET}input_blocks.0.0.weight"), "it holds no autoencoder"),
    "a LoRA": (only("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"), "it holds no denoiser"),
    "another transformer": (only(f"{UNET}joint_blocks.0.x_block.mlp.fc1.weight"), "it holds no denoiser"),
    "a component of a folder": (only("down_blocks.0.resnets.0.conv1.weight"), "give the folder with model_index.json"),
    "a denoiser alone": (without("first_stage_model.", "cond_stage_model."), "it holds no autoencoder"),
    "no text encoder": (without("cond_stage_model."), "it holds no text encoder"),
    "inpainting": (with_shape(f"{UNET}input_blocks.0.0.weight", [32, 9, 3, 3]), "9 channels, so it is an inpainting"),
    "editing": (with_shape(f"{UNET}input_blocks.0.0.weight", [32, 8, 3, 3]), "8 channels, so it is an image-editing"),
    "upscaling": (with_shape(f"{UNET}input_blocks.0.0.weight", [32, 7, 3, 3]), "7 channels, so it is an upscaler"),
    "EDM": (with_tensor("edm_vpred.sigma_max"), "its schedule is EDM's"),
    "Playground": (with_tensor("edm_mean"), "its schedule is EDM's"),
    "numbers of 8 bits": (with_bytes, "its unet has F8_E4M3 numbers"),
    "another vocabulary": (
        with_shape(f"{TEXT}embeddings.token_embedding.weight", [1000, 64]),
        "its text_encoder knows 1000 words",
    ),
    "a level with a tensor less": (without(f"{UNET}input_blocks.1.0.in_layers.2"), "tensors are missing"),
    "a matrix without columns": (with_shape(f"{UNET}out.2.weight", []), "tensors are missing or of another shape"),
    "a transformer in one layer of a level": (without(f"{UNET}input_blocks.1.1."), "only some layers of a level"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_another_file_is_refused_in_one_line_that_names_the_conversion(
    change: Callable[[dict[str, Any]], None], message: str, pair_of: Pairs, tmp_path: Path
) -> None:
    header = header_of(pair_of("1.x")[1])
    change(header)
    path = write_zeros(tmp_path / "model.safetensors", header)
    with pytest.raises(EdgeSdkError, match=re.escape(message)) as error:
        open_model(str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert f"P.from_single_file({str(path)!r}).save_pretrained" in program_of(str(error.value))


def test_a_name_of_dots_is_kept_apart_from_folders_above(pair_of: Pairs, tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "...safetensors", header_of(pair_of("1.x")[1]))
    assert open_model(str(path)).label == "model"


def test_a_refiner_is_named(pair_of: Pairs, tmp_path: Path) -> None:
    header = {
        name.replace("embedders.1.model", "embedders.0.model"): entry
        for name, entry in header_of(pair_of("XL")[1]).items()
        if "embedders.0." not in name
    }
    with pytest.raises(EdgeSdkError, match="it is SDXL's refiner; give the base model"):
        open_model(str(write_zeros(tmp_path / "refiner.safetensors", header)))


def test_a_file_that_is_cut_short_or_lacks_a_tensor_leaves_no_checkpoint(
    pair_of: Pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy = pair_of("1.x")[1], tmp_path / "model.safetensors"
    copy.write_bytes(path.read_bytes()[:-8])
    words = ["--pretrained_model_name_or_path", copy, "--output_dir", tmp_path / "q"]
    assert "cut short" in refused(capsys, "quantize", *words)
    header = header_of(path)
    del header["first_stage_model.decoder.conv_in.bias"]
    write_zeros(copy, header)
    assert "is missing" in refused(capsys, "quantize", *words) and not (tmp_path / "q/model_index.json").exists()


def test_a_single_file_that_is_not_there_is_not_looked_for_on_the_hub() -> None:
    for name in ("models/v1-5.safetensors", "v1-5.ckpt"):
        with pytest.raises(EdgeSdkError, match=rf"\Athere is no file {re.escape(name)}; give one that exists"):
            open_model(name)


@pytest.mark.parametrize("command", ["unlearn", "audit"])
def test_a_command_that_needs_a_folder_names_the_conversion(
    command: str, pair_of: Pairs, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = pair_of("1.x")[1], ["--forget_data_dir", photos, "--retain_data_dir", photos]
    words = {
        "unlearn": ["--pretrained_model_name_or_path", path, *data, "--output_dir", tmp_path / "out"],
        "audit": ["--before", path, "--after", path, *data, "--output_dir", tmp_path / "out"],
    }[command]
    line = refused(capsys, command, *words)
    assert "from_single_file" in line and str(path) in line


def test_pickles_are_refused_with_the_command_that_converts_them(
    pair_of: Pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, path = pair_of("bk-sdm")
    old = tmp_path / "it's mine.ckpt"
    torch.save({"state_dict": load_file(path), "global_step": 3, "epoch": 1}, old)
    words = ["--pretrained_model_name_or_path", old, "--prompt", "x", "--output", tmp_path / "x.png"]
    line = refused(capsys, "generate", *words)
    assert "is a pickle" in line and not (tmp_path / "x.png").exists()
    exec(program_of(line), {})
    converted = open_model(str(old.with_suffix(".safetensors")), "none").load("unet").state_dict()
    expected = open_model(str(folder), "none").load("unet").state_dict()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_nothing_is_left_of_it_when_a_command_ends(pair_of: Pairs, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    program = "import sys; from edge_sdk.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["quantize", "--pretrained_model_name_or_path", str(pair_of("1.x")[1]), "--output_dir", str(tmp_path / "q")]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_its_tokenizer_is_clips_own(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", "!")
    tokenizer = ClipTokenizer(load_tokenizer(tmp_path / "tokenizer"), 49408, 77, padding_word(tmp_path / "tokenizer"))
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (49406, 49407, 0)
    assert tokenizer.words("a photo of a cat") == [320, 1125, 539, 320, 2368]
    reference = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    for text in ("Zeppelin's \u00e9l\u00e9phant, 3.14!", "\u732b \U0001f600 <subject>", "antidisestablishmentarianism"):
        assert tokenizer.words(text) == reference(text, add_special_tokens=False).input_ids


def test_a_command_line_takes_what_it_predicts(pair_of: Pairs, tmp_path: Path) -> None:
    words = ["--pretrained_model_name_or_path", pair_of("2.x")[1], "--prompt", "a dog", "--num_inference_steps", 1]
    words += ["--resolution", 32, "--quiet"]
    for kind in ("epsilon", "v_prediction"):
        assert call("generate", *words, "--prediction_type", kind, "--output", tmp_path / f"{kind}.png") == 0
    assert (tmp_path / "epsilon.png").read_bytes() != (tmp_path / "v_prediction.png").read_bytes()
