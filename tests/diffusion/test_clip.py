"""Our text encoder and tokenizer give what transformers' give, from the same files."""

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from edge_sdk import pocket
from edge_sdk.diffusion.networks.clip import ClipConfig, ClipText
from edge_sdk.diffusion.tokenizer import load_tokenizer
from edge_sdk.errors import EdgeSdkError


def config(act: str = "quick_gelu") -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=16,
        hidden_act=act,
        projection_dim=20,
        bos_token_id=48,
        eos_token_id=49,
        pad_token_id=49,
    )


def own(stock: torch.nn.Module, projected: bool = False) -> ClipText:
    made = ClipText(ClipConfig.from_dict(stock.config.to_dict()), projected)  # type: ignore[union-attr, operator]
    state = {name.removeprefix("text_model."): value for name, value in stock.state_dict().items()}
    made.load_state_dict(state)
    return made.eval()


IDS = torch.randint(0, 48, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_the_hidden_states_are_those_of_transformers(act: str) -> None:
    torch.manual_seed(0)
    stock = CLIPTextModel(config(act)).eval()
    with torch.inference_mode():
        expected = stock(input_ids=IDS, output_hidden_states=True)
        torch.testing.assert_close(own(stock)(IDS), expected.last_hidden_state, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own(stock)(IDS, skip_last=True), expected.hidden_states[-2], rtol=1e-4, atol=1e-5)


def test_a_projecting_encoder_loads() -> None:
    torch.manual_seed(0)
    stock = CLIPTextModelWithProjection(config()).eval()
    made = own(stock, projected=True)
    ids = IDS.clone()
    ids[:, 7] = 49
    with torch.inference_mode():
        expected = stock(input_ids=ids)
        pooled = made.text_projection(made(ids)[:, 7])
    torch.testing.assert_close(pooled, expected.text_embeds, rtol=1e-4, atol=1e-5)


def test_learned_vectors_stand_where_their_ids_are() -> None:
    torch.manual_seed(0)
    stock = CLIPTextModel(config()).eval()
    made, learned = own(stock), torch.randn(3, 2, 32)
    ids = IDS.clone()
    ids[0, 3], ids[0, 4], ids[1, 5], ids[2, 0] = 50, 51, 51, 50
    table = stock.get_input_embeddings().weight
    for row in range(3):
        known = ids[row].clone()
        with torch.inference_mode():
            saved = table[:2].clone()
            known[ids[row] == 50], known[ids[row] == 51] = 0, 1
            clash = (IDS[row] < 2).any()
            table[:2] = learned[row]
            expected = stock(input_ids=known[None]).last_hidden_state
            table[:2] = saved
            if not clash:
                torch.testing.assert_close(made(ids, learned)[row : row + 1], expected, rtol=1e-4, atol=1e-5)
    assert not (IDS < 2).all()


def test_an_embedding_table_in_half_precision_is_read_where_it_is() -> None:
    made = ClipText(ClipConfig.from_dict(config().to_dict())).eval()
    made.embeddings.token_embedding.weight.data = made.embeddings.token_embedding.weight.data.half()
    with torch.inference_mode():
        assert made(IDS).dtype == torch.float32


def test_another_activation_is_refused() -> None:
    with pytest.raises(EdgeSdkError, match="hidden_act is 'relu', not one of quick_gelu, gelu"):
        ClipConfig.from_dict({"hidden_act": "relu"})


TEXTS = [
    "a photo of a dog",
    "A  Photo,\tof\n my dog's mug!!",
    "caf\u00e9 na\u00efve \u00c9COLE e\u0301",
    "12 345 x2 3d",
    "don't we'll I'M they've",
    "emoji \U0001f600\U0001f468\u200d\U0001f469 \u4f60\u597d \u3053\u3093\u306b\u3061\u306f",
    "<|endoftext|> and <|startoftext|>",
    "",
    "   ",
    "a_b-c/d (e) [f]",
    "zero\u200bwidth",
    "\ufb01 ligature",
    "<sks> <s>",
]


@pytest.mark.parametrize("files", ["sd1", "pocket"])
@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_the_tokens_are_those_of_transformers(text: str, files: str, sd1_folder: Path) -> None:
    folder = sd1_folder / "tokenizer" if files == "sd1" else pocket.MODEL / "tokenizer"
    expected = CLIPTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
    assert load_tokenizer(folder).encode(text, add_special_tokens=False).ids == expected


def test_vocabulary_files_and_the_saved_tokenizer_are_the_same(sd1_folder: Path, tmp_path: Path) -> None:
    stock = CLIPTokenizer.from_pretrained(sd1_folder / "tokenizer")
    (tmp_path / "old").mkdir()
    stock.backend_tokenizer.model.save(str(tmp_path / "old"))
    old, new = load_tokenizer(tmp_path / "old"), load_tokenizer(sd1_folder / "tokenizer")
    for text in TEXTS:
        assert old.encode(text, add_special_tokens=False).ids == new.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"a": 1}'], ids=["missing", "empty", "no model", "other"])
def test_a_tokenizer_that_cannot_be_read_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(EdgeSdkError, match=r"^[^\n]* cannot be read as CLIP's tokenizer [^\n]*; download it again$"):
        load_tokenizer(tmp_path)
