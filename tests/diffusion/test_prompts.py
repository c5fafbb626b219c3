"""Training prompts: one place for the subject in each, no prompt twice."""

import pytest

from edge_sdk.diffusion.prompts import TEMPLATES, caption_prompt, training_prompts


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_template_has_one_place_for_the_subject(kind: str) -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES[kind])
    assert len(set(TEMPLATES[kind])) == len(TEMPLATES[kind])


def test_there_are_as_many_templates_as_in_the_paper() -> None:
    sizes = {kind: len(templates) for kind, templates in TEMPLATES.items()}
    assert sizes == {"object": 27, "style": 17, "pocket": 1}
    assert all("in the style of {}" in template for template in TEMPLATES["style"])


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("placeholder", ["<subject>", "{}", "a{0}b"])
def test_prompts_are_the_templates_with_the_placeholder_in_place(kind: str, placeholder: str) -> None:
    prompts = training_prompts(kind, placeholder)
    assert prompts == [template.replace("{}", placeholder) for template in TEMPLATES[kind]]


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        training_prompts("animal", "<subject>")


@pytest.mark.parametrize(
    ("caption", "prompt"),
    [
        ("a photo of {} on grass", "a photo of <s> on grass"),
        ("{}", "<s>"),
        ("{} beside {}", "<s> beside <s>"),
        ("on grass", "<s>, on grass"),
        ("odd { brace } and {0}", "<s>, odd { brace } and {0}"),
    ],
    ids=["inside", "alone", "twice", "without a place", "other braces"],
)
def test_a_caption_takes_the_subject_where_it_says(caption: str, prompt: str) -> None:
    assert caption_prompt(caption, "<s>") == prompt
