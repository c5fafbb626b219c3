"""The web demonstration in a headless Chromium: photos in, a learned token out, nothing sent anywhere."""

import base64
import io
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_sdk import Personalizer
from edge_sdk.embedding import LearnedEmbedding, load_embedding, save_a1111, save_embedding
from edge_sdk.export import chromium
from edge_sdk.export.web_server import missing, serving
from edge_sdk.generation import generate
from edge_sdk.images import load_photos, to_pil
from edge_sdk.pocket import MODEL, PHOTOS

STEPS, ROWS = 10, 33  # of a short run; single-row evaluations a step
Bundles = Callable[[str, str], Path]
pytestmark = [
    pytest.mark.skipif(chromium.executable() is None, reason="chromium is not installed"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

# Keeps what the page's worker says.
LISTEN = """
window.heard = [];
window.Worker = class extends Worker {
  constructor(...given) { super(...given); this.addEventListener('message', ({ data }) => window.heard.push(data)); }
};
"""


class Demo:
    """The page as a user has it."""

    def __init__(self, page: chromium.Page, url: str, downloads: Path) -> None:
        self.page, self.url = page, url
        page.send("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
        page.send("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        page.open(url)

    def choose(self, *files: Path, into: str = "#files") -> None:
        root = self.page.send("DOM.getDocument")["root"]["nodeId"]
        node = self.page.send("DOM.querySelector", {"nodeId": root, "selector": into})["nodeId"]
        self.page.send("DOM.setFileInputFiles", {"files": [str(file) for file in files], "nodeId": node})

    def text(self, name: str) -> str:
        return self.page.evaluate(f"document.getElementById({json.dumps(name)}).textContent")

    def click(self, name: str) -> None:
        self.page.wait(f"!document.getElementById({json.dumps(name)}).disabled", 120)
        self.page.evaluate(f"document.getElementById({json.dumps(name)}).click()")

    def set_steps(self, count: int) -> None:
        added = f"new Option('{count}', '{count}', false, true)"
        self.page.evaluate(f"document.getElementById('steps').add({added})")

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """Messages of the worker, pictures and files as lists of bytes."""
        plain = "(_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value"
        found = f"heard.filter(({{ type }}) => type === {json.dumps(kind)})"
        return json.loads(self.page.evaluate(f"JSON.stringify({found}, {plain})"))

    def wait_for(self, kind: str, timeout: float = 300.0) -> None:
        self.page.wait(f"heard.some(({{ type }}) => type === {json.dumps(kind)} || type === 'error')", timeout)

    def requests(self) -> set[str]:
        events = [event["params"] for event in self.page.events if event["method"] == "Network.requestWillBeSent"]
        return {event["request"]["url"] for event in events}

    def problems(self) -> list[Any]:
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.page.events if event["method"] in kinds]


@contextmanager
def opened(bundle: Path, downloads: Path) -> Iterator[Demo]:
    with serving(bundle) as url, chromium.opened() as page:
        yield Demo(page, url, downloads)


@pytest.fixture(scope="module")
def run(bundle_of: Bundles, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole run on the bundled photos, with everything that the page said and sent."""
    downloads = tmp_path_factory.mktemp("downloads")
    with opened(bundle_of("pocket", "int8"), downloads) as demo:
        demo.choose(*sorted(PHOTOS.glob("*.png")))
        demo.wait_for("looked")
        demo.set_steps(STEPS)
        demo.click("start")
        demo.wait_for("learned")
        demo.click("download")
        demo.click("draw")
        demo.wait_for("drawn")
        demo.page.wait("document.getElementById('status').textContent === 'Done'")
        tree = demo.page.send("Accessibility.getFullAXTree")["nodes"]
        wait_for_file(downloads / "learned_embeds.safetensors", demo.page)
        names = ("step", "learned", "picture", "photos", "error", "opened")
        said = {name: demo.heard(name) for name in names}
        texts = {name: demo.text(name) for name in ("summary", "step", "forwards", "error", "skipped", "model")}
        return SimpleNamespace(
            file=downloads / "learned_embeds.safetensors",
            url=demo.url,
            requests=demo.requests(),
            tree=tree,
            problems=demo.problems(),
            texts=texts,
            **said,
        )


def wait_for_file(path: Path, page: chromium.Page) -> None:
    for _ in range(200):
        if path.exists():
            return
        page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    raise AssertionError(f"{path.name} was not downloaded")


@pytest.fixture(scope="module")
def python() -> SimpleNamespace:
    """The same run by PyTorch, on the same integer weights with float activations."""
    personalizer = Personalizer.from_pretrained("pocket", "int8", "fused")
    losses = [step.loss for step in personalizer.fit(PHOTOS, max_train_steps=STEPS)]
    learned, initial = personalizer.embedding, personalizer.fitted().initial
    return SimpleNamespace(losses=losses, vectors=learned.vectors, initial=initial, metadata=learned.metadata)


def test_losses_are_pytorchs_step_by_step(run: SimpleNamespace, python: SimpleNamespace) -> None:
    """Within 1e-4: losses agree to 1e-6, their differences over mu less, and steps build on one another."""
    assert run.error == [] and run.texts["error"] == ""
    losses = [step["loss"] for step in run.step]
    assert [step["step"] for step in run.step] == list(range(1, STEPS + 1))
    np.testing.assert_allclose(losses[0], python.losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses, python.losses, rtol=1e-4)
    assert len(set(np.round(losses, 4))) > STEPS / 2
    assert run.step[-1]["forwards"] == ROWS * STEPS and run.texts["forwards"] == str(ROWS * STEPS)


def test_the_downloaded_file_is_the_token_and_no_photo(run: SimpleNamespace, python: SimpleNamespace) -> None:
    (learned,) = run.learned
    assert list(run.file.read_bytes()) == learned["file"]
    found = load_embedding(run.file)
    assert found.token == "<subject>" and found.vectors.shape == (1, 128)
    moved = np.abs(python.vectors - python.initial).max()
    assert np.abs(found.vectors - python.vectors).max() < 0.01 * moved
    wanted = python.metadata | {"execution": "dequantized"}
    assert {key: found.metadata[key] for key in wanted} == wanted
    assert not any(name.name in json.dumps(found.metadata) for name in PHOTOS.iterdir())


def test_diffusers_loads_the_downloaded_file(run: SimpleNamespace) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(MODEL)
    pipeline.load_textual_inversion(run.file, use_safetensors=True)
    number = pipeline.tokenizer.convert_tokens_to_ids("<subject>")
    row = pipeline.text_encoder.get_input_embeddings().weight[number].detach().numpy()
    np.testing.assert_array_equal(row, load_embedding(run.file).vectors[0])


def test_pictures_are_pythons(run: SimpleNamespace) -> None:
    """Before, and of a prompt with the learned word: DDIM on the same weights, a level apart at most in places."""
    learned = load_embedding(run.file)
    for kind, prompt, files in (
        ("before", "a picture of person", []),
        ("after", "a picture of <subject>", [learned]),
        ("drawn", "a picture of <subject> on a blue background", [learned]),
    ):
        pictures = [p for p in run.picture if p["kind"] == kind]
        assert [p["index"] for p in pictures] == [0, 1, 2, 3]
        wanted = np.asarray(generate(prompt, "pocket", files, execution="fused", num_images=1)[0], int)
        found = np.array(pictures[0]["rgba"]).reshape(16, 16, 4)
        assert (found[..., 3] == 255).all() and np.abs(found[..., :3] - wanted).max() <= 2
        assert wanted.std() > 20


def test_no_request_leaves_the_origin(run: SimpleNamespace) -> None:
    assert f"{run.url}worker.js" in run.requests and f"{run.url}bundle/weights.bin" in run.requests
    outside = {url for url in run.requests if not url.startswith((run.url, f"blob:{run.url}"))}
    assert outside == set()
    assert run.problems == []


def test_everything_that_can_be_used_has_a_name(run: SimpleNamespace) -> None:
    roles = {"button", "textbox", "combobox", "spinbutton", "link", "progressbar", "image", "list"}
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in run.tree if not n.get("ignored")]
    assert {role for role, _ in named} >= roles - {"list"}
    assert [role for role, name in named if role in roles and not name] == []


def test_what_the_page_says(run: SimpleNamespace) -> None:
    assert run.texts["skipped"] == "5 photos, as the model sees them"
    assert "pixel-art people" in run.texts["model"]
    assert f"{STEPS} steps and {ROWS * STEPS} forward passes" in run.texts["summary"]
    (learned,) = run.learned
    assert learned["after"] < learned["before"]


# what can go wrong


def test_stop_keeps_what_was_learned(bundle_of: Bundles, tmp_path: Path) -> None:
    with opened(bundle_of("pocket", "int8"), tmp_path) as demo:
        demo.click("samples")
        demo.wait_for("looked")
        demo.click("start")
        demo.page.wait("heard.filter(({ type }) => type === 'step').length >= 2", 300)
        demo.click("cancel")
        demo.wait_for("learned")
        (learned,) = demo.heard("learned")
        assert learned["cancelled"] and 2 <= learned["steps"] < 40
        steps = learned["steps"]
        assert demo.text("status") == f"Stopped after step {steps}; what was learned so far can be downloaded"
        disabled = [demo.page.evaluate(f"document.getElementById('{name}').disabled") for name in ("cancel", "start")]
        assert disabled == [True, False]
        assert [p["kind"] for p in demo.heard("picture")] == ["before"] * 4


@pytest.mark.parametrize("what", ["weights.bin", "manifest.json", "principal_directions.f32"])
def test_a_bundle_that_went_bad_is_said_in_one_line(what: str, bundle_of: Bundles, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of("pocket", "int8"), tmp_path / "bundle"))
    with serving(bundle) as url, chromium.opened() as page:
        data = bytearray((bundle / what).read_bytes())
        data[len(data) // 2] ^= 0xFF if what == "manifest.json" else 1
        (bundle / what).write_bytes(data)
        demo = Demo(page, url, tmp_path)
        demo.wait_for("error", 60)
        page.wait("!document.getElementById('error').hidden")
        assert what in demo.text("error") and "\n" not in demo.text("error")
        assert page.evaluate("document.getElementById('start').disabled")


def test_files_that_are_no_photos_are_named_and_skipped(bundle_of: Bundles, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture at all")
    (tmp_path / "half.png").write_bytes((PHOTOS / "1.png").read_bytes()[:100])
    Image.new("RGB", (7, 50)).save(tmp_path / "thin.png")
    with opened(bundle_of("pocket", "int8"), tmp_path) as demo:
        demo.choose(*(tmp_path / name for name in ("half.png", "notes.png", "thin.png")), PHOTOS / "1.png")
        demo.wait_for("looked")
        assert demo.text("skipped") == (
            "1 photo, as the model sees it. half.png is skipped: damaged. "
            "notes.png is skipped: not a PNG, JPEG or WebP picture. "
            "thin.png is skipped: 7 x 50 pixels; each side must be 8 or more"
        )
        demo.choose(tmp_path / "notes.png")
        demo.wait_for("error")
        assert "none of these files is a usable photo" in demo.text("error")


@pytest.fixture(scope="module")
def demo(bundle_of: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with opened(bundle_of("pocket", "int8"), tmp_path_factory.mktemp("downloads")) as demo:
        yield demo


@pytest.mark.parametrize(
    ("size", "kind"),
    [((53, 37), "PNG"), ((200, 301), "PNG"), ((16, 16), "PNG"), ((9, 12), "PNG"), ((300, 200), "JPEG")],
    ids=["shrunk", "shrunk far", "as it is", "enlarged", "turned JPEG"],
)
def test_photos_become_pythons_pixels(size: tuple[int, int], kind: str, demo: Demo, tmp_path: Path) -> None:
    """Exactly for PNG; a JPEG decoder may differ by two levels."""
    rng, data = np.random.default_rng(0), io.BytesIO()
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(data, kind, **({"exif": turned, "quality": 95, "subsampling": 0} if kind == "JPEG" else {}))
    (tmp_path / f"photo.{kind.lower()}").write_bytes(data.getvalue())
    data_bytes = f"Uint8Array.from(atob('{base64.b64encode(data.getvalue()).decode()}'), (c) => c.charCodeAt(0))"
    program = f"""import('./photos.js').then(async ({{ readPhoto }}) => {{
      const {{ pixels, size }} = await readPhoto(new File([{data_bytes}], 'photo'), 16);
      return {{ pixels: Array.from(pixels), size }};
    }})"""
    found = demo.page.evaluate(program)
    photos = load_photos(tmp_path, 16)
    assert tuple(found["size"]) == photos.sizes[0]
    difference = np.abs(np.array(found["pixels"]).reshape(3, 16, 16) - photos.pixels[0]) * 127.5
    assert difference.max() <= (2.01 if kind == "JPEG" else 1e-4)
    assert np.asarray(to_pil(photos.pixels[0])).std() > 5


def test_both_prompts_use_embeddings_of_files(demo: Demo, bundle_of: Bundles, tmp_path: Path) -> None:
    rng, bundle = np.random.default_rng(0), bundle_of("pocket", "int8")
    vectors = {name: rng.standard_normal((2, 128)).astype(np.float32) for name in ("<bad>", "<good>", "my style")}
    files = [tmp_path / "bad.safetensors", tmp_path / "good.safetensors", tmp_path / "my style.safetensors"]
    for path, (token, values) in zip(files, vectors.items(), strict=True):
        save = save_a1111 if token == "my style" else save_embedding
        save(path, LearnedEmbedding(token, values))
    demo.page.evaluate("for (const id of ['result', 'finished']) document.getElementById(id).hidden = false")
    demo.choose(*files, into="#embeddings")
    prompt, negative = "a picture of a <GOOD>", "<bad>"
    for name, text in (("prompt", prompt), ("negative", negative)):
        demo.page.evaluate(f"document.getElementById({json.dumps(name)}).value = {json.dumps(text)}")
    demo.click("draw")
    demo.wait_for("drawn")
    assert demo.heard("error") == []
    picture = next(each for each in demo.heard("picture") if each["kind"] == "drawn")
    settings: dict[str, Any] = {"embeddings": files, "negative_prompt": negative, "notify": lambda line: None}
    (expected,) = generate(prompt, bundle=bundle, **settings)
    found = np.array(picture["rgba"]).reshape(16, 16, 4)[..., :3]
    assert np.abs(found - np.asarray(expected, int)).max() <= 2
    demo.page.wait("document.getElementById('status').textContent.startsWith('Done')")
    assert demo.text("status") == "Done. No prompt has the word my style, so its embedding has no effect"


def test_the_browser_looks_up_no_name() -> None:
    """Not even one that needs no network; this computer's address it takes, and finds nobody there."""
    with socket.socket() as taken, chromium.opened() as page:
        taken.bind(("127.0.0.1", 0))  # and not listened to
        port = taken.getsockname()[1]
        failures = [
            page.send("Page.navigate", {"url": f"http://{host}:{port}/"})["errorText"]
            for host in ("localhost", "127.0.0.1")
        ]
        assert failures == ["net::ERR_NAME_NOT_RESOLVED", "net::ERR_CONNECTION_REFUSED"]
