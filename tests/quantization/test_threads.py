"""How many threads share a piece of work, and the pool of the compiled products."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from edge_sdk import pocket
from edge_sdk.config import PersonalizeConfig
from edge_sdk.personalizer import Personalizer
from edge_sdk.quantization import native, threads
from edge_sdk.quantization.kernels import Matrix
from edge_sdk.runtime.pytorch.generate import condition, denoise
from edge_sdk.runtime.pytorch.model import open_model
from edge_sdk.zo import evaluate, held_out_draws

compiled = pytest.mark.skipif(native.library() is None, reason="the integer products cannot be compiled here")
DIVIDED = """
import faulthandler, os, resource, sys, torch
from edge_sdk.quantization import native
from edge_sdk.quantization.kernels import Matrix
faulthandler.dump_traceback_later(50, exit=True)
native.threads_for = lambda products: 3
torch.set_num_threads(1)  # OpenMP does not work in a forked child
def product(m, k):
    out = torch.empty(m, 70)
    native.linear(torch.arange(m * k).view(m, k).remainder(7.0), Matrix(torch.ones(70, k, dtype=torch.int8), torch.ones(70)), 16, out)
    return out
native.library()
"""  # noqa: E501 - a program


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def divided(program: str, status: int = 0) -> str:
    """What a program prints whose compiled products are all divided between three threads."""
    done = subprocess.run([sys.executable, "-c", DIVIDED + program], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_only_a_large_product_is_divided() -> None:
    assert [threads.threads_for(size) for size in (1, threads.PRODUCTS - 1, threads.PRODUCTS)] == [1, 1, 3]


def test_pytorch_has_one_thread_where_activations_are_small() -> None:
    with threads.sized(threads.ELEMENTS - 1):
        assert torch.get_num_threads() == 1 and threads.threads_for(threads.PRODUCTS) == 3
        with threads.sized(threads.ELEMENTS):
            assert torch.get_num_threads() == 3 and threads.threads_for(threads.PRODUCTS) == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_an_error_gives_the_threads_back() -> None:
    with pytest.raises(KeyboardInterrupt), threads.sized(1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3 and threads.threads_for(threads.PRODUCTS) == 3


def test_one_thread_that_the_user_chose_stays_one() -> None:
    torch.set_num_threads(1)
    with threads.sized(threads.ELEMENTS):
        assert torch.get_num_threads() == 1 == threads.threads_for(threads.PRODUCTS)


def test_no_operator_of_the_embedded_model_is_divided() -> None:
    """Neither when it learns nor when it draws."""
    model, seen = open_model("pocket"), set()
    prepared = Personalizer(model).prepare(pocket.PHOTOS, PersonalizeConfig())
    objective, initial = prepared.objective, prepared.initial / prepared.scale
    for network in (objective.unet, objective.text.model):
        for module in list(network.modules())[1:]:  # the network itself sees what it will change
            module.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    evaluate(objective, initial, held_out_draws(objective, 0, 2, prepared.zo.timestep_range), 2)
    states = condition(objective.text, ["a picture of a person"], "", [])
    denoise(objective.unet, model.load_schedule(), *states, np.zeros((1, *objective.latents_shape), np.float32), 1, 2.0)
    assert seen == {1}


@compiled
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    program = """
expected = product(300, 700)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(product(300, 700), expected) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.equal(product(300, 700), expected))
"""
    assert divided(program).split() == ["0", "True"]


@compiled
def test_calls_from_several_threads_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "threads_for", lambda products: 3)
    x, matrix = torch.randn(200, 300), Matrix(torch.ones(90, 300, dtype=torch.int8), torch.ones(90))

    def product(_: int) -> torch.Tensor:
        out = torch.empty(200, 90)
        native.linear(x, matrix, 16, out)
        return out

    with ThreadPoolExecutor(4) as pool:
        outs = list(pool.map(product, range(200)))
    assert all(torch.equal(out, product(0)) for out in outs)


@compiled
@pytest.mark.parametrize("room", [0, 24 << 20], ids=["in the call", "in a piece"])
def test_memory_that_is_refused_is_an_error(room: int) -> None:
    """Of a row of a million numbers, a band takes 16 MB here, and a panel of weights, which is made in a piece, 32."""
    program = f"""
x, out = torch.ones(8, 1 << 20), torch.empty(8, 70)
matrix = Matrix(torch.ones(70, 1 << 20, dtype=torch.int8), torch.ones(70))
product(300, 700)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + {room}, resource.RLIM_INFINITY))
try:
    native.linear(x, matrix, 16, out)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
print(product(3, 7)[0, 0].item())
"""
    assert divided(program).splitlines() == ["edge_linear had no memory for its work", "21.0"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000 None"), ({"GOMP_SPINCOUNT": "7"}, "7 None"), ({"OMP_WAIT_POLICY": "active"}, "None active")],
    ids=["nothing", "a count", "a policy"],
)
def test_openmp_spins_shortly_unless_the_user_chose(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    program = "import os, edge_sdk; print(*map(os.environ.get, ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
