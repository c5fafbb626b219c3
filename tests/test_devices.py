"""Models run on the device that they are on: shown without a GPU on the meta device, and with one on CUDA.

What CUDA computes otherwise than a processor, its int8 product within narrow limits, runs here on a processor.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from edge_sdk.embedding import load_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.generation import generate
from edge_sdk.quantization import integer_form, kernels, native
from edge_sdk.run_folder import run_personalization
from edge_sdk.runtime.pytorch.generate import condition, denoise
from edge_sdk.runtime.pytorch.model import Model, open_model
from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective
from edge_sdk.runtime.pytorch.text import TextEncoder
from edge_sdk.zo import held_out_draws
from tests.cli.test_main import refused
from tests.quantization.watch import WeightWatch

CUDA = pytest.mark.cuda
WEIGHTS = pytest.mark.parametrize("weights", ["int8", "int4"])
EXECUTIONS = pytest.mark.parametrize("execution", ["integer", "fused"])
FAMILIES = pytest.mark.parametrize("family", ["sd1", "sd2", "pocket"])


@pytest.fixture
def opened(sd1_folder: Path, sd2_folder: Path) -> Callable[..., Model]:
    folders = {"sd1": str(sd1_folder), "sd2": str(sd2_folder), "pocket": "pocket"}
    return lambda family, *how, **named: open_model(folders[family], *how, **named)


class Elsewhere(TorchDispatchMode):
    """Notes every operator that makes a tensor on another device than the one that all are to be on."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.seen, self.elsewhere = device, 0, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.seen += 1
                self.elsewhere += [str(func)] * (tensor.device.type != self.device)
        return out


class Mixing(TorchDispatchMode):
    """Notes every operator that is given tensors on two devices, which CUDA allows for scalars and a few operators."""

    ALLOWED = ("aten.copy_.default", "aten._to_copy.default", "aten.index.Tensor")

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [a for a in tree_flatten((args, kwargs or {}))[0] if isinstance(a, torch.Tensor) and a.dim()]
        if len({tensor.device for tensor in given}) > 1 and str(func) not in self.ALLOWED:
            self.mixed.append(str(func))
        return func(*args, **(kwargs or {}))


@FAMILIES
@WEIGHTS
@EXECUTIONS
def test_every_part_stays_on_the_device_of_its_weights(
    family: str, weights: str, execution: str, opened: Callable[..., Model]
) -> None:
    model = opened(family, weights, execution)
    unet, vae, encoder = (
        integer_form(model.builder(part), model.weights_of(part), execution) for part in ("unet", "vae", "text_encoder")
    )
    config: Any = unet.config
    with torch.device("meta"):
        latents, ids, t = torch.ones(2, config.in_channels, 8, 8), torch.ones(2, 7).long(), torch.ones(2).long()
        learned, pixels = torch.ones(2, 1, encoder.config.hidden_size), torch.ones(2, 3, 16, 16)
    with torch.no_grad(), Elsewhere("meta") as watch:
        predicted = unet(latents, t, encoder(ids, learned))
        mean, std = vae.encode(pixels)
        decoded = vae.decode(mean * std)
    assert watch.elsewhere == [] and watch.seen > 1000
    assert predicted.shape == latents.shape and decoded.shape == pixels.shape


def test_bands_of_a_picture_stay_on_its_device(monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Model]) -> None:
    monkeypatch.setattr("edge_sdk.diffusion.networks.vae.WHOLE_ELEMENTS", 0)
    vae = integer_form(opened("sd1").builder("vae"), "int8", "integer")
    vae.encoder.in_bands = True
    with torch.no_grad(), Elsewhere("meta") as watch:
        vae.encode(torch.ones(1, 3, 32, 32, device="meta"))
    assert watch.elsewhere == [] and watch.seen > 300


