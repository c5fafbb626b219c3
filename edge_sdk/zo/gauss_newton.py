"""Gauss-Newton from forward passes alone: differences of what the model predicts, not only of its loss.

The loss is the mean square of residuals r(theta) (prediction minus target), so a forward pass shows more than one
number. A forward difference of r along direction e_i is J e_i, with the Jacobian J. On one draw, n of these differences
give, in the span of the directions, the gradient 2 mean(r J e_i) and the Gauss-Newton matrix 2 mean(J e_i J e_j)
(Nocedal and Wright, "Numerical Optimization", section 10.3). Draws are combined as in recursive least squares: the
quadratic model of every draw is kept, and its slope is updated with each step. A step minimizes the sum of all models,
damped (Levenberg, Marquardt) and bounded in length.

The directions are fixed. Their length is the words' standard deviation along them. Narrow tokens have the vocabulary's
principal directions: most of the loss's slope lies where words differ. Wide tokens have those that change the text
encoder's states most.
"""

from dataclasses import dataclass

import numpy as np

from edge_sdk.zo.config import ZoConfig
from edge_sdk.zo.draws import Objective, draw, evaluate_residuals, near


def directions(principal: np.ndarray, least: int, num_vectors: int) -> np.ndarray:
    """The directions for a token of K vectors, (R K, K, D) float32.

    Direction j moves vector j mod K along principal direction j div K.

    Args:
        principal: (R, D) float32, orthogonal rows.
        least: how many directions a step takes.

    Raises:
        ValueError: ``least`` is larger than R K.
    """
    count = num_vectors * len(principal)
    if least > count:
        raise ValueError(f"zo_samples is {least}; there are {count} directions to choose from")
    out = np.zeros((count, num_vectors, principal.shape[1]), np.float32)
    for j in range(count):
        out[j, j % num_vectors] = principal[j // num_vectors]
    return out


@dataclass(frozen=True)
class Linearization:
    """The loss of one step's draws near the token, as a quadratic of the directions' coefficients."""

    slope: np.ndarray  # (n,) float64
    curvature: np.ndarray  # (n, n) float64
    losses: np.ndarray  # of every row that was evaluated, float64; the token itself is the first row of each draw
    loss: float  # of the token itself, mean over the draws
    forwards: int


def linearize(
    objective: Objective, theta: np.ndarray, basis: np.ndarray, config: ZoConfig, seed: int, step: int, max_batch: int
) -> Linearization:
    """Measure the residuals at a token and a little way along every direction.

    Args:
        theta: (K, D) float32.
        basis: (n, K, D) float32, the directions, orthogonal; a perturbation is ``zo_mu`` times one.
    """
    n, batch, mu = len(basis), config.train_batch_size, np.float32(config.zo_mu)
    drawn = draw(objective, seed, step, batch, config.timestep_range)
    slope, curvature, losses, base = np.zeros(n), np.zeros((n, n)), [], []
    for one in drawn:
        rows = np.concatenate([theta[None], theta + mu * basis])
        residuals = evaluate_residuals(near(objective, theta), rows, [one] * (n + 1), max_batch).astype(
            np.float64
        )  # (n + 1, M)
        jacobian = (residuals[1:] - residuals[0]) / float(mu)
        share = 2 / (residuals.shape[1] * batch)
        slope += share * jacobian @ residuals[0]
        curvature += share * jacobian @ jacobian.T
        losses.append((residuals**2).mean(axis=1))
        base.append(losses[-1][0])
    return Linearization(slope, curvature, np.concatenate(losses), float(np.mean(base)), (n + 1) * batch)


class GaussNewton:
    """The sum of all draws' quadratic models at the current token; later draws weigh more (``memory``).

    Where there are more directions than a step takes, a step is one of block coordinate descent. Half of its directions
    are those with the largest predicted decrease; the other half are those that were measured longest ago. The model of
    a draw says nothing about directions in which the draw was not measured.
    """

    def __init__(self, config: ZoConfig, basis: np.ndarray) -> None:
        self.config, self.basis = config, basis  # (R, K, D) float32, orthogonal
        n = len(basis)
        self.slope, self.curvature = np.zeros(n), np.zeros((n, n))  # float64
        self.seen = np.zeros(n, np.int64)  # number of the last linearization with this direction, from 1; 0 for none
        self.count = 0  # linearizations so far

    def choose(self) -> np.ndarray:
        """Numbers of the next step's directions, (n,) int64, ascending; all directions where there are at most n."""
        n = self.config.zo_samples
        kept = np.zeros(0, np.int64)
        if self.seen.all():
            diagonal = self.curvature.diagonal()
            gain = self.slope**2 / np.maximum(diagonal + self.config.damping * diagonal.mean(), 1e-300)
            kept = np.argsort(-gain, kind="stable")[: n // 2]
        waiting = np.argsort(self.seen, kind="stable")
        return np.sort(np.concatenate([kept, waiting[~np.isin(waiting, kept)]])[:n])

    def update(self, theta: np.ndarray, found: Linearization) -> np.ndarray:
        """Add a linearization in the directions of `choose`; returns the next token, float32."""
        c, chosen = self.config, self.choose()
        block = np.ix_(chosen, chosen)
        self.count += 1
        weight = float(self.count) ** c.memory
        self.slope[chosen] += weight * found.slope
        self.curvature[block] += weight * found.curvature
        self.seen[chosen] = self.count
        size, matrix = len(chosen), self.curvature[block]
        damping = c.damping * np.trace(matrix) / size
        if not damping > 0:  # the token makes no difference to these draws
            return theta
        move = -np.linalg.solve(matrix + damping * np.eye(size), self.slope[chosen])
        move *= min(1.0, c.trust_radius / max(float(np.linalg.norm(move)), 1e-300))
        moved = np.tensordot(move, self.basis[chosen].astype(np.float64), axes=1)
        return (theta.astype(np.float64) + moved).astype(np.float32)

    def carry(self, before: np.ndarray, after: np.ndarray) -> None:
        """Move the models' origin from one token to another; the two differ by a combination of the directions."""
        flat = self.basis.reshape(len(self.basis), -1).astype(np.float64)
        difference = (after.astype(np.float64) - before.astype(np.float64)).reshape(-1)
        self.slope = self.slope + self.curvature @ (flat @ difference / (flat**2).sum(axis=1))
