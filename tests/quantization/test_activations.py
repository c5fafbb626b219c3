"""Activations of a forward pass use freed memory again, and never hold more than the pass would have without that."""

import threading

import pytest
import torch

from edge_sdk.quantization import activations
from edge_sdk.quantization.activations import LARGE, empty, lasting, reused

COUNT = LARGE // 4  # float32 numbers of the smallest block


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the blocks that the system was asked for."""
    sizes: list[int] = []
    real = activations.mmap.mmap
    monkeypatch.setattr(
        activations.mmap, "mmap", lambda place, size, **how: (sizes.append(size), real(place, size, **how))[1]
    )
    return sizes


def test_a_freed_block_is_used_again(mapped: list[int]) -> None:
    with reused():
        first = empty((2, COUNT)).fill_(3)
        place = first.data_ptr()
        del first
        second = empty((COUNT, 2))
        assert second.data_ptr() == place and second.shape == (COUNT, 2) and second.is_contiguous()
    assert mapped == [2 * LARGE]


def test_a_view_keeps_its_block(mapped: list[int]) -> None:
    with reused():
        view = empty((COUNT,)).fill_(5)[7:9]
        empty((COUNT,)).fill_(6)
        assert view.tolist() == [5, 5]
    assert len(mapped) == 2 and view.tolist() == [5, 5]  # also after the pass


def test_what_is_kept_and_used_is_at_most_what_was_used_at_once() -> None:
    with reused():
        blocks = activations._blocks.get()
        assert blocks is not None
        for size in (1, 4, 2, 3, 4, 1):
            pair = [empty((size, COUNT)) for _ in range(2)]
            assert blocks.used + blocks.unused <= blocks.most <= 2 * 4 * LARGE
            pair.clear()
            assert blocks.used == 0 and blocks.unused == sum(map(len, blocks.kept)) <= blocks.most
    assert not blocks.kept


def test_a_block_that_outlives_its_pass_is_returned_to_the_system() -> None:
    with reused():
        blocks = activations._blocks.get()
        kept = empty((COUNT,))
    del kept
    assert blocks is not None and not blocks.kept and blocks.used == 0


def test_small_tensors_and_those_outside_of_a_pass_are_pytorchs(mapped: list[int]) -> None:
    assert empty((3, COUNT), torch.uint8).dtype == torch.uint8
    with reused():
        assert empty((COUNT - 1,)).shape == (COUNT - 1,)
    assert not mapped


def test_an_inner_pass_shares_the_blocks_of_the_outer_one(mapped: list[int]) -> None:
    with reused():
        for _ in range(3):
            with reused():
                empty((COUNT,))
    assert len(mapped) == 1


def test_threads_have_passes_of_their_own(mapped: list[int]) -> None:
    with reused():
        empty((COUNT,))
        outside = threading.Thread(target=lambda: empty((COUNT,)))
        outside.start()
        outside.join()
        empty((COUNT,))
    assert len(mapped) == 1


@pytest.mark.skipif(not hasattr(activations.mmap, "MAP_PRIVATE"), reason="this system has no such memory")
def test_blocks_belong_to_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    real = activations.mmap.mmap
    monkeypatch.setattr(
        activations.mmap, "mmap", lambda place, size, flags=0, **how: (found.append(flags), real(place, size, flags))[1]
    )
    with reused():
        empty((COUNT,))
    lasting(COUNT, torch.device("cpu"))
    assert len(found) == 2 and all(each & activations.mmap.MAP_PRIVATE for each in found)


def test_lasting_memory_is_not_kept_for_others() -> None:
    with reused():
        blocks, first = activations._blocks.get(), lasting(COUNT, torch.device("cpu")).fill_(2)
        assert blocks is not None and blocks.used == 0
        del first
        assert not blocks.kept
    assert lasting(3, torch.device("cpu")).shape == (3,)
