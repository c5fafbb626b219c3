"""What killed runs of unlearning and audits leave: nobody is locked out, and nothing stays for good."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from edge_sdk.cli.main import main
from edge_sdk.unlearning import unlearn as module

pytestmark = pytest.mark.usefixtures("no_probe")
RESUME = ("--resume_from_checkpoint", "latest")
LEFT = f".edge-sdk-{'0' * 32}.tmp"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("resume", [(), RESUME], ids=["the same command", "resumed"])
def test_a_run_without_a_state_starts_from_the_beginning(
    resume: tuple[str, ...], model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    work = tmp_path / ".out.unlearning"
    (work / LEFT).mkdir(parents=True)
    (work / LEFT / module.STATE).write_bytes(b"half")
    (work / ".lock").touch()
    (tmp_path / LEFT / "out" / "model").mkdir(parents=True)
    assert main(command(model_of["ddpm"], *resume)) == 0
    assert os.listdir(tmp_path) == ["out"]


def test_what_a_run_that_was_killed_after_its_results_left_is_removed(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / module.RECORD).touch()
    (tmp_path / ".out.unlearning").mkdir()
    (tmp_path / ".out.unlearning" / module.STATE).touch()
    assert main(command(model_of["ddpm"])) == 2
    assert os.listdir(tmp_path) == ["out"]


def test_a_state_is_private_and_salted_and_results_are_as_the_umask_says(
    model_of: dict[str, Path], command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities: list[str] = []
    real = module._identity
    monkeypatch.setattr(module, "_identity", lambda *words: identities.append(real(*words)) or identities[-1])
    before = os.umask(0o022)
    try:
        with monkeypatch.context() as broken_off:
            broken_off.setattr(module, "_record", interrupted)
            assert main(command(model_of["ddpm"], "--checkpointing_steps", "1")) == 130
        work = tmp_path / ".out.unlearning"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (work, *work.iterdir())}
        assert modes == {work.name: 0o700, ".lock": 0o600, module.STATE: 0o600}
        with safe_open(work / module.STATE, "pt") as file:
            assert file.metadata()["identity"] not in identities
        assert main(command(model_of["ddpm"], "--checkpointing_steps", "1", *RESUME)) == 0
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*")}
    assert modes == {0o644, 0o755}
