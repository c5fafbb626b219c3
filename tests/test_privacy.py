"""Nothing leaves the machine: no socket, no telemetry, no hub unless a hub id was named."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from edge_sdk import EdgeSdkError, Personalizer, pocket
from edge_sdk.cli.main import main
from edge_sdk.diffusion.folder import find
from edge_sdk.quantization import native
from edge_sdk.quantization.build import cache_folder
from edge_sdk.system import privacy

ROOT = Path(__file__).parents[1]
# A library to be preloaded that refuses internet sockets and look-ups of names, and writes each down. Sockets of the
# resolver itself are calls inside the C library, which no other can come before; so its entry points are refused.
REFUSE_SOCKETS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void note(const char *call) {
    int log = open(getenv("SOCKET_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    write(log, call, strlen(call));
    close(log);
}
int socket(int family, int type, int protocol) {
    if (family == AF_INET || family == AF_INET6) {
        note(family == AF_INET ? "socket AF_INET\n" : "socket AF_INET6\n");
        errno = EACCES;
        return -1;
    }
    return syscall(SYS_socket, family, type, protocol);
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    note("getaddrinfo ");
    note(name ? name : "");
    note("\n");
    return EAI_FAIL;
}
struct hostent *gethostbyname(const char *name) {
    note("gethostbyname\n");
    return NULL;
}
struct hostent *gethostbyname2(const char *name, int family) {
    note("gethostbyname2\n");
    return NULL;
}
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a library that refuses sockets takes Linux and a C compiler")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "refuse.c").write_text(REFUSE_SOCKETS)
    command = [compiler, "-shared", "-fPIC", "-w", "-o", str(folder / "refuse.so"), str(folder / "refuse.c")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "refuse.so"


class Watched:
    """Processes with an empty home, and the internet sockets that they and their children asked for."""

    def __init__(self, folder: Path, preload: Path) -> None:
        self.home, self.log, programs = folder / "home", folder / "sockets", folder / "bin"
        self.home.mkdir()
        programs.mkdir()
        if node := shutil.which("node"):  # and no browser, which `verify` reaches by a server on 127.0.0.1
            (programs / "node").symlink_to(node)
        kept = {name: value for name, value in os.environ.items() if name not in ABSENT}
        self.environment = kept | {
            "HOME": str(self.home),
            "TMPDIR": str(folder),
            "LD_PRELOAD": str(preload),
            "SOCKET_LOG": str(self.log),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PATH": str(programs),
        }
        if native.library() is not None:  # or each home compiles its own
            cache = self.home / ".cache" / "edge-sdk"
            cache.mkdir(parents=True)
            for compiled in cache_folder().glob("*.so"):  # and nothing else that may lie there
                shutil.copy(compiled, cache)

    def run(self, *arguments: object) -> None:
        """Run Python; raises AssertionError if it fails."""
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=self.environment, cwd=self.home.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def sockets(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left_at_home(self) -> set[str]:
        return {str(path.relative_to(self.home)) for path in [*self.home.glob("*"), *self.home.glob(".cache/*")]}


# What a user's environment does not have, though the tests' own may.
ABSENT = ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", *privacy.TELEMETRY_OFF)
# The Python interface, then commands: PyTorch and its companions are imported once.
MANY = """
import json, os, sys
from edge_sdk import Personalizer, pocket
next(Personalizer.from_pretrained("pocket").fit(pocket.PHOTOS, max_train_steps=1))
import huggingface_hub.constants as hub
assert os.environ["HF_HUB_OFFLINE"] == "1" and hub.HF_HUB_OFFLINE and hub.HF_HUB_DISABLE_TELEMETRY
from edge_sdk.cli.main import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0, words
"""


@pytest.fixture
def watched(tmp_path: Path, preload: Path) -> Watched:
    return Watched(tmp_path, preload)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """One of the embedded model's photos to forget, and the others with their mirror images to keep."""
    first, *others = sorted(pocket.PHOTOS.glob("*.png"))
    forget, retain = tmp_path / "forget", tmp_path / "retain"
    for folder in (forget, retain):
        folder.mkdir()
    shutil.copy(first, forget)
    for path in others:
        shutil.copy(path, retain)
        ImageOps.mirror(Image.open(path)).save(retain / f"mirrored-{path.name}")
    return forget, retain


