"""Model folders that ask for their own code to be run, in every way that a library has read such a wish."""

import json
import shutil
import sys
from pathlib import Path

import pytest

CLASS = "Evil"
NAMES = ("evil.py", "modeling_evil.py", "pipeline.py", "pipeline_evil.py", "__init__.py")


class Hostile:
    """A copy of a model that still works, beside whose files lie programs that leave a mark when they are run."""

    def __init__(self, source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.mark = Path(shutil.copytree(source, folder)), folder.with_name("was-run")
        program = (
            f"open({str(self.mark)!r}, 'w')\nclass {CLASS}:\n    def __getattr__(self, name): raise SystemExit(9)\n"
        )
        for place in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
            for name in NAMES:
                (place / name).write_text(program)
        wishes = {
            kind: f"evil.{CLASS}" for kind in ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoModelForTextEncoding")
        }
        for path in self.folder.rglob("*config.json"):
            self.edit(path, auto_map=wishes, trust_remote_code=True, attn_implementation="evil/kernel",
                      _attn_implementation="evil/kernel", custom_pipeline="pipeline.py")  # fmt: skip
        for path in self.folder.glob("tokenizer*/tokenizer_config.json"):
            self.edit(path, tokenizer_class=CLASS, auto_map={"AutoTokenizer": [f"evil.{CLASS}", f"evil.{CLASS}"]})
        index = self.folder / "model_index.json"
        if index.exists():
            entries = json.loads(index.read_text())
            named = {name: ["evil", CLASS] for name, entry in entries.items() if isinstance(entry, list) and any(entry)}
            more = {
                "safety_checker": ["evil", CLASS],
                "feature_extractor": ["evil", CLASS],
                "image_encoder": ["evil", CLASS],
            }
            wish = {
                "_class_name": ["pipeline_evil", CLASS],
                "custom_pipeline": "pipeline.py",
                "trust_remote_code": True,
            }
            self.edit(index, **named, **more, **wish)
        monkeypatch.syspath_prepend(str(self.folder))  # so that a bare import of one would succeed
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    @staticmethod
    def edit(path: Path, **changes: object) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    @property
    def was_run(self) -> bool:
        return self.mark.exists() or {"evil", "modeling_evil", "pipeline_evil"} & set(sys.modules) != set()
