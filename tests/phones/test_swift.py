"""What is of Swift's command line alone: its words, and the photos that it decodes on Linux."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.phones.apps import BUNDLE, App, learn
from tests.phones.learned import assert_pixels_are_pythons
from tests.phones.test_commands import assert_refused, id_of


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["personalize"], "--bundle is required"),
        (["personalize", "--bundl", "x"], "did you mean --bundle?"),
        (["verify", "--bundle"], "--bundle needs a value"),
        (["verify", "--bundle", "x", "--bundle", "y"], "--bundle is given twice"),
        (
            ["generate", "--bundle", BUNDLE, "--prompt", "x", "--output", "x.png", "--num_images", 0],
            "num_images is '0'",
        ),
    ],
    ids=id_of,
)
def test_a_wrong_command_is_one_line(arguments: Sequence[object], part: str, swift: App) -> None:
    assert part in swift.refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--max_train_steps", 0], "max_train_steps is '0'"),
        (["--initializer_token", "two words"], "makes 8 tokens"),
        (["--train_data_dir", "nowhere"], "nowhere does not exist"),
        (["--threads", 1000], "threads is '1000'"),
    ],
    ids=id_of,
)
def test_a_wrong_setting_is_one_line_and_writes_nothing(
    arguments: Sequence[object], part: str, swift: App, tmp_path: Path
) -> None:
    assert_refused(swift, arguments, part, tmp_path)


def test_a_folder_that_is_no_bundle_says_what_to_give(swift: App, tmp_path: Path) -> None:
    line = swift.refusal(*learn(tmp_path / "run", "--bundle", swift.tools))
    assert "give the folder that edge-sdk export has written" in line


@pytest.mark.parametrize("crop", [True, False], ids=["cropped", "squeezed"])
def test_photos_of_many_kinds_are_pythons_pixels(crop: bool, swift: App, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (21, 34, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "a_turned.png", exif=exif)
    rgb.convert("L").save(folder / "b_grey.png")
    rgb.quantize(16).save(folder / "c_palette.png")
    rgb.convert("1").save(folder / "d_black.png")
    rgb.save(folder / "e.jpg", quality=90)
    rgb.save(folder / "f_turned.jpg", quality=70, exif=exif, progressive=True)
    rgb.convert("L").save(folder / "g_grey.jpg")
    rgb.resize((13, 40)).save(folder / "h_tall.png")
    assert_pixels_are_pythons(swift, folder, 8, tmp_path / "run", crop)
