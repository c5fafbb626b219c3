"""Compositional pixel-art people: attributes, a renderer, captions, and the people nobody trains on.

The drawings are the layers of @dicebear/pixel-art (designs CC0-1.0, see ``layers.mjs``) on their true 16 x 16 grid.
A person is six attributes; a picture adds what changes from photo to photo (expression, eye colour, a shift of one
pixel, the background). Everything is drawn from a `numpy.random.Generator` that the caller seeds.
"""

import functools
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

SIZE = 16  # pixels; the drawings' own grid

# value word -> drawing (a variant of the package, or a colour)
HAIR = {
    "long": "long13",
    "bob": "long04",
    "swept": "long08",
    "bun": "long05",
    "curly": "short11",
    "braided": "long18",
    "short": "short17",
    "mohawk": "short05",
}
HAIR_COLOR = {
    "blond": "f2cf5b",
    "black": "1d1712",
    "brown": "7b4a1e",
    "red": "c62f14",
    "blue": "2a7fd4",
    "pink": "f07fb8",
}
SKIN = {"pale": "ffdcbc", "tan": "dfab72", "brown": "a86f3e", "dark": "5f3820"}
EYEWEAR = {"no": None, "black": ("light07", "202020"), "red": ("light07", "d01818"), "dark": ("dark03", "101010")}
TOP = {"plain": "variant03", "striped": "variant13", "checked": "variant06", "strapped": "variant22"}
TOP_COLOR = {
    "red": "d8262c",
    "blue": "2b5fd9",
    "green": "2f9e44",
    "yellow": "f5c518",
    "white": "f4f4f4",
    "purple": "8a3fc4",
}
ATTRIBUTES = {
    "hair": HAIR,
    "hair_color": HAIR_COLOR,
    "skin": SKIN,
    "eyewear": EYEWEAR,
    "top": TOP,
    "top_color": TOP_COLOR,
}
WORDS = {name: tuple(values) for name, values in ATTRIBUTES.items()}
SIZES = tuple(len(values) for values in WORDS.values())  # values per attribute

BACKGROUND = {
    "white": "ffffff",
    "grey": "9a9a9a",
    "blue": "8fc4ff",
    "green": "93e0a0",
    "yellow": "fff08a",
    "pink": "ffb3d1",
    "orange": "ffae5c",
    "purple": "b89cf0",
}
BACKGROUNDS = tuple(BACKGROUND)
MOUTHS = ("happy01", "happy05", "happy09", "sad01", "sad05")
EYES = ("5b7c8b", "876658", "58a060")