@pytest.fixture
def on_meta(opened: Callable[..., Model]) -> tuple[TextEncoder, Any, Model]:
    model = opened("sd1")
    text = TextEncoder.from_folder(
        model.folder / "tokenizer", integer_form(model.builder("text_encoder"), "int8", "integer")
    )
    return text, integer_form(model.builder("unet"), "int8", "integer"), model


def test_a_loss_is_computed_where_the_model_is(on_meta: tuple[TextEncoder, Any, Model]) -> None:
    text, unet, model = on_meta
    latents = torch.ones(3, 4, 8, 8, device="meta")
    ids = text.tokenize(["a photo of a <dog>", "the <dog>"], {"<dog>": 1})
    objective = StableDiffusionObjective(text, unet, model.load_schedule(), Latents(latents, latents), ids, 1)
    draws = held_out_draws(objective, 0, 4, (0, 1000))
    with torch.no_grad(), Mixing() as watch:
        loss = objective.loss(torch.ones(4, 1, text.width), draws)
    assert watch.mixed == [] and loss.device.type == "meta" and loss.shape == (4,)


def test_a_picture_is_drawn_where_the_model_is(on_meta: tuple[TextEncoder, Any, Model]) -> None:
    text, unet, model = on_meta
    with Mixing() as watch:
        states = condition(text, ["a dog", "a cat"], "", [])
        latents = denoise(unet, model.load_schedule(), *states, np.ones((2, 4, 8, 8), np.float32), 3, 4.0)
    assert watch.mixed == [] and latents.device.type == "meta" and latents.shape == (2, 4, 8, 8)


SHAPES = [(1, 1, 1), (2, 36, 4), (16, 64, 32), (17, 33, 9), (31, 16, 24), (32, 48, 16), (50, 100, 40)]


class WithinCudasLimits(TorchDispatchMode):
    """Fails where CUDA's int8 product does: 16 rows or fewer, unaligned sizes, weights that are not transposed."""

    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._int_mm.default:
            a, b = args
            assert len(a) > 16 and a.shape[1] % 8 == 0 and b.shape[1] % 8 == 0 and a.is_contiguous(), (a.shape, b.shape)
            assert b.stride(0) == 1 and b.stride(1) % 8 == 0, b.stride()
            self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("m", "k", "n"), SHAPES, ids=str)
def test_a_padded_product_is_the_product(m: int, k: int, n: int) -> None:
    generator = torch.Generator().manual_seed(m * k * n)
    columns, weight = (torch.randint(-128, 128, s, generator=generator, dtype=torch.int8) for s in ((m, k), (n, k)))
    with WithinCudasLimits() as limits:
        out = kernels.padded_matmul(columns, weight)
    assert limits.calls == 1 and out.dtype == torch.int32
    assert (out.long() == columns.long() @ weight.long().t()).all()


def test_weights_whose_sizes_fit_are_not_copied() -> None:
    weight = torch.ones(64, 48, dtype=torch.int8)
    assert kernels._filled_up(weight, 1, kernels.CUDA_ALIGNMENT) is weight


