"""Checkpoints: whole or not at all, checked when read, the older one when the newer is damaged."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from edge_sdk.zo import (
    CheckpointError,
    State,
    ZoConfig,
    latest_checkpoint,
    load_state,
    run,
    save_checkpoint,
    save_state,
)
from tests.zo.objectives import Quadratic

CONFIG = ZoConfig(max_train_steps=40, zo_samples=2, subspace_buffer=8, subspace_threshold=0.1)


def state_after(steps: int) -> State:
    state = State.start(CONFIG, 1, np.ones((2, 3), np.float32))
    loop = run(Quadratic((2, 3)), state)
    for _ in range(steps):
        next(loop)
    return state


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    state = state_after(11)
    save_state(tmp_path / "s.safetensors", state, {})
    tensors = load_file(tmp_path / "s.safetensors")
    assert (tensors["embedding"] == state.embedding).all() and (tensors["adam_v"] == state.adam.v).all()


def test_a_stable_diffusion_token_takes_less_than_a_megabyte(tmp_path: Path) -> None:
    state = State.start(ZoConfig(), 0, np.zeros((1, 768), np.float32))
    rng = np.random.default_rng(0)
    for _ in range(2 * 128 - 1):
        state.subspace.push(rng.standard_normal((1, 768), dtype=np.float32))
    save_state(tmp_path / "s.safetensors", state, {})
    assert (tmp_path / "s.safetensors").stat().st_size < 1_000_000


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for steps in (1, 2, 10, 11):
        save_checkpoint(tmp_path, state_after(steps), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-11"]


def damage_cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_empty(data: bytes) -> bytes:
    return b""


def damage_header(data: bytes) -> bytes:
    return data.replace(b'"F32"', b'"F16"', 1)


def damage_nan(data: bytes) -> bytes:
    return data[:-8] + np.array([np.nan]).tobytes()


def damage_schema(data: bytes) -> bytes:
    return data.replace(b'"schema_version": "3"', b'"schema_version": "9"')


def damage_extra(data: bytes) -> bytes:
    return data + b"more"


@pytest.mark.parametrize(
    "damage",
    [damage_cut, damage_empty, damage_header, damage_nan, damage_schema, damage_extra],
    ids=lambda f: f.__name__.removeprefix("damage_"),
)
def test_a_damaged_file_is_refused_and_the_older_one_used(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    save_checkpoint(tmp_path, state_after(5), {})
    newest = save_checkpoint(tmp_path, state_after(9), {})
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.raises(CheckpointError, match=r"^[^\n]*checkpoint-9[^\n]*$"):
        load_state(newest)
    state, path, problems = latest_checkpoint(tmp_path)
    assert state.step == 5 and path.parent.name == "checkpoint-5" and "checkpoint-9" in problems[0]


def test_random_bit_flips_raise_nothing_but_checkpoint_errors(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state_after(9), {})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        data[rng.integers(1200)] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(data))
        try:
            load_state(path)
        except CheckpointError as error:
            assert "\n" not in str(error)


EDITED: dict[str, Callable[[dict[str, np.ndarray], dict[str, str]], object]] = {
    "step below zero": lambda t, m: t["counts"].__setitem__(0, -7),
    "step beyond any run": lambda t, m: t["counts"].__setitem__(0, 2**62),
    "more updates than steps": lambda t, m: t["counts"].__setitem__(4, 10),
    "forward passes below zero": lambda t, m: t["counts"].__setitem__(1, -1),
    "seconds below zero": lambda t, m: t["seconds"].__setitem__(0, -1.0),
    "seed below zero": lambda t, m: m.update(seed="-1"),
    "seed of 40 digits": lambda t, m: m.update(seed="9" * 40),
    "seed a word": lambda t, m: m.update(seed="lucky"),
    "steps of 30 digits": lambda t, m: m.update(config=m["config"].replace(": 40,", f": {10**30},")),
    "steps a fraction": lambda t, m: m.update(config=m["config"].replace(": 40,", ": 40.5,")),
    "steps a text": lambda t, m: m.update(config=m["config"].replace(": 40,", ': "40",')),
    "steps true": lambda t, m: m.update(config=m["config"].replace(": 40,", ": true,")),
    "deep config": lambda t, m: m.update(config="[" * 100_000),
    "deep fingerprints": lambda t, m: m.update(fingerprints='{"a":' * 5000 + "1" + "}" * 5000),
    "fingerprints a list": lambda t, m: m.update(fingerprints="[]"),
    "timesteps of texts": lambda t, m: m.update(config=m["config"].replace("[500, 900]", '["5", "9"]')),
    "longer history than the buffer": lambda t, m: t.update(subspace_history=np.zeros((9, 6), np.float32)),
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_an_edited_checkpoint_is_passed_over_for_the_older_one(
    edit: Callable[[dict[str, np.ndarray], dict[str, str]], object], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, state_after(5), {})
    path = save_checkpoint(tmp_path, state_after(9), {})
    with safe_open(path, "np") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, metadata)
    assert load_state(path).step == 9
    edit(tensors, metadata)
    save_file(tensors, path, metadata)
    state, _, (problem,) = latest_checkpoint(tmp_path)
    assert state.step == 5 and str(path) in problem and "\n" not in problem and len(problem) < 600


def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state_after(5), {})
    (tmp_path / "checkpoint-9").mkdir()
    os.mkfifo(tmp_path / "checkpoint-9" / "state.safetensors")
    state, _, (problem,) = latest_checkpoint(tmp_path)
    assert state.step == 5 and "a named pipe" in problem


def test_other_fingerprints_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state_after(3), {"model": "a", "photos": "b"})
    load_state(path, {"model": "a", "photos": "b"})
    with pytest.raises(CheckpointError, match="made with another photos"):
        load_state(path, {"model": "a", "photos": "c"})


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    found: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    return found


def test_fingerprints_are_kept_as_salted_hashes(tmp_path: Path) -> None:
    photos = hashlib.sha256(b"photos").hexdigest()
    kept = []
    for name in ("a", "b"):
        save_state(tmp_path / name, state_after(3), {"photos": photos})
        load_state(tmp_path / name, {"photos": photos})
        kept.append(json.loads(metadata(tmp_path / name)["fingerprints"])["photos"])
        assert photos.encode() not in (tmp_path / name).read_bytes()
    assert kept[0] != kept[1]


def test_a_checkpoint_of_an_earlier_version_without_a_salt_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_state(path, state_after(3), {"photos": "b"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]["salt"]
    header["__metadata__"]["fingerprints"] = json.dumps({"photos": "b"})
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert load_state(path, {"photos": "b"}).step == 3
    with pytest.raises(CheckpointError, match="made with another photos"):
        load_state(path, {"photos": "c"})


@pytest.mark.parametrize("entry", ["config", "fingerprints"])
def test_a_newest_checkpoint_of_deep_json_falls_back_to_the_older_one(entry: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state_after(5), {})
    newest = save_checkpoint(tmp_path, state_after(9), {})
    data = newest.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"][entry] = "[" * 100_000
    text = json.dumps(header).encode()
    newest.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    state, _, problems = latest_checkpoint(tmp_path)
    assert state.step == 5 and len(problems) == 1 and "checkpoint-9" in problems[0]


def test_a_checkpoint_of_the_same_step_is_replaced_whole(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state_after(5), {})
    path.write_bytes(b"damaged")
    assert save_checkpoint(tmp_path, state_after(5), {}) == path and load_state(path).step == 5
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_folder_appears_with_its_state_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        seen.append((target / "state.safetensors").exists() and load_state(target / "state.safetensors").step == 5)

    monkeypatch.setattr(os, "replace", replace)
    save_checkpoint(tmp_path, state_after(5), {})
    assert seen == [True]


def test_what_is_no_checkpoint_goes_if_it_is_empty_and_stays_if_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "mine").touch()
    save_checkpoint(tmp_path, state_after(5), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-5"]


def test_a_folder_without_checkpoints_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-7").mkdir()  # a folder without a state counts for nothing
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint_whole(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.safetensors"
    save_state(path, state_after(3), {})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        save_state(path, state_after(4), {})
    monkeypatch.undo()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["s.safetensors"]


def test_a_checkpoint_that_cannot_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, state_after(3), {})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        save_checkpoint(tmp_path, state_after(4), {})
    assert os.listdir(tmp_path) == ["checkpoint-3"]


def test_kill_9_at_any_moment_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edge_sdk.zo import save_checkpoint\n"
        "from tests.zo.test_checkpoint import state_after\n"
        "state = state_after(3)\n"
        "while True:\n"
        "    save_checkpoint(Path(sys.argv[1]), state, {}); state.step += 1; print(state.step, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
        assert process.stdout is not None
        for _ in range(3 + attempt):
            process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        state, _, _ = latest_checkpoint(tmp_path)
        assert state.step >= 3


def test_the_package_needs_numpy_only() -> None:
    program = (
        "import sys, edge_sdk.zo\n"
        "third = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(m for m in third if not m.startswith(('_', 'edge_sdk', 'numpy', 'sitecustomize'))))\n"
    )
    out = subprocess.run(
        [sys.executable, "-S", "-c", "import site; site.main();" + program], capture_output=True, text=True
    )
    loaded = set(eval(out.stdout))
    assert not loaded & {"torch", "safetensors", "PIL", "onnxruntime", "transformers", "diffusers"}, out.stderr