# One hair shape x hair colour pair per shape is never drawn in training: each held-out person has such a pair, so a
# token for that person has to combine a shape and a colour that the model has never seen together.
HELD_OUT_PAIRS = tuple((shape, (2 * shape + 1 + shape // 3) % len(HAIR_COLOR)) for shape in range(len(HAIR)))
NUM_HELD_OUT = 24
NUM_NAMES = 2048

_HEAD = (
    '<path d="M4 2h8v1h1v3h1v2h-1v3h-1v1H9v1h4v1h1v2H2v-2h1v-1h4v-1H4v-1H3V8H2V6h1V3h1V2Z" fill="{skin}"/>'
    '<path d="M4 2h8v1h1v3h1v2h-1v3h-1v1H4v-1H3V8H2V6h1V3h1V2Z" fill="#fff" fill-opacity=".1"/>'
)


@functools.cache
def _layers() -> dict[str, dict[str, str]]:
    return json.loads(Path(__file__).with_name("pixel_art_layers.json").read_text())["layers"]


@functools.cache
def _raster(body: str) -> np.ndarray:
    """An SVG fragment as premultiplied RGBA, (16, 16, 4) float32 in [0, 1]."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 16 16" '
        f'fill="none" shape-rendering="crispEdges">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return rgba


def _layer(part: str, variant: str, color: str) -> np.ndarray:
    return _raster(re.sub(r"\{\w+\}", f"#{color}", _layers()[part][variant]))


def _stack(layers: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(layers)  # (values, 16, 16, 4)


@functools.cache
def _atlas() -> dict[str, np.ndarray]:
    """Every layer drawn once; the renderer only indexes and stacks."""
    clear = np.zeros((SIZE, SIZE, 4), np.float32)
    return {
        "skin": _stack([_raster(re.sub(r"\{\w+\}", f"#{c}", _HEAD)) for c in SKIN.values()]),
        "top": np.stack([_stack([_layer("clothing", v, c) for c in TOP_COLOR.values()]) for v in TOP.values()]),
        "eyes": _stack([_layer("eyes", "variant01", c) for c in EYES]),
        "eyewear": _stack([clear if v is None else _layer("glasses", *v) for v in EYEWEAR.values()]),
        "mouth": _stack([_layer("mouth", v, "c0605a") for v in MOUTHS]),
        "hair": np.stack([_stack([_layer("hair", v, c) for c in HAIR_COLOR.values()]) for v in HAIR.values()]),
    }


@dataclass(frozen=True)
class Pictures:
    """A batch of pictures and everything that was drawn."""

    people: np.ndarray  # (N, 6) int64, value indices in the order of ATTRIBUTES
    background: np.ndarray  # (N,) int64
    pixels: np.ndarray  # (N, 3, 16, 16) float32 in [-1, 1]


def render(people: np.ndarray, rng: np.random.Generator, background: np.ndarray | None = None) -> Pictures:
    """Draw people (N, 6) with random expression, eyes, shift, and (unless given) background."""
    n, atlas = len(people), _atlas()
    hair, hair_color, skin, eyewear, top, top_color = people.T
    if background is None:
        background = rng.integers(len(BACKGROUND), size=n)
    figure = np.zeros((n, SIZE, SIZE, 4), np.float32)
    for layer in (
        atlas["skin"][skin],
        atlas["top"][top, top_color],
        atlas["eyes"][rng.integers(len(EYES), size=n)],
        atlas["eyewear"][eyewear],
        atlas["mouth"][rng.integers(len(MOUTHS), size=n)],
        atlas["hair"][hair, hair_color],
    ):
        figure = layer + figure * (1 - layer[..., 3:])
    shift = rng.integers(-1, 2, size=n)
    columns = (np.arange(SIZE)[None, :] - shift[:, None])[:, None, :, None]
    shifted = np.take_along_axis(figure, np.clip(columns, 0, SIZE - 1), axis=2)
    figure = np.where((columns >= 0) & (columns < SIZE), shifted, 0)
    colors = np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in BACKGROUND.values()], np.float32)
    rgb = figure[..., :3] + colors[background][:, None, None] * (1 - figure[..., 3:])
    return Pictures(people, background, np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)) * 2 - 1)


def canonical(people: np.ndarray) -> np.ndarray:
    """Stripes and checks are lighter than their shirt, so on white they cannot be seen: such a shirt is a plain one."""
    people = people.copy()
    white = people[:, 5] == list(TOP_COLOR).index("white")
    people[white & (people[:, 4] != list(TOP).index("strapped")), 4] = list(TOP).index("plain")
    return people


def any_people(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random attributes, (N, 6), held-out hair pairs and all."""
    return canonical(np.stack([rng.integers(size, size=n) for size in SIZES], axis=1))


def random_people(n: int, rng: np.random.Generator) -> np.ndarray:
    """People to train the model on, (N, 6): random attributes, never a held-out hair pair."""
    people = any_people(n, rng)
    banned = np.array([c for _, c in sorted(HELD_OUT_PAIRS)])
    while (bad := people[:, 1] == banned[people[:, 0]]).any():
        people[bad, 1] = rng.integers(len(HAIR_COLOR), size=bad.sum())
    return people


@functools.cache
def held_out_people() -> np.ndarray:
    """The 24 subjects of every personalization measurement, (24, 6); any two differ in three attributes or more."""
    rng, people = np.random.default_rng(2026), list[np.ndarray]()
    while len(people) < NUM_HELD_OUT:
        pair = HELD_OUT_PAIRS[len(people) % len(HELD_OUT_PAIRS)]
        person = canonical(np.array([[*pair, *(rng.integers(size) for size in SIZES[2:])]]))[0]
        if all((person != other).sum() >= 3 for other in people):
            people.append(person)
    return np.stack(people)


@functools.cache
def names() -> tuple[str, ...]:
    """2048 made-up first names, each of which becomes one token (the model's "celebrities")."""
    rng = np.random.default_rng(7)
    consonants, vowels, out = list("bdfgklmnprstvzj"), list("aeiou"), dict[str, None]()
    reserved = {word for words in WORDS.values() for word in words} | set(BACKGROUNDS)
    while len(out) < NUM_NAMES:
        word = "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(3)) + rng.choice(["", "n", "s", "l"])
        if word not in reserved:
            out[word] = None
    return tuple(out)


@functools.cache
def named_people() -> np.ndarray:
    """Who each name is, (2048, 6)."""
    return random_people(NUM_NAMES, np.random.default_rng(11))


def caption(person: np.ndarray, background: int | None, mention: Sequence[bool] = (True,) * 6) -> str:
    """The caption of a picture; only mentioned attributes are named, a colour always just before what it colours."""
    hair, hair_color, skin, eyewear, top, top_color = (w[i] for w, i in zip(WORDS.values(), person, strict=True))
    say_hair, say_hair_color, say_skin, say_eyewear, say_top, say_top_color = map(bool, mention)
    parts = []
    if say_hair or say_hair_color:
        parts.append(" ".join([hair_color] * say_hair_color + [hair] * say_hair + ["hair"]))
    if say_skin:
        parts.append(f"{skin} skin")
    if say_eyewear:
        parts.append(f"{eyewear} glasses")
    if say_top or say_top_color:
        parts.append(" ".join(["a"] + [top_color] * say_top_color + [top] * say_top + ["shirt"]))
    return subject_caption("person" + (" with " + ", ".join(parts) if parts else ""), background, article=True)


def subject_caption(subject: str, background: int | None, article: bool = False) -> str:
    where = "" if background is None else f" on a {BACKGROUNDS[background]} background"
    return f"a picture of {'a ' if article else ''}{subject}{where}"