def test_the_watch_sees_sockets_of_python_and_of_its_children(watched: Watched) -> None:
    program = (
        "import socket, subprocess, sys\n"
        "def ask():\n"
        "    for call in (lambda: socket.socket(10), lambda: socket.create_connection(('example.org', 1))):\n"
        "        try: call()\n"
        "        except OSError: pass\n"
        "ask()\n"
        "if len(sys.argv) == 1: subprocess.run([sys.executable, sys.argv[0], 'child'])\n"
    )
    (watched.home.parent / "ask.py").write_text(program)
    watched.run(watched.home.parent / "ask.py")
    assert watched.sockets() == ["socket AF_INET6", "getaddrinfo example.org"] * 2


def test_neither_the_python_interface_nor_a_command_opens_a_socket_or_leaves_anything_at_home(
    watched: Watched, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    forget, retain = pictures
    bundle, run, model = tmp_path / "bundle", tmp_path / "run", tmp_path / "integers"
    photos = ["--train_data_dir", pocket.PHOTOS, "--max_train_steps", 1, "--eval_draws", 2, "--quiet"]
    draw = [
        "generate",
        "--prompt",
        "a <subject>",
        "--embedding",
        run / "learned_embeds.safetensors",
        "--quiet",
        "--num_inference_steps",
        1,
    ]
    unlearn = [
        "unlearn",
        "--forget_data_dir",
        forget,
        "--retain_data_dir",
        retain,
        "--retain_batch",
        2,
        "--quiet",
        "--forget_batch",
        2,
        "--max_target_similarity",
        0.999,
        "--metric",
        "euclidean",
    ]
    commands = [
        ["export", "--output_dir", bundle, "--quiet"],
        ["verify", bundle, "--quiet"],
        ["quantize", "--output_dir", model, "--quiet"],
        [*unlearn, "--output_dir", tmp_path / "unlearned", "--dry_run"],
        [*unlearn, "--output_dir", tmp_path / "unlearned", "--max_train_steps", 1],
        ["personalize", *photos, "--output_dir", run],
        [*draw, "--output", tmp_path / "a.png", "--pretrained_model_name_or_path", model],
    ]
    watched.run("-c", MANY, json.dumps([[str(word) for word in words] for words in commands]))
    alone = ["personalize", "--bundle", bundle, *photos, "--output_dir", tmp_path / "alone"]
    watched.run("-m", "edge_sdk.cli.main", *alone)
    watched.run("-m", "edge_sdk.cli.main", *draw, "--bundle", bundle, "--output", tmp_path / "b.png")
    assert watched.sockets() == []
    assert watched.left_at_home() <= {".cache", ".cache/edge-sdk"}


@pytest.mark.parametrize(
    "module", ["edge_sdk", "edge_sdk.runtime.onnx.session", "edge_sdk.export.onnx.writer", "benchmarks.lib.report"]
)
def test_telemetry_is_off_before_onnxruntime_is_loaded_whatever_the_environment_says(module: str) -> None:
    program = (
        "import builtins, importlib, os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"importlib.import_module({module!r})\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])\n"
    )
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout == "1 1\n", done.stderr


def test_an_onnxruntime_that_was_loaded_too_early_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", sys)
    privacy.disable_telemetry()
    assert caplog.messages == []
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    privacy.disable_telemetry()
    assert len(caplog.messages) == 1 and "import edge_sdk first" in caplog.messages[0]
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_urllib3_asks_for_addresses_of_both_kinds_though_it_did_not_look(watched: Watched) -> None:
    program = (
        "import socket, edge_sdk; from urllib3.util import connection\n"
        "assert connection.HAS_IPV6 == socket.has_ipv6 and connection.allowed_gai_family() == socket.AF_UNSPEC"
    )
    watched.run("-c", program)
    assert watched.sockets() == []


@pytest.mark.parametrize("language", ["ORT_DISABLE_TELEMETRY", "Os.setenv(", "setenv(", "process.env."])
def test_the_page_of_bundles_says_how_telemetry_is_switched_off(language: str) -> None:
    assert language in (ROOT / "export" / "README.md").read_text()


