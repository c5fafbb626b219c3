"""The directions in which a token is learned: those along which the text encoder's states change most.

The denoiser knows of a token only what its states say, so most of the loss's slope lies along a few of them. Finding
them takes the text encoder alone, and no photo: they belong to a model.
"""

import numpy as np
import torch

from edge_sdk.diffusion.text import Text
from edge_sdk.zo import Stream, integers

WORDS = 4  # whose surroundings are looked at
DIFFERENCE = 0.4  # how far a token is moved, in standard deviations of the vocabulary
BUCKETS = 1024  # that the numbers of all states are summed in
TOKENS = 32  # encoded together


def principal_directions(text: Text, template: str, count: int) -> np.ndarray:
    """Right singular vectors of the Jacobian of a prompt's states, by forward differences at a few words together.

    A Jacobian can be large. Its numbers are summed, with random signs, in `BUCKETS` sums a direction, which keeps inner
    products on average (Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002).

    Args:
        template: the prompt, with ``{}`` for the token.
        count: how many are wanted.

    Returns:
        (min(count, D), D) float32, orthogonal, in the optimizer's variable, the first one with the largest singular
        value. A direction's length is the words' standard deviation along it, in units of the table's own (per
        dimension, mean over dimensions); its largest coordinate is positive.
    """
    covariance, states = text.covariance(), text.states_of(template)
    width, std = len(covariance), float(np.sqrt(covariance.diagonal()).mean())
    moves = torch.eye(width, dtype=torch.float64) * (DIFFERENCE * std)
    gram = np.zeros((width, width))
    with torch.inference_mode():
        for number, word in enumerate(torch.from_numpy(text.some_words(WORDS))):
            base = states(word[None].float())
            size = base.shape[1]
            bucket = torch.from_numpy(integers(0, Stream.SKETCH, number, size, BUCKETS)).to(base.device)
            sign = torch.from_numpy(integers(0, Stream.SKETCH, number, size, 2, size) * 2.0 - 1).to(base)
            sums = torch.zeros(width, BUCKETS, dtype=torch.float64)
            for some in torch.arange(width).split(TOKENS):
                changes = (states((word + moves[some]).float()) - base) * sign
                sums[some] = base.new_zeros(len(some), BUCKETS).index_add_(1, bucket, changes).double().cpu()
            products = (sums @ sums.t()).numpy()
            gram += products / max(np.trace(products), 1e-300)
    directions = np.linalg.eigh(gram)[1].T[::-1][:count]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    variance = np.einsum("nd,de,ne->n", directions, covariance, directions)
    return (directions * np.sqrt(variance)[:, None] / std).astype(np.float32)
