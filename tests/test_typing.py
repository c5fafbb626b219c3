"""A user's program under ``mypy --strict``: names have types, and mistakes are found before it runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
from pathlib import Path

import numpy as np
from PIL import Image

import edge_sdk
from edge_sdk import Personalizer, load_embedding

personalizer = Personalizer.from_pretrained("pocket", weights="int8", residency="resident", memory_budget_mb=400)
learning = personalizer.fit([Image.new("RGB", (16, 16)), np.zeros((16, 16, 3), np.uint8), Path("a.png")], seed=1)
for step in learning:
    reveal_type(step.loss)
reveal_type(personalizer)
reveal_type(learning)
reveal_type(len(learning))
reveal_type(learning.held_out_loss())
reveal_type(personalizer.embedding)
reveal_type(personalizer.generate("a picture of <subject>", num_images=2))
reveal_type(edge_sdk.generate("a person", embeddings=[load_embedding("a.safetensors")]))
reveal_type(edge_sdk.personalize("photos", "run", max_train_steps="auto", preset="fast")["loss_final"])
reveal_type(edge_sdk.quantize("model", "out", "int4")["bytes"])
"""
REVEALED = [
    "float",
    "edge_sdk.personalizer.Personalizer",
    "edge_sdk.learning.Learning",
    "int",
    "float",
    "edge_sdk.embedding.LearnedEmbedding",
    "list[PIL.Image.Image]",
    "list[PIL.Image.Image]",
    "float",
    "int",
]
MISTAKES = {
    'edge_sdk.personalize("photos", "run", zo_sample=3)': "call-arg",
    'edge_sdk.personalize("photos", "run", preset="slow")': "arg-type",
    'personalizer.fit("photos", max_train_steps="2")': "arg-type",
    "personalizer.fit(3)": "arg-type",
    'personalizer.fit("photos", weights="int4")': "call-arg",
    'Personalizer.from_pretrained("pocket", weights="int2")': "arg-type",
    'personalizer.generate("a", num_image=2)': "call-arg",
    "personalizer.nothing": "attr-defined",
}


def check(program: str, tmp_path: Path) -> list[str]:
    """What ``mypy --strict`` says of a program, a line each."""
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "user"), "program.py"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()


def test_a_program_sees_types_and_its_mistakes_are_found(tmp_path: Path) -> None:
    lines = check("\n".join([PROGRAM, *MISTAKES]), tmp_path)
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    assert [kind.replace("builtins.", "") for kind in revealed] == REVEALED
    first = len(PROGRAM.splitlines()) + 2  # a line is empty
    for number, (mistake, code) in enumerate(MISTAKES.items(), first):
        assert any(f"program.py:{number}: error" in line and f"[{code}]" in line for line in lines), (mistake, lines)
    assert len([line for line in lines if ": error:" in line]) == len(MISTAKES), lines
