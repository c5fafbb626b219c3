"""The web demonstration in a headless Chromium: photos in, a learned token out, nothing sent anywhere."""

import base64
import io
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from edge_sdk import Personalizer
from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import LearnedEmbedding, load_embedding, save_a1111, save_embedding
from edge_sdk.export import chromium
from edge_sdk.export.web_page import RUNTIME_VERSION, missing
from edge_sdk.export.web_server import serving
from edge_sdk.generation import generate
from edge_sdk.images import load_photos, to_pil
from edge_sdk.pocket import MODEL, PHOTOS
from edge_sdk.preparation import prepare
from edge_sdk.runtime.onnx.model import open_bundle
from tests.export.page import Demo
from tests.icc import rgb_profile
from tests.run_records import assert_is_pythons, python_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STEPS, ROWS = 10, 33  # of a short run; single-row evaluations a step
Bundles = Callable[[str, str], Path]
pytestmark = [
    pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing())),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium.launched() as browser:
        yield browser


@contextmanager
def opened(bundle: Path, browser: "Browser") -> Iterator[Demo]:
    with serving(bundle) as url:
        demo = Demo(browser, url)
        yield demo
        demo.close()


@pytest.fixture(scope="module")
def run(bundle_of: Bundles, browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A whole run on the bundled photos, with everything that the page said and sent."""
    downloads = tmp_path_factory.mktemp("downloads")
    with opened(bundle_of("pocket", "int8"), browser) as demo:
        demo.choose(*sorted(PHOTOS.glob("*.png")))
        demo.wait_for("looked")
        demo.set_steps(STEPS)
        demo.click("start")
        demo.wait_for("learned")
        demo.download("download", downloads / "learned_embeds.safetensors")
        demo.download("record", downloads / "run.json")
        demo.click("draw")
        demo.wait_for("drawn")
        demo.wait("document.getElementById('status').textContent === 'Done'")
        demo.download("save", downloads / "pictures.png")
        tree = demo.page.context.new_cdp_session(demo.page).send("Accessibility.getFullAXTree")["nodes"]
        names = ("step", "learned", "picture", "photos", "error", "opened")
        messages = {name: demo.heard(name) for name in names}
        texts = ("summary", "step", "forwards", "loss", "error", "skipped", "notice", "model")
        return SimpleNamespace(
            file=downloads / "learned_embeds.safetensors",
            record=json.loads((downloads / "run.json").read_text()),
            sheet=downloads / "pictures.png",
            url=demo.url,
            requests=demo.requests,
            tree=tree,
            problems=demo.problems,
            texts={name: demo.text(name) for name in texts},
            **messages,
        )


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


def test_a_record_is_pythons(run: SimpleNamespace, bundle_of: Bundles, tmp_path: Path) -> None:
    """But for weights in memory, the pictures before and after, and the initializer that the page names."""
    bundle, forwards = bundle_of("pocket", "int8"), run.record["forwards_of"]
    other = ("residency", "forwards", "preview")
    python = python_record(PHOTOS, tmp_path / "run", bundle, max_train_steps=STEPS, initializer_token="person")
    assert_is_pythons(run.record, python, other)
    assert forwards["preview"] == 2 * 4 * 25 * 2 and run.record["versions"]["onnxruntime-web"] == RUNTIME_VERSION
    assert run.record["loss_final"] == pytest.approx(python["loss_final"], rel=1e-2)


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
    assert f"{run.url}app/worker.js" in run.requests and f"{run.url}bundle/weights.bin" in run.requests
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
    percent = round(100 * (1 - learned["after"] / learned["before"]))
    assert f"Closer to your photos by {percent} %: loss {learned['before']:.4f} before" in run.texts["summary"]
    assert run.texts["notice"] == ""  # photos of the model's own world


def test_the_smoothed_loss_is_a_mean_of_the_losses_so_far(run: SimpleNamespace) -> None:
    weights = 0.8 ** np.arange(STEPS)[::-1]
    losses = [step["loss"] for step in run.step]
    assert run.texts["loss"] == f"{np.average(losses, weights=weights):.4f}"


def test_all_pictures_are_saved_in_one(run: SimpleNamespace) -> None:
    """Rows of before, after and the prompt, enlarged by 8; no photo is among them."""
    sheet = np.asarray(Image.open(run.sheet).convert("RGB"), int)
    assert sheet.shape == (3 * 164, 4 * 136 + 8, 3)
    for row, kind in enumerate(("before", "after", "drawn")):
        for picture in (one for one in run.picture if one["kind"] == kind):
            top, left = row * 164 + 28, 8 + picture["index"] * 136
            tile = sheet[top : top + 128, left : left + 128][4::8, 4::8]
            np.testing.assert_array_equal(tile, np.array(picture["rgba"]).reshape(16, 16, 4)[..., :3])


# what can go wrong


def test_stop_keeps_what_was_learned(bundle_of: Bundles, browser: "Browser") -> None:
    with opened(bundle_of("pocket", "int8"), browser) as demo:
        demo.click("samples")
        demo.wait_for("looked")
        demo.click("start")
        demo.wait("heard.filter(({ type }) => type === 'step').length >= 2", 300)
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
def test_a_bundle_that_went_bad_is_said_in_one_line(
    what: str, bundle_of: Bundles, browser: "Browser", tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundle_of("pocket", "int8"), tmp_path / "bundle"))
    with serving(bundle) as url:
        data = bytearray((bundle / what).read_bytes())
        data[len(data) // 2] ^= 0xFF if what == "manifest.json" else 1
        (bundle / what).write_bytes(data)
        demo = Demo(browser, url)
        demo.wait_for("error", 60)
        demo.wait("!document.getElementById('error').hidden")
        assert what in demo.text("error") and "\n" not in demo.text("error")
        assert demo.page.evaluate("document.getElementById('start').disabled")
        demo.close()


def test_files_that_are_no_photos_are_named_and_skipped(bundle_of: Bundles, browser: "Browser", tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture at all")
    (tmp_path / "half.png").write_bytes((PHOTOS / "1.png").read_bytes()[:100])
    Image.new("RGB", (7, 50)).save(tmp_path / "thin.png")
    with opened(bundle_of("pocket", "int8"), browser) as demo:
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


def noise(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def test_photos_that_the_embedded_model_cannot_draw_are_warned_of_as_on_the_command_line(
    bundle_of: Bundles, browser: "Browser", tmp_path: Path
) -> None:
    noise(tmp_path)
    model = open_bundle(bundle_of("pocket", "int8"))
    (line,) = prepare(model, load_photos(tmp_path, 16), PersonalizeConfig()).notices
    (decibels,) = re.findall(r"at (\d+) dB", line)
    with opened(bundle_of("pocket", "int8"), browser) as demo:
        demo.choose(*tmp_path.iterdir())
        demo.wait_for("looked")
        assert f"reproduces them at {decibels} dB. Expect their colours at best" in demo.text("notice")
        demo.click("samples")
        demo.wait(
            "document.getElementById('notice').hidden && heard.filter(({ type }) => type === 'looked').length > 1"
        )


@pytest.fixture(scope="module")
def demo(bundle_of: Bundles, browser: "Browser") -> Iterator[Demo]:
    with opened(bundle_of("pocket", "int8"), browser) as demo:
        yield demo


def read_photo(demo: Demo, data: bytes) -> dict[str, Any]:
    """What the page's `readPhoto` gives at 16 pixels: pixels and size, or error."""
    return demo.page.evaluate(f"""import('{demo.url}app/photos.js').then(async ({{ readPhoto }}) => {{
      const data = Uint8Array.from(atob('{base64.b64encode(data).decode()}'), (c) => c.charCodeAt(0));
      try {{
        const {{ pixels, size }} = await readPhoto(new File([data], 'photo'), 16);
        return {{ pixels: Array.from(pixels), size }};
      }} catch (error) {{
        return {{ error: error.message }};
      }}
    }})""")


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
    found = read_photo(demo, data.getvalue())
    photos = load_photos(tmp_path, 16)
    assert tuple(found["size"]) == photos.sizes[0]
    difference = np.abs(np.array(found["pixels"]).reshape(3, 16, 16) - photos.pixels[0]) * 127.5
    assert difference.max() <= (2.01 if kind == "JPEG" else 1e-4)
    assert np.asarray(to_pil(photos.pixels[0])).std() > 5


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


COLORS = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PHONES: dict[str, tuple[Callable[[], bytes], float]] = {  # a file, and levels that a decoder may differ by
    "Display P3": (lambda: encoded(COLORS, "PNG", icc_profile=rgb_profile("Display P3")), 3),
    "Adobe RGB, JPEG": (
        lambda: encoded(COLORS.resize((64, 64)), "JPEG", quality=95, icc_profile=rgb_profile("Adobe RGB")),
        6,
    ),
    "sRGB": (lambda: encoded(COLORS, "PNG", icc_profile=SRGB), 1),
    "broken profile": (lambda: encoded(COLORS, "PNG", icc_profile=b"junk" * 50), 0),
    "AVIF": (lambda: encoded(COLORS.resize((64, 64)), "AVIF", quality=95), 6),
    "BMP": (lambda: encoded(COLORS, "BMP"), 0),
    "50 megapixels": (lambda: encoded(Image.linear_gradient("L").resize((8160, 6120)), "JPEG", quality=30), 4),
}


@pytest.mark.parametrize("case", PHONES)
def test_photos_of_phones_are_pythons(case: str, demo: Demo, tmp_path: Path) -> None:
    write, levels = PHONES[case]
    (tmp_path / "photo").write_bytes(write())
    found, photos = read_photo(demo, (tmp_path / "photo").read_bytes()), load_photos(tmp_path, 16)
    assert tuple(found["size"]) == photos.sizes[0]
    difference = np.abs(np.array(found["pixels"]).reshape(3, 16, 16) - photos.pixels[0]) * 127.5
    assert difference.max() <= levels + 0.01


def test_a_format_that_the_browser_cannot_read_is_named_with_what_to_do(demo: Demo) -> None:
    heic = read_photo(demo, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))["error"]
    assert heic.startswith("HEIC, which this browser cannot read; save it as JPEG") and "iPhone" in heic
    assert read_photo(demo, encoded(COLORS, "TIFF"))["error"].startswith("TIFF, which this browser cannot read; save")


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
    demo.wait("document.getElementById('status').textContent.startsWith('Done')")
    assert demo.text("status") == "Done. No prompt has the word my style, so its embedding has no effect"


def test_the_browser_looks_up_no_name(browser: "Browser") -> None:
    """Not even one that needs no network; this computer's address it takes, and finds nobody there."""
    from playwright.sync_api import Error

    with socket.socket() as taken, browser.new_page() as page:
        taken.bind(("127.0.0.1", 0))  # and not listened to
        port = taken.getsockname()[1]
        for host, why in (("localhost", "NAME_NOT_RESOLVED"), ("127.0.0.1", "CONNECTION_REFUSED")):
            with pytest.raises(Error, match=f"net::ERR_{why}"):
                page.goto(f"http://{host}:{port}/")


def test_an_isolated_page_computes_the_same_with_threads(bundle_of: Bundles, browser: "Browser") -> None:
    with serving(bundle_of("pocket", "int8")) as url, browser.new_page() as page:
        workers = []
        page.on("request", lambda request: workers.append(request.url))
        page.goto(f"{url}verify.html?threads=2")
        page.locator("#status[data-done]").wait_for(timeout=120_000)
        assert page.evaluate("crossOriginIsolated")
        assert "all graphs agree" in (page.locator("#status").text_content() or "")
    assert workers.count(f"{url}onnxruntime-web/ort-wasm-simd-threaded.js") > 1  # each thread loads it
