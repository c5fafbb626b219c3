"""Training prompts: a template list per kind of thing, as in the textual inversion paper (Gal et al., 2022)."""

_OBJECT = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)

_STYLE = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a good painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)

_POCKET = ("a picture of {}",)  # the embedded model knows no other sentence

TEMPLATES = {"object": _OBJECT, "style": _STYLE, "pocket": _POCKET}


def training_prompts(templates: str, placeholder: str) -> list[str]:
    """The prompts of one kind ("object", "style" or "pocket") with the placeholder filled in."""
    return [template.format(placeholder) for template in TEMPLATES[templates]]


def caption_prompt(caption: str, placeholder: str) -> str:
    """A photo's own caption as a prompt: ``{}`` marks the subject's place; without it the subject comes first."""
    return caption.replace("{}", placeholder) if "{}" in caption else f"{placeholder}, {caption}"
