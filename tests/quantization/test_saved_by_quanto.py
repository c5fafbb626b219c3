"""Folders that optimum-quanto has saved: qint8 is taken over integer by integer, everything else is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from optimum import quanto
from safetensors.torch import load_file
from transformers import CLIPTextModel

from edge_sdk import EdgeSdkError, Personalizer
from edge_sdk.integer_checkpoint import quantize
from edge_sdk.quantization import integer_layers
from edge_sdk.runtime.pytorch.model import open_model

KINDS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
QUICK = {"initializer_token": "dog", "max_train_steps": 2, "eval_draws": 2}


def save(source: Path, folder: Path, weights: str, parts: tuple[str, ...] = tuple(KINDS)) -> Path:
    """A copy of a diffusers folder, some parts of it quantized and saved by quanto itself."""
    shutil.copytree(source, folder)
    for part in parts:
        module = KINDS[part].from_pretrained(source / part)
        shutil.rmtree(folder / part)
        wrapper = quanto.QuantizedTransformersModel if part == "text_encoder" else quanto.QuantizedDiffusersModel
        wrapper.quantize(module, weights=getattr(quanto, weights)).save_pretrained(folder / part)
    return folder


@pytest.fixture(scope="module")
def saved(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(sd1_folder, tmp_path_factory.mktemp("quanto") / "qint8", "qint8")


@pytest.mark.parametrize("part", KINDS)
def test_qint8_weights_are_the_same_integers_and_scales(part: str, saved: Path) -> None:
    (file,) = (saved / part).glob("*.safetensors")
    tensors = load_file(file)
    layers = integer_layers(open_model(str(saved)).load(part))
    names = [name.removesuffix(".weight._data") for name in tensors if name.endswith("._data")]
    assert sorted(layers) == sorted(names)
    for name, layer in layers.items():
        assert torch.equal(layer.q, layer.as_matrix(tensors[f"{name}.weight._data"])), name
        assert torch.equal(layer.scale, tensors[f"{name}.weight._scale"].flatten()), name


def test_scales_that_are_not_the_largest_weight_over_127_are_kept(saved: Path, tmp_path: Path) -> None:
    """Quantizing the same numbers again would choose another scale, and other integers."""
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(saved, tmp_path / "halved"))
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    half = (tensors["conv_in.weight._data"] // 2).to(torch.int8)
    save_file(tensors | {"conv_in.weight._data": half}, file, {"format": "pt"})
    layer = integer_layers(open_model(str(folder)).load("unet"))["conv_in"]
    assert layer.q.abs().max() <= 64 and torch.equal(layer.q, layer.as_matrix(half))
    assert torch.equal(layer.scale, tensors["conv_in.weight._scale"].flatten())


def test_the_denoiser_computes_what_quanto_does(saved: Path, sd1_folder: Path) -> None:
    theirs = UNet2DConditionModel.from_pretrained(sd1_folder / "unet")
    quanto.quantize(theirs, weights=quanto.qint8)
    quanto.freeze(theirs)
    ours = open_model(str(saved), execution="fused").load("unet")
    x, t, hidden = torch.randn(2, 4, 8, 8), torch.tensor([5, 700]), torch.randn(2, 24, 32)
    with torch.inference_mode():
        assert torch.allclose(ours(x, t, hidden), theirs(x, t, hidden).sample, atol=1e-5)


def test_an_integer_checkpoint_can_be_made_of_it_and_learns_the_same(saved: Path, photos: Path, tmp_path: Path) -> None:
    record = quantize(str(saved), tmp_path / "made")
    assert record["weights"] == "int8" and record["integer_weights"] > 0
    runs = [
        [s.loss for s in Personalizer.from_pretrained(str(p)).fit(photos, **QUICK)] for p in (saved, tmp_path / "made")
    ]
    assert runs[0] == pytest.approx(runs[1], rel=1e-3)  # the embedding table of a checkpoint is float16


def test_one_part_may_be_quantos_and_the_others_float(sd1_folder: Path, tmp_path: Path) -> None:
    folder = save(sd1_folder, tmp_path / "mixed", "qint8", ("unet",))
    mixed, floats = open_model(str(folder)), open_model(str(sd1_folder))
    for name, layer in integer_layers(mixed.load("unet")).items():
        assert torch.equal(layer.q, integer_layers(floats.load("unet"))[name].q)
        break
    assert mixed.source("vae").integers == set() != mixed.source("unet").integers


@pytest.mark.parametrize("weights", ["qint4", "qint2", "qfloat8"])
def test_other_types_are_refused_in_one_line(weights: str, sd1_folder: Path, tmp_path: Path) -> None:
    folder = save(sd1_folder, tmp_path / weights, weights, ("unet",))
    with pytest.raises(EdgeSdkError, match=r"quanto in another type than qint8.*quantize the float model") as said:
        quantize(str(folder), tmp_path / "made")
    assert "\n" not in str(said.value) and not (tmp_path / "made").exists()


@pytest.mark.parametrize("weights", ["int4", "none"])
def test_other_weights_than_those_that_are_there_are_refused(weights: str, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match=f"saved by quanto as int8; ask for --weights int8, not {weights}"):
        open_model(str(saved), weights).load("unet")
    if weights == "int4":
        with pytest.raises(EdgeSdkError, match="ask for --weights int8"):
            quantize(str(saved), tmp_path / "made", weights)
        assert not (tmp_path / "made").exists()
