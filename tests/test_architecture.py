"""The import rules of the house, read off the source, and what is loaded when."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORK = ROOT / "benchmarks" / "work"  # models, and an emulated Python with its packages
NODE = "node_modules"
PACKAGE = sorted((ROOT / "edge_sdk").rglob("*.py"))  # edge_sdk/export is a link, which rglob does not follow
EXPORT = sorted(path for path in (ROOT / "export").rglob("*.py") if NODE not in path.parts)
SOURCES = PACKAGE + EXPORT + sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if WORK not in path.parents)
# The house, from the ground up. An import goes to the same floor or to a lower one, wherever in a file it stands.
FLOORS = [
    ["errors", "_version"],
    ["zo"],
    ["system"],
    [
        "captions",
        "color_profile",
        "config",
        "images",
        "picture_file",
        "embedding",
        "learning",
        "mu_floor",
        "option_types",
        "photos",
        "pocket",
        "progress",
        "time_budget",
    ],
    ["quantization"],
    ["diffusion"],
    ["runtime"],
    ["generation", "integer_checkpoint"],
    ["preparation"],
    ["personalizer"],
    ["preview", "run_log"],
    ["forecast"],
    ["run", "run_folder"],
    ["unlearning", "export"],
    ["cli"],
]
ROSTER = ("generate", "model", "objective", "text")  # the files of a runtime
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


def run(program: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=cwd)


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


READERS = ("atomic.py", "inputs.py", "json.py", "safetensors.py", "schema.py")


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.name in READERS], ids=name_of)
def test_readers_of_files_need_the_standard_library_and_no_package_for_models(path: Path) -> None:
    weights = ("safetensors",) if path.name == "safetensors.py" else ()
    allowed = ("edge_sdk.errors", "edge_sdk.system", *weights, *sys.stdlib_module_names)
    assert [module for module in imports(path) if not any(is_in(module, each) for each in allowed)] == []


@pytest.mark.parametrize("path", [path for path in PACKAGE if "runtime/onnx" in path.as_posix()], ids=name_of)
def test_the_bundle_runtime_needs_no_torch(path: Path) -> None:
    seen = [module for module in imports(path) if not is_in(module, "edge_sdk")]
    allowed = ("numpy", "onnxruntime", *sys.stdlib_module_names)
    assert [module for module in seen if not any(is_in(module, each) for each in allowed)] == []


def test_what_a_bundle_run_uses_loads_no_torch() -> None:
    modules = "edge_sdk.runtime.onnx.model edge_sdk.personalizer edge_sdk.run_folder edge_sdk.generation"
    done = run(
        f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}.split()]; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & set(HEAVY) == {"onnxruntime"}


def graph() -> dict[str, set[str]]:
    """What each module of the package imports of the package."""
    paths = {module_of(path): path for path in PACKAGE + EXPORT}
    del paths["edge_sdk"]  # the front door names the public functions, wherever they live
    imported = {name: {i for i in imports(path) if i in paths} - {name} for name, path in paths.items()}
    # `from package import module` names both; it means the module.
    parents = {name: {i.rpartition(".")[0] for i in seen} for name, seen in imported.items()}
    return {name: {i for i in seen if not (i in parents[name] and is_in(name, i))} for name, seen in imported.items()}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if is_in(name, "edge_sdk") else f"edge_sdk.{name}"


def floor_of(module: str) -> int:
    (floor,) = (i for i, names in enumerate(FLOORS) if module.split(".")[1] in names)
    return floor


def test_every_import_goes_to_the_same_floor_or_down() -> None:
    edges = [(a, b) for a, imported in graph().items() for b in imported]
    assert len(edges) > 300
    assert [f"{a} imports {b}" for a, b in edges if floor_of(b) > floor_of(a)] == []


def test_export_is_imported_as_a_part_of_the_package_only() -> None:
    """An installation has no `export` at its top level; a checkout has, so that a run in it does not notice."""
    files = SOURCES + sorted((ROOT / "tests").rglob("*.py"))
    assert [name_of(path) for path in files if any(is_in(module, "export") for module in imports(path))] == []


def test_no_two_modules_reach_each_other() -> None:
    edges = graph()
    reached: dict[str, set[str]] = {}
    for start in edges:
        seen, waiting = set(), list(edges[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += edges[name]
        reached[start] = seen
    assert [(a, b) for a in edges for b in reached[a] if a < b and a in reached[b]] == []


def test_the_runtimes_have_one_roster_and_do_not_know_each_other() -> None:
    for own, other in (("pytorch", "onnx"), ("onnx", "pytorch")):
        files = [path for path in PACKAGE if path.parent.name == own]
        assert set(ROSTER) <= {path.stem for path in files}
        known = [name_of(path) for path in files for i in imports(path) if is_in(i, f"edge_sdk.runtime.{other}")]
        assert known == []


def test_only_one_file_knows_quanto() -> None:
    users = [name_of(path) for path in PACKAGE if any(is_in(module, "optimum") for module in imports(path))]
    assert users == ["edge_sdk/quantization/quanto.py"]


def test_what_a_model_is_does_not_know_the_optimizer() -> None:
    files = [path for path in PACKAGE if "edge_sdk/diffusion" in path.as_posix()]
    assert len(files) >= 8
    assert [name_of(path) for path in files if any(is_in(module, "edge_sdk.zo") for module in imports(path))] == []


def test_nothing_imports_the_command_line_but_itself() -> None:
    others = [path for path in SOURCES if "cli" not in path.parts]
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
@pytest.mark.parametrize("command", ["personalize", "generate", "quantize", "demo --unlearn", "unlearn", "audit"])
def test_a_missing_extra_is_named_in_one_line(
    command: str, hidden: tuple[str, ...], tmp_path: Path, photos: Path
) -> None:
    out = str(tmp_path / "out")
    arguments = {
        "personalize": ["--train_data_dir", str(photos), "--output_dir", out],
        "generate": ["--prompt", "a dog", "--output", f"{out}.png"],
        "quantize": ["--output_dir", out],
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
    assert "needs torch" in done.stderr and "its extra torch" in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_demo_runs_without_torch(tmp_path: Path) -> None:
    done = run(WITHOUT.replace("{hidden!r}", repr({"torch"})), "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed" in done.stderr and "loss 0." in done.stdout
    assert (tmp_path / "demo_out" / "prompts.png").exists()
