"""How many threads share a piece of work. Small work is not divided: waking a thread, or waiting for one, costs more.

PyTorch divides operators of some ten thousand elements, and its OpenMP threads spin while they wait for one another. So
if other programs are busy, a network of such operators spends its time waiting. Where activations are small, PyTorch
gets one thread. Compiled products never wait for a thread that has not started, so large ones use all threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from edge_sdk.quantization.activations import reused

PRODUCTS = 1 << 24  # least multiplications of a compiled call that is divided: a third of a millisecond
ELEMENTS = 1 << 20  # least size of a network's largest activations for which PyTorch divides its operators
_Function = TypeVar("_Function", bound=Callable[..., Any])
_given: ContextVar[int | None] = ContextVar("given", default=None)  # PyTorch's threads outside of `sized`


def threads_for(products: int) -> int:
    """Threads for a compiled call with this many multiplications: one, or as many as PyTorch was given."""
    return (_given.get() or torch.get_num_threads()) if products >= PRODUCTS else 1


@contextmanager
def sized(elements: int) -> Iterator[None]:
    """Let PyTorch use one thread in this block if activations have few elements, else as many as it was given."""
    before = torch.get_num_threads()
    given = _given.get() or before
    token = _given.set(given)
    torch.set_num_threads(given if elements >= ELEMENTS else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _given.reset(token)


def by_size(elements: Callable[[Any, torch.Tensor], int]) -> Callable[[_Function], _Function]:
    """`sized` for a method, and `reused`; ``elements`` computes the size from the object and the first argument."""

    def decorate(method: _Function) -> _Function:
        @wraps(method)
        def run(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            with sized(elements(self, x)), reused():
                return method(self, x, *args, **kwargs)

        return cast(_Function, run)

    return decorate
