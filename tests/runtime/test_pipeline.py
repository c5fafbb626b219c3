"""A loaded pipeline of diffusers: learn on it, and give it the word."""

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from edge_sdk import EdgeSdkError, LearnedEmbedding, Personalizer
from edge_sdk.zo import Step

QUICK: dict[str, Any] = {"initializer_token": "dog", "max_train_steps": 2, "zo_samples": 2, "eval_draws": 4}
PIPELINES = {"sd1": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}


@pytest.fixture(params=PIPELINES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(f"{family}_folder"))


@pytest.fixture
def pipe(family: str, folder: Path) -> Any:
    return PIPELINES[family].from_pretrained(folder, safety_checker=None, local_files_only=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_pipeline_learns_as_its_folder_does(pipe: Any, folder: Path, photos: Path, temporary: Path) -> None:
    def learned(personalizer: Personalizer) -> list[Step]:
        return list(personalizer.fit(photos, **QUICK))

    from_pipe = Personalizer.from_pipeline(pipe)
    (place,) = temporary.iterdir()
    assert place.stat().st_mode & 0o777 == 0o700
    of_pipe, of_folder = learned(from_pipe), learned(Personalizer.from_pretrained(folder))
    assert [step.embedding.tobytes() for step in of_pipe] == [step.embedding.tobytes() for step in of_folder]
    assert from_pipe.model.label == folder.name
    del from_pipe
    gc.collect()
    assert os.listdir(temporary) == []


def test_weights_that_were_changed_in_memory_count(sd1_folder: Path, photos: Path, temporary: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(sd1_folder, safety_checker=None, local_files_only=True)
    with torch.no_grad():
        pipe.unet.conv_out.weight *= 2
    changed, same = Personalizer.from_pipeline(pipe), Personalizer.from_pretrained(sd1_folder)
    assert changed.fit(photos, **QUICK).held_out_loss() != same.fit(photos, **QUICK).held_out_loss()
    assert changed.fitted().fingerprints["model"] != same.fitted().fingerprints["model"]


@pytest.mark.parametrize("vectors", [1, 3])
def test_a_pipeline_takes_the_word(vectors: int, pipe: Any) -> None:
    widths = tuple(
        encoder.get_input_embeddings().weight.shape[1]
        for encoder in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None))
        if encoder is not None
    )
    values = np.random.default_rng(0).normal(size=(vectors, sum(widths))).astype(np.float32)
    learned = LearnedEmbedding("<mug>", values, widths=widths)
    learned.load_into(pipe)
    for name, part in zip(("", "_2"), learned.parts, strict=False):
        tokenizer, encoder = getattr(pipe, f"tokenizer{name}"), getattr(pipe, f"text_encoder{name}")
        prompt = pipe.maybe_convert_prompt("a <mug>", tokenizer)
        ids = [i for i in tokenizer(prompt).input_ids if i >= len(tokenizer) - vectors]
        assert (encoder.get_input_embeddings().weight[ids].detach().numpy() == part).all() and len(ids) == vectors
    with pytest.raises(EdgeSdkError, match="has the word <mug> already"):
        learned.load_into(pipe)


def test_what_does_not_fit_is_said_in_one_line(sd1_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(sd1_folder, safety_checker=None, local_files_only=True)
    with pytest.raises(EdgeSdkError, match="5 wide and this model takes 32"):
        LearnedEmbedding("<mug>", np.zeros((1, 5), np.float32)).load_into(pipe)
    for nothing in (None, "pipe", object()):
        with pytest.raises(EdgeSdkError, match="give one of diffusers"):
            LearnedEmbedding("<mug>", np.zeros((1, 5), np.float32)).load_into(nothing)
        with pytest.raises(EdgeSdkError, match="give a StableDiffusionPipeline"):
            Personalizer.from_pipeline(nothing)


def test_adapters_are_to_be_fused_first(sd1_folder: Path, temporary: Path) -> None:
    from peft import LoraConfig

    pipe = StableDiffusionPipeline.from_pretrained(sd1_folder, safety_checker=None, local_files_only=True)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(EdgeSdkError, match="unet holds adapters"):
        Personalizer.from_pipeline(pipe)
    assert os.listdir(temporary) == []
