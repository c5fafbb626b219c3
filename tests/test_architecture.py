"""The import rules of the house, read off the source, and what is loaded when."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "edge_sdk").rglob("*.py"))
WORK = ROOT / "benchmarks" / "work"  # models, and an emulated Python with its packages
SOURCES = PACKAGE + sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if WORK not in path.parents)
MAX_LINES = 350
HEAVY = ("torch", "onnxruntime", "transformers", "diffusers", "optimum")
PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
UNPICKLERS = ("torch.load", "torch.hub.load", "torch.jit.load", "numpy.load", "np.load", "pd.read_pickle")

# A finder that does not find some packages, as if they were not installed.
WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {hidden!r}
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from edge_sdk.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in the file; ``from a import b`` gives both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_rules_see_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "edge_sdk" / "zo" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import os, torch.nn\nfrom .. import errors\nfrom .loop import run\n"
        "def f():\n    from edge_sdk import cli\n    importlib.import_module('pickle')\n"
    )
    seen = set(imports(path))
    assert {"os", "torch.nn", "edge_sdk.errors", "edge_sdk.zo.loop.run", "edge_sdk.cli", "pickle"} <= seen


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.parent.name == "zo"], ids=name_of)
def test_the_optimizer_needs_numpy_only(path: Path) -> None:
    allowed = ("numpy", "edge_sdk.zo", "edge_sdk.system", *sys.stdlib_module_names)
    assert [module for module in imports(path) if not any(is_in(module, each) for each in allowed)] == []


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.parent.name == "system"], ids=name_of)
def test_readers_of_files_need_the_standard_library_and_no_package_for_models(path: Path) -> None:
    weights = ("safetensors",) if path.name == "safetensors.py" else ()
    allowed = ("edge_sdk.errors", "edge_sdk.system", *weights, *sys.stdlib_module_names)
    assert [module for module in imports(path) if not any(is_in(module, each) for each in allowed)] == []


# Modules of the package that the runtime may use, none of which needs PyTorch.
SMALL = (
    "config",
    "ddim",
    "embedding",
    "errors",
    "images",
    "memory",
    "prepared",
    "runtime",
    "system",
    "tokenizer",
    "zo",
)


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.parent.name == "runtime"], ids=name_of)
def test_the_runtime_needs_numpy_and_onnxruntime_only(path: Path) -> None:
    own = tuple(f"edge_sdk.{name}" for name in SMALL)
    allowed = ("numpy", "onnxruntime", *own, *sys.stdlib_module_names)
    seen = [module for module in imports(path) if module != "edge_sdk"]
    assert [module for module in seen if not any(is_in(module, each) for each in allowed)] == []


def test_what_the_runtime_uses_loads_no_torch() -> None:
    modules = " ".join(
        f"edge_sdk.{name}" for name in (*SMALL, "runtime.model", "personalize", "run_folder", "generate")
    )
    done = run(f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}.split()]; "
               "print(*{name.partition('.')[0] for name in sys.modules})")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & set(HEAVY) == {"onnxruntime"}


def test_only_one_file_knows_quanto() -> None:
    users = [name_of(path) for path in PACKAGE if any(is_in(module, "optimum") for module in imports(path))]
    assert users == ["edge_sdk/quantization/quanto.py"]


def test_the_model_families_do_not_know_the_optimizer() -> None:
    files = [path for path in PACKAGE if path.parent.name == "diffusion"]
    assert len(files) >= 4
    assert [name_of(path) for path in files if any(is_in(module, "edge_sdk.zo") for module in imports(path))] == []


def test_nothing_imports_the_command_line_but_itself() -> None:
    others = [path for path in SOURCES if path.parent.name != "cli"]
    assert [name_of(path) for path in others if any(is_in(module, "edge_sdk.cli") for module in imports(path))] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_can_open_a_pickle(path: Path) -> None:
    assert [module for module in imports(path) if any(is_in(module, each) for each in PICKLES)] == []
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if ast.unparse(call.func) in UNPICKLERS] == []
    assert not {"torch.load", "torch.hub.load"} & set(imports(path))
    assert "allow_pickle" not in {keyword.arg for call in calls for keyword in call.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_lets_a_models_folder_choose_what_is_imported(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    by_index = re.compile(r".*(Pipeline|Auto(Model|Tokenizer|Config|Processor)\w*)\.from_pretrained")
    assert [call.lineno for call in calls if by_index.fullmatch(ast.unparse(call.func))] == []
    assert not {"trust_remote_code", "custom_pipeline"} & {keyword.arg for call in calls for keyword in call.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    "program",
    ["import edge_sdk", "from edge_sdk.cli.main import build_parser; build_parser()"],
    ids=["the package", "the parser"],
)
def test_what_answers_at_once_loads_nothing_heavy(program: str) -> None:
    done = run(f"import sys; {program}; print(*{{name.partition('.')[0] for name in sys.modules}})")
    assert done.returncode == 0, done.stderr
    assert "edge_sdk" in done.stdout.split() and not set(HEAVY) & set(done.stdout.split())


@pytest.mark.parametrize("hidden", [("torch",), HEAVY], ids=["no torch", "nothing of the extra"])
@pytest.mark.parametrize(
    "command", ["personalize", "generate", "quantize", "demo", "demo --unlearn", "unlearn", "audit"]
)
def test_a_missing_extra_is_named_in_one_line(
    command: str, hidden: tuple[str, ...], tmp_path: Path, photos: Path
) -> None:
    out = str(tmp_path / "out")
    arguments = {
        "personalize": ["--train_data_dir", str(photos), "--output_dir", out],
        "generate": ["--prompt", "a dog", "--output", f"{out}.png"],
        "quantize": ["--output_dir", out],
        "demo": ["--output_dir", out, "--quiet"],
        "demo --unlearn": ["--output_dir", out, "--quiet"],
        "unlearn": ["--forget_data_dir", str(photos), "--retain_data_dir", str(photos), "--output_dir", out],
        "audit": [
            *("--after", "pocket", "--forget_data_dir", str(photos), "--retain_data_dir", str(photos)),
            *("--output_dir", out),
        ],
    }[command]
    done = run(WITHOUT.replace("{hidden!r}", repr(set(hidden))), *command.split(), *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("edge-sdk: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "pip install 'edge-sdk[torch]'" in done.stderr
    assert not any(tmp_path.iterdir())
