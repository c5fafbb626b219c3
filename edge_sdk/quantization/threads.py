"""How many threads share a piece of work. Small work is not divided: waking a thread, or waiting for one, costs more.

PyTorch divides operators of some ten thousand elements, and its OpenMP threads spin for one another at both ends. So
beside other programs a network of such operators spends its time in waiting. PyTorch has one thread where activations
are small. The compiled products do not wait for one another, and have all threads for every large product.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from edge_sdk.quantization.activations import reused

PRODUCTS = 1 << 24  # multiplications of a compiled call from which on it is divided: a third of a millisecond
ELEMENTS = 1 << 20  # of a network's largest activations from which on PyTorch divides its operators
_Function = TypeVar("_Function", bound=Callable[..., Any])
_given: ContextVar[int | None] = ContextVar("given", default=None)  # what PyTorch has outside of `sized`


def threads_for(products: int) -> int:
    """Threads for a compiled call of so many multiplications: one, or as many as PyTorch was given."""
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