def test_on_cuda_the_product_is_the_padded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "padded_matmul", lambda columns, weight: "padded")
    monkeypatch.setattr(kernels, "tiled_matmul", lambda columns, weight: "tiled")
    with FakeTensorMode():
        operands = [torch.ones(size, dtype=torch.int8, device="cuda") for size in ((2, 36), (4, 36))]
    for capability, way in (((7, 0), "tiled"), ((7, 5), "padded"), ((9, 0), "padded")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert kernels.integer_matmul(*operands) == way
    assert not kernels.has_int8_dot(torch.device("meta"))


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The products that a GPU runs, on this processor."""
    monkeypatch.setattr(kernels, "integer_matmul", kernels.padded_matmul)
    monkeypatch.setattr(native, "library", lambda: None)
    yield


@FAMILIES
@WEIGHTS
def test_a_denoiser_is_the_same_with_the_products_of_a_gpu(
    family: str, weights: str, opened: Callable[..., Model], request: pytest.FixtureRequest
) -> None:
    unet = opened(family, weights).load("unet")
    config: Any = unet.config
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, config.in_channels, 6, 10, generator=generator)
    hidden = torch.randn(1, 7, config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        expected = unet(latents, torch.tensor(500), hidden)
        request.getfixturevalue("as_on_cuda")
        with WithinCudasLimits() as limits, WeightWatch(unet) as watch:
            found = unet(latents, torch.tensor(500), hidden)
    assert limits.calls > 50 and watch.violations == []
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_one_line(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = {
        "personalize": ["--train_data_dir", photos, "--output_dir", tmp_path / "run"],
        "generate": ["--prompt", "a person", "--output", tmp_path / "a.png"],
        "demo": ["--output_dir", tmp_path / "demo", "--quiet"],
    }
    for command, arguments in commands.items():
        said = refused(capsys, command, *arguments, "--device", "cuda")
        assert "finds no GPU" in said and "--device cpu" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("residency", ["mapped", "streamed"])
def test_weights_in_a_file_are_refused_on_cuda(residency: str) -> None:
    with pytest.raises(EdgeSdkError, match=f"resident weights only, not {residency}"):
        open_model("pocket", residency=residency, device="cuda")


def test_the_record_names_the_device(tmp_path: Path) -> None:
    record = run_personalization(
        "edge_sdk/pocket/photos", tmp_path / "run", max_train_steps=1, eval_draws=2, preview=False
    )
    assert record["device"] == record["config"]["device"] == "cpu" and "peak_cuda_mb" not in record


@CUDA
@FAMILIES
@WEIGHTS
@EXECUTIONS
def test_cuda_computes_what_the_processor_does(
    family: str, weights: str, execution: str, opened: Callable[..., Model]
) -> None:
    there = opened(family, weights, execution, device="cuda")
    here = opened(family, weights, execution)
    config: Any = here.builder("unet")().config
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, config.in_channels, 6, 10, generator=generator)
    hidden = torch.randn(1, 7, config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        expected = here.load("unet")(latents, torch.tensor(500), hidden)
        unet = there.load("unet")
        with WeightWatch(unet) as watch:
            found = unet(latents.cuda(), torch.tensor(500).cuda(), hidden.cuda())
    assert found.is_cuda and watch.violations == [] and watch.tensors_seen > 100
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@CUDA
@pytest.mark.parametrize(("m", "k", "n"), SHAPES, ids=str)
def test_cudas_product_is_exact(m: int, k: int, n: int) -> None:
    columns, weight = (torch.randint(-128, 128, s, dtype=torch.int8) for s in ((m, k), (n, k)))
    for product in (kernels.padded_matmul, kernels.tiled_matmul):
        assert (product(columns.cuda(), weight.cuda()).cpu().long() == columns.long() @ weight.long().t()).all()


@CUDA
def test_a_run_on_cuda_learns_what_a_run_on_the_processor_does(tmp_path: Path) -> None:
    records = {
        device: run_personalization("edge_sdk/pocket/photos", tmp_path / device, max_train_steps=4, device=device)
        for device in ("cpu", "cuda")
    }
    record = json.loads((tmp_path / "cuda" / "run.json").read_text())
    assert record["device"] == "cuda" and 0 < record["peak_cuda_mb"]["allocated"] <= record["peak_cuda_mb"]["reserved"]
    for loss in ("loss_initial", "loss_final"):
        np.testing.assert_allclose(records["cuda"][loss], records["cpu"][loss], rtol=1e-3)
    here, there = (load_embedding(tmp_path / device / "learned_embeds.safetensors") for device in records)
    np.testing.assert_allclose(there.vectors, here.vectors, atol=2e-3)
    assert (tmp_path / "cuda" / "preview.png").exists()


@CUDA
def test_the_same_seed_draws_the_same_picture_on_cuda() -> None:
    here, there = (
        np.asarray(generate("a person", num_inference_steps=4, device=device)[0], float) for device in ("cpu", "cuda")
    )
    assert np.abs(here - there).mean() < 3
