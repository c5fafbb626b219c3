"""A few of the kills of `benchmarks.kills`: the bundle's commands, which are the quickest."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.kill_commands import use_one_thread


def test_killed_commands_leave_whole_outputs_and_end_in_the_same_bytes(
    bundle_of: Callable[[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "inputs").mkdir()
    use_one_thread(Path(shutil.copytree(bundle_of("pocket", "int8"), tmp_path / "inputs" / "bundle")))
    words = ["--kills", "3", "--inputs", str(tmp_path / "inputs"), "--output", str(tmp_path / "kills.json")]
    words += ["--commands", "personalize --bundle", "generate --bundle"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *words], capture_output=True, text=True,
        cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "kills.json").read_text())
    assert record["problems"] == [] and record["counts"]["all"]["kills"] == 3
