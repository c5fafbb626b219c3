"""Kills without warning over all writing commands: `python -m benchmarks.safety.kills --kills 200 --seed 0`.

A command is killed at a random moment or shortly after a temporary folder appears, sometimes again while it goes on,
and then run to its end. Checked are: every output is absent or whole after each kill, the last run succeeds with the
bytes of a run that nothing disturbed, and nothing temporary is left. The commands are cheap ones on the embedded model.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.report import machine, markdown, say
from benchmarks.safety.kill_commands import Command, commands, ended, load_libraries, make_inputs, run, start
from edge_sdk.system.checkpoints import load_state
from edge_sdk.system.files import SHIPPED, write_json

OUTPUT = Path("benchmarks/results/kills.json")
AGAIN = 0.75  # how often what goes on is killed too
MOMENTS = ("random", "temporary")
# Files that hold times, salts or random ids.
VARIABLE = ("run.json", "unlearn.json", "unlearned.json", "audit.json", "audit.html", "Manifest.json")


@dataclass
class Reference:
    """A run that nothing disturbed."""

    seconds: float
    stagings: int  # temporary folders that it had
    files: dict[str, bytes] = field(repr=False)


def stagings(place: Path) -> set[str]:
    """Temporary folders at work in a folder and one level below."""
    names = set[str]()
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(place)):
            if entry.name.startswith(".edge-sdk-"):
                names.add(entry.name)
            elif entry.name in ("run", "checkpoint", "audit", ".unlearned.unlearning"):
                names |= stagings(Path(entry.path))
    return names


def kill(words: list[str], place: Path, moment: str, reference: Reference, rng: np.random.Generator) -> int:
    """Run a command until a moment and kill it; its exit status, which may be that of an end before."""
    after_s, number = rng.uniform(0, reference.seconds), int(rng.integers(1, reference.stagings + 1))
    delay_s = rng.choice([0.0, rng.uniform(0, 0.02)])
    process, begun, seen = start(words), time.monotonic(), set[str]()
    while (status := ended(process, wait=False)) is None:
        if moment == "random" and time.monotonic() - begun >= after_s:
            break
        if moment == "temporary":
            seen |= stagings(place)
            if len(seen) >= number:
                time.sleep(delay_s)
                break
        time.sleep(0.0005 if moment == "temporary" else 0.002)
    if status is not None:
        return status
    os.kill(process, signal.SIGKILL)
    return ended(process) or 0


def is_variable(path: Path) -> bool:
    """Whether two runs write different bytes; the manifest of a Core ML bundle has hashes of such files."""
    return path.name in VARIABLE or (path.name == "manifest.json" and any(path.parent.glob("*.mlpackage")))


def is_unfinished(path: Path) -> bool:
    """Whether it is the record of an audit at work, which has limits and no verdict."""
    return path.name == "audit.json" and json.loads(path.read_text())["passed"] is None


def contents(place: Path) -> dict[str, bytes]:
    """What lies in a folder, by path, but for locks, checkpoints and what differs from run to run."""
    files = (path for path in sorted(place.rglob("*")) if path.is_file())
    named = {path.relative_to(place).as_posix(): path for path in files}
    hidden = {name for name in named if any(part.startswith(".") or "checkpoint-" in part for part in name.split("/"))}
    return {
        name: b"" if is_variable(path) else path.read_bytes()
        for name, path in named.items()
        if name not in hidden and not is_unfinished(path)
    }


def partial(place: Path, command: Command, reference: Reference) -> list[str]:
    """What is neither absent nor whole after a kill."""
    problems = []
    for path in place.rglob("*"):
        if any(part.startswith(".edge-sdk-") for part in path.parts) or not path.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.suffix == ".json":
                json.loads(path.read_text())
            if path.name == "state.safetensors" and path.parent.name.startswith("checkpoint-"):
                load_state(path)
    files = contents(place)
    problems += [f"{name} differs" for name in files if files[name] != reference.files.get(name)]
    finished = not command.last or (place / command.output / command.last).exists()
    if finished and any(name.startswith(f"{command.output}/") for name in files):
        problems += [f"{name} is missing" for name in reference.files if name not in files]
    return problems


def leftovers(place: Path) -> list[str]:
    """What is temporary and still there."""
    names = (path.relative_to(place).as_posix() for path in place.rglob("*"))
    return [name for name in names if name.endswith((".tmp", ".unlearning"))]


def go_on(words: list[str], place: Path, command: Command, rng: np.random.Generator) -> list[str]:
    """The words of the run after a kill: a saved state is resumed, where there is none both ways must do."""
    if not command.resumes:
        return words
    saved = [*place.glob("run/checkpoint-*/state.safetensors"), *place.glob(".unlearned.unlearning/state.safetensors")]
    begun = (place / "run" / ".lock").exists() or (place / ".unlearned.unlearning").exists()
    if saved or (begun and rng.random() < 0.5):
        return [*words, "--resume_from_checkpoint", "latest"]
    return words


def is_done(place: Path, command: Command, reference: Reference) -> bool:
    """Whether all outputs are there: the kill came after the work."""
    return set(contents(place)) >= set(reference.files)


def measure(command: Command, folder: Path) -> Reference:
    """A run that nothing disturbs: how long it takes, and what it leaves."""
    words, seen, begun = command.words(str(folder / command.output)), set[str](), time.monotonic()
    process = start(words)
    while (status := ended(process, wait=False)) is None:
        seen |= stagings(folder)
        time.sleep(0.0005)
    assert status in (0, 1), f"{words} ends with {status}"  # an audit of so few pictures keeps no limit
    return Reference(time.monotonic() - begun, max(1, len(seen)), contents(folder))


def one_case(
    command: Command, folder: Path, reference: Reference, moment: str, rng: np.random.Generator, most: int
) -> dict[str, Any]:
    """Kill a command, at most so often, until it may end; what was found."""
    case: dict[str, Any] = {"moment": moment, "kills": 0, "problems": [], "resumed": False}
    words = first = command.words(str(folder / command.output))
    while case["kills"] < most and (case["kills"] == 0 or rng.random() < AGAIN):
        status = kill(words, folder, moment, reference, rng)
        if status != -signal.SIGKILL:
            if status not in (0, 1):
                case["problems"].append(f"status {status} of {shlex.join(words)}")
            break
        case["kills"] += 1
        case["problems"] += partial(folder, command, reference)
        if is_done(folder, command, reference):
            break
        words = go_on(first, folder, command, rng)
    if not is_done(folder, command, reference):
        case["resumed"] = "--resume_from_checkpoint" in words
        status = run(words)
        if status not in (0, 1):
            case["problems"].append(f"status {status} of {shlex.join(words)}")
    else:  # killed after its last rename; another command in the same place tidies up
        run(first)
    files = contents(folder)
    case["problems"] += [f"{n} differs at the end" for n in reference.files if files.get(n) != reference.files[n]]
    case["problems"] += [f"{name} is left" for name in leftovers(folder)]
    return case


def cases(chosen: dict[str, Command], work: Path, kills: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of a command and what was found, until there were so many kills."""
    names = [name for name, command in chosen.items() for _ in range(command.weight)]
    rng, references, done = np.random.default_rng(seed), dict[str, Reference](), 0
    order = [names[i] for i in rng.permutation(len(names))]
    for i in range(10 * kills):
        name = order[i % len(order)]
        if name not in references:
            references[name] = measure(chosen[name], Path(tempfile.mkdtemp(dir=work)))
            print(
                f"{name}: {references[name].seconds:.1f} s, {references[name].stagings} temporary folders", flush=True
            )
        folder = Path(tempfile.mkdtemp(dir=work))
        case = one_case(chosen[name], folder, references[name], MOMENTS[i % 2], rng, kills - done)
        done += case["kills"]
        if not case["problems"]:
            shutil.rmtree(folder)
        print(f"{done}/{kills} {name} {case}", flush=True)
        yield name, case
        if done >= kills:
            return


