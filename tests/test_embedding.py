"""The learned file: one tensor that stock diffusers reads, and nothing else is read back."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge_sdk.embedding import MAX_BYTES, LearnedEmbedding, load_embedding, save_a1111, save_embedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.runtime.pytorch.model import open_model

TOKEN = "<subject>"


def vectors(count: int, width: int = 32) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_embedding_comes_back_exactly(count: int, tmp_path: Path) -> None:
    path, metadata = tmp_path / "learned_embeds.safetensors", {"model": "pocket", "steps": "400"}
    save_embedding(path, LearnedEmbedding(TOKEN, vectors(count), metadata))
    learned = load_embedding(path)
    assert learned.token == TOKEN and learned.metadata.items() >= metadata.items()
    assert learned.vectors.dtype == np.float32 and np.array_equal(learned.vectors, vectors(count))


def test_the_file_holds_one_tensor_under_the_token_and_metadata_of_strings(tmp_path: Path) -> None:
    save_embedding(tmp_path / "a.safetensors", LearnedEmbedding(TOKEN, vectors(2), {"model": "pocket"}))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.keys()) == [TOKEN]
        assert file.get_tensor(TOKEN).dtype == torch.float32 and file.get_tensor(TOKEN).shape == (2, 32)
        assert file.metadata() == {"format": "pt", "model": "pocket"}


def ours(folder: Path, prompt: str, learned: LearnedEmbedding) -> torch.Tensor:
    """The hidden states of a prompt as this package computes them, (1, T, D)."""
    text = open_model(str(folder), "none").load_text()
    ids = text.tokenize([prompt], {learned.token: len(learned.vectors)})
    return text.encode(ids, torch.from_numpy(learned.vectors)[None])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("prompt", ["a photo of {}", "the {} , a good picture of my {}"], ids=["once", "twice"])
@pytest.mark.parametrize("save", [save_embedding, save_a1111], ids=["diffusers form", "web UI form"])
def test_stock_diffusers_computes_the_same_prompt_embeddings(save, prompt, count, sd1_folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path, learned = tmp_path / "learned_embeds.safetensors", LearnedEmbedding(TOKEN, vectors(count))
    save(path, learned)
    pipeline = StableDiffusionPipeline.from_pretrained(sd1_folder)
    pipeline.load_textual_inversion(path, token=TOKEN, use_safetensors=True)
    with torch.inference_mode():
        stock, _ = pipeline.encode_prompt(prompt.replace("{}", TOKEN), "cpu", 1, False)
        expected = ours(sd1_folder, prompt.replace("{}", TOKEN), learned)
        other = ours(sd1_folder, prompt.replace("{}", TOKEN), LearnedEmbedding(TOKEN, -vectors(count)))
    torch.testing.assert_close(stock, expected, rtol=1e-5, atol=1e-5)
    assert (stock - other).abs().max() > 0.1  # the vectors matter


def test_stock_diffusers_takes_the_token_from_the_file(sd1_folder: Path, tmp_path: Path) -> None:
    save_embedding(tmp_path / "a.safetensors", LearnedEmbedding(TOKEN, vectors(1)))
    pipeline = StableDiffusionPipeline.from_pretrained(sd1_folder)
    pipeline.load_textual_inversion(tmp_path / "a.safetensors", use_safetensors=True)
    row = pipeline.text_encoder.get_input_embeddings().weight[pipeline.tokenizer.convert_tokens_to_ids(TOKEN)]
    assert torch.equal(row, torch.from_numpy(vectors(1)[0]))


def test_the_web_ui_form_takes_its_trigger_word_from_the_file_name(tmp_path: Path) -> None:
    save_a1111(tmp_path / "my_mug.safetensors", LearnedEmbedding(TOKEN, vectors(2)))
    with safe_open(tmp_path / "my_mug.safetensors", "pt") as file:
        assert list(file.keys()) == ["emb_params"]
    learned = load_embedding(tmp_path / "my_mug.safetensors")
    assert learned.token == "my_mug" and np.array_equal(learned.vectors, vectors(2))


def for_xl(count: int) -> LearnedEmbedding:
    return LearnedEmbedding(TOKEN, vectors(count, 80), {"model": "sdxl"}, (32, 48))


@pytest.mark.parametrize("save", [save_embedding, save_a1111], ids=["diffusers form", "web UI form"])
def test_an_embedding_for_sdxl_is_two_tensors_with_its_token_in_the_metadata(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path / "mug.safetensors", for_xl(2))
    with safe_open(tmp_path / "mug.safetensors", "pt") as file:
        assert {key: tuple(file.get_tensor(key).shape) for key in file.keys()} == {"clip_l": (2, 32), "clip_g": (2, 48)}  # noqa: SIM118
        assert file.metadata() == {"format": "pt", "model": "sdxl", "placeholder_token": TOKEN}
    learned = load_embedding(tmp_path / "mug.safetensors")
    assert learned.token == TOKEN and learned.widths == (32, 48) and np.array_equal(learned.vectors, vectors(2, 80))
    assert load_embedding(tmp_path / "mug.safetensors").metadata["model"] == "sdxl"


def test_an_embedding_for_sdxl_of_another_program_has_the_name_of_its_file(tmp_path: Path) -> None:
    tensors = {"clip_g": torch.ones(1, 48), "clip_l": torch.zeros(1, 32)}
    save_file(tensors, tmp_path / "mug.safetensors")
    learned = load_embedding(tmp_path / "mug.safetensors")
    assert learned.token == "mug" and learned.widths == (32, 48)
    assert (learned.vectors == np.repeat([0, 1], [32, 48])).all()


@pytest.mark.parametrize("count", [1, 2])
def test_stock_diffusers_loads_the_two_tensors_of_sdxl(count: int, sdxl_folder: Path, tmp_path: Path) -> None:
    save_embedding(tmp_path / "a.safetensors", for_xl(count))
    pipe, state = StableDiffusionXLPipeline.from_pretrained(sdxl_folder), load_file(tmp_path / "a.safetensors")
    pipe.load_textual_inversion(state["clip_l"], token=TOKEN, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion(
        state["clip_g"], token=TOKEN, text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
    )
    text, prompt = open_model(str(sdxl_folder), "none").load_text(), f"a photo of {TOKEN}"
    with torch.inference_mode():
        hidden, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        ids = text.tokenize([prompt], {TOKEN: count})
        found = text.condition(ids, torch.from_numpy(vectors(count, 80))[None], torch.zeros(1, 6))
    assert found.added is not None
    torch.testing.assert_close(found.hidden, hidden, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.added[0], pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_float_types_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.from_numpy(vectors(2)).to(dtype)
    save_file({TOKEN: tensor}, tmp_path / "a.safetensors")
    learned = load_embedding(tmp_path / "a.safetensors")
    assert learned.vectors.dtype == np.float32 and np.array_equal(learned.vectors, tensor.float().numpy())


def test_a_single_vector_without_its_first_axis_is_read(tmp_path: Path) -> None:
    save_file({TOKEN: torch.from_numpy(vectors(1)[0])}, tmp_path / "a.safetensors")
    assert np.array_equal(load_embedding(tmp_path / "a.safetensors").vectors, vectors(1))


REFUSED = {
    "two tensors": ({TOKEN: torch.ones(1, 4), "b": torch.ones(1, 4)}, "holds 2 tensors"),
    "no tensor": ({}, "holds 0 tensors"),
    "three axes": ({TOKEN: torch.ones(1, 1, 4)}, r"must hold a \(K, D\) tensor"),
    "no axis": ({TOKEN: torch.tensor(1.0)}, r"must hold a \(K, D\) tensor"),
    "no vector": ({TOKEN: torch.ones(0, 4)}, r"must hold a \(K, D\) tensor"),
    "NaN": ({TOKEN: torch.full((1, 4), torch.nan)}, "finite"),
    "infinity in float16": ({TOKEN: torch.full((1, 4), torch.inf).half()}, "finite"),
    "NaN in bfloat16": ({TOKEN: torch.full((1, 4), torch.nan).bfloat16()}, "finite"),
    "integers": ({TOKEN: torch.ones(1, 4, dtype=torch.int32)}, "I32 values; an embedding holds floats"),
    "empty token": ({"": torch.ones(1, 4)}, "token"),
    "parts of different length": ({"clip_l": torch.ones(1, 4), "clip_g": torch.ones(2, 4)}, "holds 1 and 2 vectors"),
    "a part that is not finite": ({"clip_l": torch.ones(1, 4), "clip_g": torch.full((1, 4), torch.nan)}, "finite"),
    "a part of integers": ({"clip_l": torch.ones(1, 4), "clip_g": torch.ones(1, 4, dtype=torch.int32)}, "I32 values"),
    "three parts": (
        {"clip_l": torch.ones(1, 4), "clip_g": torch.ones(1, 4), "t5": torch.ones(1, 4)},
        "holds 3 tensors",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_embedding_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    tensors, message = REFUSED[case]
    path = tmp_path / "e.safetensors"
    save_file(tensors, path)
    with pytest.raises(EdgeSdkError, match=rf"^{re.escape(str(path))} [^\n]*{message}[^\n]*$"):
        load_embedding(path)


@pytest.mark.parametrize("token", ["<a>\n<b>", "<a>\x1b[31m", "\u202e<a>", " "], ids=ascii)
def test_a_token_that_a_terminal_would_not_show_is_refused(token: str, tmp_path: Path) -> None:
    save_file({token: torch.zeros(1, 4)}, tmp_path / "a.safetensors")
    with pytest.raises(EdgeSdkError, match=r"^[^\n\x1b]*must be the placeholder token, of printable characters$"):
        load_embedding(tmp_path / "a.safetensors")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_unopened(suffix: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / f"a{suffix}").write_bytes(b"cos\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR.")
    with pytest.raises(EdgeSdkError, match=r"\A[^\n]* is a pickle, [^\n]* convert it [^\n]*: python -c \"[^\n\"]*\"\Z"):
        load_embedding(tmp_path / f"a{suffix}")
    assert not ran.exists()


PICKLES: dict[str, tuple[str, Callable[[torch.Tensor], Any], str, tuple[int, ...]]] = {
    "diffusers": ("a.bin", lambda x: {"<cat-toy>": x}, "<cat-toy>", (32,)),
    "one vector": ("a.bin", lambda x: {"<cat-toy>": x[0]}, "<cat-toy>", (32,)),
    "a web UI's": (
        "it's my $cat.pt",
        lambda x: {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": x.requires_grad_()},
            "name": "cat",
            "step": 9,
        },
        "it's my $cat",
        (32,),
    ),
    "SDXL's": ("a.PT", lambda x: {"clip_l": x, "clip_g": torch.cat([x, x], dim=1)}, "a", (32, 64)),
}


@pytest.mark.parametrize(("name", "content", "token", "widths"), PICKLES.values(), ids=PICKLES)
def test_the_command_that_a_refusal_names_converts_a_pickle(
    name: str, content: Callable[[torch.Tensor], Any], token: str, widths: tuple[int, ...], tmp_path: Path
) -> None:
    vectors = torch.arange(64.0).reshape(2, 32)
    torch.save(content(vectors), tmp_path / name)
    with pytest.raises(EdgeSdkError) as error:
        load_embedding(tmp_path / name)
    words = shlex.split(str(error.value).partition("give that: ")[2])
    assert words[:2] == ["python", "-c"] and len(words) == 3
    exec(words[2], {})
    embedding = load_embedding((tmp_path / name).with_suffix(".safetensors"))
    assert embedding.token == token and embedding.widths == widths
    assert (embedding.vectors[0, :32] == vectors[0].detach().numpy()).all()


@pytest.mark.parametrize("kept", [0, 4, 40, -1], ids=["empty", "in the length", "in the header", "in the vectors"])
def test_a_file_cut_short_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_embedding(path, LearnedEmbedding(TOKEN, vectors(1)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*(cut short|not a whole safetensors file)[^\n]*$"):
        load_embedding(path)


def test_a_huge_file_and_a_missing_one_and_a_folder_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "huge.safetensors", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "folder").mkdir()
    for name, message in [
        ("huge.safetensors", "larger than 64 MB"),
        ("none.safetensors", "No such file"),
        ("folder", "directory"),
    ]:
        with pytest.raises(EdgeSdkError, match=rf"^[^\n]*{name} [^\n]*{message}[^\n]*$"):
            load_embedding(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
def test_a_number_that_is_not_finite_is_never_written(bad: float, tmp_path: Path) -> None:
    with pytest.raises(EdgeSdkError, match="finite"):
        save_embedding(tmp_path / "a.safetensors", LearnedEmbedding(TOKEN, np.full((1, 4), bad)))
    assert not any(tmp_path.iterdir())


def test_random_bit_flips_raise_nothing_but_one_line_errors(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.safetensors", np.random.default_rng(0)
    save_embedding(path, LearnedEmbedding(TOKEN, vectors(1), {"model": "pocket"}))
    whole = path.read_bytes()
    for _ in range(1000):
        data = bytearray(whole)
        for at in rng.integers(150, size=rng.integers(1, 3)):
            data[at] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            assert np.isfinite(load_embedding(path).vectors).all()
        except EdgeSdkError as error:
            assert "\n" not in str(error)
