"""The commands that `kills.py` kills: cheap ones on the embedded model, in forks of a process with the libraries."""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from edge_sdk.pocket import PHOTOS

EDGE_SDK = next(iter(entry_points(group="console_scripts", name="edge-sdk")))  # what the installed command runs
PROMPT = "a picture of a person"
KEPT = 40  # pictures that unlearning retains
# Constants of `edge_sdk.unlearning` that make it cheap: it is where and when it writes that counts here.
CHEAP = {"STEPS": 3, "NOISES": 4, "NOISED": 32, "RELEARNING": (1,), "DRAWS": 64}
LIMIT_S = 600  # of a run that is not killed
FEW = shlex.split(
    "--max_train_steps 4 --checkpointing_steps 1 --eval_draws 2 --zo_samples 2 --initializer_token person --quiet"
)


@dataclass(frozen=True)
class Command:
    """One way of writing something.

    Attributes:
        words: of a command that writes to a place.
        output: what appears there.
        weight: of all kills, how many it gets beside the others.
        last: the file with which a folder that is filled bit by bit is complete; "" for an output that appears at once.
        resumes: whether a state is saved from which it goes on.
    """

    words: Callable[[str], list[str]]
    output: str
    weight: int
    last: str = ""
    resumes: bool = False


def commands(inputs: Path) -> dict[str, Command]:
    """By name, on the inputs of `make_inputs`."""

    def personalize(*more: str) -> Callable[[str], list[str]]:
        return lambda out: ["personalize", "--train_data_dir", str(PHOTOS), "--output_dir", out, *FEW, *more]

    def draw(*more: str) -> Callable[[str], list[str]]:
        few = shlex.split("--num_images 3 --num_inference_steps 2 --quiet")
        return lambda out: ["generate", "--prompt", PROMPT, *few, *more, "--output", f"{out}.png"]

    def to_folder(*words: str) -> Callable[[str], list[str]]:
        return lambda out: [*words, "--quiet", "--output_dir", out]

    forget = ["--forget_data_dir", str(inputs / "forget"), "--retain_data_dir", str(inputs / "keep")]
    small = shlex.split(
        "--max_train_steps 4 --checkpointing_steps 1 --forget_batch 2 --retain_batch 2 --num_surrogates 1"
    )
    unlearn = to_folder("unlearn", *forget, *small, "--prompt", PROMPT)
    model = str(inputs / "unlearned" / "model")
    audit = to_folder("audit", "--after", model, *forget, "--prompt", PROMPT, "--samples", "2")
    integers, bundle = ["--pretrained_model_name_or_path", str(inputs / "int8")], ["--bundle", str(inputs / "bundle")]
    return {
        "personalize": Command(personalize(*integers), "run", 6, "preview.png", True),
        "personalize --bundle": Command(personalize(*bundle, "--no_preview"), "run", 20, "run.json", True),
        "generate": Command(draw(*integers), "out", 6),
        "generate --bundle": Command(draw(*bundle), "out", 14),
        "quantize": Command(to_folder("quantize"), "checkpoint", 4, "model_index.json"),
        "export": Command(to_folder("export"), "bundle", 2),
        "export --format coreml": Command(to_folder("export", "--format", "coreml"), "bundle", 1),
        "unlearn": Command(unlearn, "unlearned", 3, "", True),
        "audit": Command(audit, "audit", 1, "audit.json"),
    }


def make_inputs(folder: Path) -> None:
    """A bundle, pictures of the model's own and a model that forgot one of them."""
    out = commands(folder)
    assert run(out["export"].words(str(folder / "bundle"))) == 0
    use_one_thread(folder / "bundle")
    assert run(out["quantize"].words(str(folder / "int8"))) == 0
    draw = ["generate", "--prompt", PROMPT, "--num_images", str(1 + KEPT), "--num_inference_steps", "4", "--quiet"]
    assert run([*draw, "--output", str(folder / "face.png")]) == 0
    for i in range(1 + KEPT):
        place = folder / ("keep" if i else "forget")
        place.mkdir(exist_ok=True)
        (folder / f"face-{i}.png").rename(place / f"{i}.png")
    assert run(out["unlearn"].words(str(folder / "unlearned"))) == 0


def use_one_thread(bundle: Path) -> None:
    """Let a bundle's graphs run in one thread: on busy processors those that wait for one another take far longer."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["runtime"]["onnxruntime"]["intra_op_num_threads"] = 1
    path.write_text(json.dumps(manifest))


def start(words: list[str]) -> int:
    """The process number of a command that runs in a fork of this process, where the libraries are loaded."""
    process = os.fork()
    if process:
        return process
    try:
        with open(os.environ["EDGE_SDK_KILLS_LOG"], "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        print("$", shlex.join(words), flush=True)
        status = EDGE_SDK.load()(words)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 70
    os._exit(status)


def ended(process: int, wait: bool = True) -> int | None:
    """The exit status of a process, negative for a signal; None if it is still at work."""
    number, status = os.waitpid(process, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def run(words: list[str]) -> int:
    """The exit status of a command that nothing disturbs, or that of a killed one after `LIMIT_S`."""
    process, begun = start(words), time.monotonic()
    while (status := ended(process, wait=False)) is None:
        if time.monotonic() - begun > LIMIT_S:
            os.kill(process, signal.SIGKILL)
            return ended(process) or 0
        time.sleep(0.01)
    return status


def load_libraries() -> None:
    """What every fork would load: it is the same in all of them, and takes longer than the work."""
    import diffusers  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import edge_sdk.export.bundle
    import edge_sdk.export.onnx.writer
    import edge_sdk.generation
    import edge_sdk.run_folder
    import edge_sdk.unlearning.audit.audit
    import edge_sdk.unlearning.unlearn  # noqa: F401

    torch.set_num_threads(1)
    for module in [one for name, one in sys.modules.items() if name.startswith("edge_sdk.unlearning.")]:
        for name, value in CHEAP.items():
            if hasattr(module, name):
                setattr(module, name, value)