def summary(found: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """Counts by command and in all."""
    rows = {name: [case for one, case in found if one == name] for name in dict.fromkeys(name for name, _ in found)}
    rows["all"] = [case for _, case in found]
    return {
        name: {
            "kills": sum(case["kills"] for case in some),
            "with_temporary_folder": sum(case["kills"] for case in some if case["moment"] == "temporary"),
            "finished_runs": len(some),
            "resumed": sum(case["resumed"] for case in some),
            "problems": sum(len(case["problems"]) for case in some),
        }
        for name, some in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.safety.kills", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--inputs", type=Path, metavar="DIR", help="what make_inputs made (default: make it)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-sdk-kills-") as folder:
        work = Path(folder)
        os.environ["EDGE_SDK_KILLS_LOG"] = str(work / "log.txt")
        chosen = {
            name: one
            for name, one in commands(args.inputs or work / "inputs").items()
            if name in (args.commands or [name])
        }
        if args.inputs is None or any("--bundle" not in name for name in chosen):
            load_libraries()
        if args.inputs is None:
            (work / "inputs").mkdir()
            make_inputs(work / "inputs")
        found = list(cases(chosen, work, args.kills, args.seed))
        problems = [f"{name}: {problem}" for name, case in found for problem in case["problems"]]
        if problems:
            print((work / "log.txt").read_text()[-4000:])
    counts = summary(found)
    command = shlex.join(["python", "-m", "benchmarks.safety.kills", *sys.argv[1:]])
    record = {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "seed": args.seed,
        "counts": counts,
        "problems": problems,
    }
    write_json(args.output, record, SHIPPED)
    head = list(counts["all"])
    table = [[name, *(str(row[key]) for key in head)] for name, row in counts.items()]
    say(markdown(["command", *(key.replace("_", " ") for key in head)], table), command, args.output)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
