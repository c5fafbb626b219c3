"""The steps of a run as Python sees them: an iterator with a length, losses that can be compared, and a curve."""

import math
from collections.abc import Callable, Generator, Iterator
from html import escape

from edge_sdk.zo import Step

WIDTH, HEIGHT, MARGIN = 480, 160, 24  # of the curve, in pixels


class Learning(Iterator[Step]):
    """Steps, each of which is taken when the iterator is asked for it. Close it whenever it is enough.

    ``len`` is the number of steps that are still to come, so that ``tqdm`` has a total. A notebook shows the losses as
    a curve. It shows no photo: notebooks are passed on.

    Attributes:
        title: what is learned, on what.
        losses: of each step taken here, on the draws of that step; by step, from 1.
        held_out_losses: what `held_out_loss` measured, by step; 0 is the initial token.
    """

    def __init__(
        self, steps: Generator[Step, None, None], taken: int, total: int, held_out_loss: Callable[[], float], title: str
    ) -> None:
        """
        Args:
            taken: steps before these, of a run that is resumed. total: steps of the whole run.
            held_out_loss: measures the token as it is.
        """
        self._steps, self._measure = steps, held_out_loss
        self.step, self.steps, self.title = taken, total, title
        self.losses: dict[int, float] = {}
        self.held_out_losses: dict[int, float] = {}

    def __iter__(self) -> "Learning":
        return self

    def __next__(self) -> Step:
        step = next(self._steps)
        self.step, self.losses[step.step] = step.step, step.loss
        return step

    def __len__(self) -> int:
        return self.steps - self.step

    def __bool__(self) -> bool:
        return True

    def held_out_loss(self) -> float:
        """Mean loss of the token as it is now, on fixed draws over all timesteps that no step sees.

        Losses of any settings can be compared. It takes forward passes, and is measured once a step.
        """
        if self.step not in self.held_out_losses:
            self.held_out_losses[self.step] = self._measure()
        return self.held_out_losses[self.step]

    def close(self) -> None:
        """Take no more steps."""
        self._steps.close()

    def __repr__(self) -> str:
        return f"Learning({self.title}, {self._state()})"

    def _repr_html_(self) -> str:
        """The losses as a curve, for a notebook."""
        return f"<div><p>{escape(self.title)}, {self._state()}</p>{self._curve()}</div>"

    def _state(self) -> str:
        text = f"{self.step} of {self.steps} steps"
        if self.losses:
            text += f", loss {self.losses[max(self.losses)]:.4f}"
        if self.held_out_losses:
            text += ", held out " + " -> ".join(f"{self.held_out_losses[k]:.4f}" for k in sorted(self.held_out_losses))
        return text

    def _curve(self) -> str:
        points = {step: loss for step, loss in self.losses.items() if math.isfinite(loss)}
        shown = [loss for loss in (*points.values(), *self.held_out_losses.values()) if math.isfinite(loss)]
        if not shown:
            return ""
        top = 1.05 * max(shown) or 1.0

        def place(step: int, loss: float) -> tuple[float, float]:
            x = MARGIN + (WIDTH - 2 * MARGIN) * step / max(self.steps, 1)
            return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * loss / top

        dots = [(*place(*each), "#9aa3ad", 2) for each in points.items()]
        held_out = [place(*each) for each in sorted(self.held_out_losses.items()) if math.isfinite(each[1])]
        dots += [(x, y, "#0b6bcb", 4) for x, y in held_out]
        circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{fill}"/>' for x, y, fill, r in dots)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in held_out)
        base = HEIGHT - MARGIN
        return (
            f'<svg width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11" fill="#555">'
            f'<path d="M{MARGIN} {MARGIN}V{base}H{WIDTH - MARGIN}" stroke="#bbb" fill="none"/>'
            f'<polyline points="{line}" stroke="#0b6bcb" stroke-width="2" fill="none"/>{circles}'
            f'<text x="{MARGIN}" y="{MARGIN - 8}">loss, up to {top:.3f}: grey of a step, blue held out</text>'
            f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 6}" text-anchor="end">step {self.steps}</text></svg>'
        )
