"""What a client needs beside the graphs: the settings of both presets for this very model, and words to start from."""

from collections.abc import Sequence
from typing import Any

from edge_sdk import mu_floor
from edge_sdk.config import PersonalizeConfig
from edge_sdk.export.golden import GraphObjective, Reference, Run
from edge_sdk.runtime.pytorch.text import TextEncoder
from edge_sdk.zo import PAPER, ZoConfig, directions, fast

FIRST_LOOK = mu_floor.DIRECTIONS[:1]  # directions for the floor of the preset paper, which few clients run
# Words that photos are often of; a bundle lists those that its vocabulary has as one token.
INITIALIZERS = (
    "person man woman boy girl child baby face dog puppy cat kitten horse rabbit bird fish toy doll bear robot mug cup "
    "bottle vase bowl teapot bag backpack shoe boot hat shirt dress jacket glasses watch ring chair table lamp clock "
    "book phone camera guitar car truck bike boat house castle church bridge tree plant flower cake food fruit stone "
    "statue logo painting drawing sketch cartoon comic photo picture art style"
).split()


def measured_presets(reference: Reference, loss: Run) -> tuple[float, dict[str, dict[str, Any]]]:
    """The floor of mu of a `zo_loss` graph along the principal directions, and the manifest's ``presets``.

    The preset paper perturbs along random directions, where the floor is another one.
    """
    objective, token = GraphObjective(reference, loss), reference.variable(2)
    preset = fast(reference.std, reference.text.width)
    basis = directions(reference.principal, 1, reference.vectors)
    std, seed = reference.std, reference.seed
    rows = objective.rows
    floor = mu_floor.measure(objective, token, preset, std, seed, rows, basis).mu_min
    of_paper = mu_floor.measure(objective, token, PAPER, std, seed, rows, counts=FIRST_LOOK).mu_min
    settings = {"fast": (preset, floor), "paper": (PAPER, of_paper)}
    return floor, {name: described(mu_floor.raised(zo, least, std)) for name, (zo, least) in settings.items()}


def described(zo: ZoConfig) -> dict[str, Any]:
    """A preset as the manifest has it."""
    return zo.to_dict() | {"eval_draws": PersonalizeConfig.eval_draws}


def initializers(encoders: Sequence[TextEncoder]) -> dict[str, list[int]]:
    """Words of `INITIALIZERS` that every encoder knows as one token: the ids, one an encoder."""
    ids = {word: [encoder.words(word) for encoder in encoders] for word in INITIALIZERS}
    return {
        word: [one for (one,) in each]
        for word, each in ids.items()
        if all(len(one) == 1 and one[0] != encoder.eos for one, encoder in zip(each, encoders, strict=True))
    }