def test_every_printed_example_that_loads_onnxruntime_switches_telemetry_off_first() -> None:
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("export/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("edge_sdk/**/*.md"),
    ):
        for block in re.findall(r"```\w+\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            if used := re.search(r"import[^\n]*onnxruntime|InferenceSession|OrtEnvironment|ORTEnv", block):
                assert 0 <= block.find("ORT_DISABLE_TELEMETRY") < used.start(), (page, block)


class Hub:
    """Stands for the hub: notes what it is asked for, and whether the network is allowed then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[tuple[str, bool, bool]]()

    def snapshot_download(self, hub_id: str, local_files_only: bool = False, **_: object) -> str:
        from huggingface_hub import constants

        self.asked.append((hub_id, local_files_only, bool(constants.HF_HUB_OFFLINE or "HF_HUB_OFFLINE" in os.environ)))
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub, and a user who has not said that it may not be asked."""
    import huggingface_hub

    made = Hub(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(privacy, "_offline_by_us", False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    return made


def test_a_hub_id_is_asked_for_with_the_network_and_nothing_else_is(hub: Hub) -> None:
    from huggingface_hub import constants

    for _ in range(2):
        assert find("pocket") == pocket.MODEL and find(".") == Path(".")
        assert os.environ["HF_HUB_OFFLINE"] == "1" and constants.HF_HUB_OFFLINE
        assert find("hub:org/name") == hub.folder
        assert os.environ["HF_HUB_OFFLINE"] == "1" and constants.HF_HUB_OFFLINE
    assert hub.asked == [("org/name", False, False)] * 2


def test_a_hub_id_without_its_mark_is_said_to_leave(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    assert find("hub:org/name") == hub.folder and caplog.records == []
    assert find("org/name") == hub.folder
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "hub is asked for it" in caplog.text and "org/name" in caplog.text


def test_the_notice_is_a_line_on_stderr_also_with_quiet(hub: Hub, tmp_path: Path) -> None:
    program = (
        "import huggingface_hub, sys\n"
        "huggingface_hub.snapshot_download = lambda *_, **__: print('asked', file=sys.stderr) or '.'\n"
        "from edge_sdk.cli.main import main; main(['quantize', '--quiet', '--output_dir', 'out', "
        "'--pretrained_model_name_or_path', 'org/name'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"},
    )
    notice, asked, error = done.stderr.splitlines()
    assert notice.startswith("no local folder org/name") and asked == "asked" and "model_index.json" in error


@pytest.mark.parametrize(
    "name",
    [
        "models/sd15-typo",
        "mine/sd15-typo",
        "link/sd15-typo",
        "file/sd15-typo",
        "mine/",
        "/mine/x",
        "./none",
        "~/models",
        "mine\\sd15",
        "a/b/c",
        "hub:",
        "hub:a",
        "hub:a/b/c",
        "hub:../x",
        "hub:./mine",
        "org /name",
        "ørg/name",
    ],
    ids=str,
)
def test_a_mistyped_path_is_refused_and_never_leaves(name: str, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    if name == "mine/":
        name = "mine/none/"
    with pytest.raises(EdgeSdkError, match=r"^[^\n]*(no model folder|is not a hub id|is a file)[^\n]*$"):
        find(name)
    assert hub.asked == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_user_who_is_offline_stays_so(variable: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    find("pocket")
    with pytest.raises(EdgeSdkError, match="HF_HUB_OFFLINE is set; unset it to ask the hub"):
        find("hub:org/name")
    assert [(hub_id, local) for hub_id, local, _ in hub.asked] == [("org/name", True)]
    assert os.environ[variable] == "1"


def test_a_command_is_offline_before_it_begins(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []
    monkeypatch.setattr("edge_sdk.cli.verify.run", lambda _: seen.append(os.environ["HF_HUB_OFFLINE"]) or 0)
    main(["verify", str(tmp_path)])
    assert seen == ["1"]


def test_a_model_that_is_opened_is_offline(hub: Hub) -> None:
    Personalizer.from_pretrained("pocket")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
